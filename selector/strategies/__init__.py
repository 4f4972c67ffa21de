"""Selection strategies (gradient estimators), one file per family."""

from selector.strategies.base import Strategy
from selector.strategies.control_variate import Rebar, Relax
from selector.strategies.entmax import EntmaxST
from selector.strategies.enumeration import Exact, LocalExpectation
from selector.strategies.gst import GST
from selector.strategies.gumbel_rao import GumbelRao, ReinMaxRao
from selector.strategies.reinmax import ReinMax
from selector.strategies.score_function import RLOO, Reinforce
from selector.strategies.softmax import GumbelSoftmax, Softmax
from selector.strategies.straight_through import DecoupledST, STArgmax, STGumbel, STIdentity, STSampled
from selector.strategies.supervised import Supervised
from selector.strategies.without_replacement import STGumbelSequential

__all__ = [
    "GST",
    "RLOO",
    "DecoupledST",
    "EntmaxST",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "LocalExpectation",
    "Rebar",
    "ReinMax",
    "ReinMaxRao",
    "Reinforce",
    "Relax",
    "STArgmax",
    "STGumbel",
    "STGumbelSequential",
    "STIdentity",
    "STSampled",
    "Softmax",
    "Strategy",
    "Supervised",
]
