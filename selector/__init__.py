"""Train networks that pick one of N items for each of S slots, and compare the gradient estimators that make it work.

Names are loaded when they are first used: ``import selector`` itself does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selector.critics import Critic as Critic
    from selector.critics import SeparableCritic as SeparableCritic
    from selector.networks import MLP as MLP
    from selector.networks import Network as Network
    from selector.networks import Pointer as Pointer
    from selector.problems import Problem as Problem
    from selector.search import Search as Search
    from selector.selection import Selection as Selection
    from selector.strategies import Strategy as Strategy
    from selector.trained import Picks as Picks
    from selector.trained import Selector as Selector
    from selector.trained import load as load
    from selector.training import Result as Result
    from selector.training import fit as fit

__version__ = "0.1.0"

_HOME = {
    "Critic": "critics",
    "MLP": "networks",
    "Network": "networks",
    "Picks": "trained",
    "Pointer": "networks",
    "Problem": "problems",
    "Result": "training",
    "Search": "search",
    "Selection": "selection",
    "Selector": "trained",
    "SeparableCritic": "critics",
    "Strategy": "strategies",
    "fit": "training",
    "load": "trained",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"selector.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'selector' has no attribute {name!r}")
