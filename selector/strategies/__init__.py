"""Selection strategies (gradient estimators), one file per family."""

from selector.strategies.base import Strategy
from selector.strategies.softmax import GumbelSoftmax, Softmax
from selector.strategies.straight_through import STArgmax, STGumbel, STIdentity, STSampled
from selector.strategies.supervised import Supervised
from selector.strategies.without_replacement import STGumbelSequential

__all__ = [
    "GumbelSoftmax",
    "STArgmax",
    "STGumbel",
    "STGumbelSequential",
    "STIdentity",
    "STSampled",
    "Softmax",
    "Strategy",
    "Supervised",
]
