"""Networks: items -> logits, many seeds at once."""

from selector.networks.base import Network
from selector.networks.free_logits import FreeLogits
from selector.networks.mlp import MLP
from selector.networks.pointer import Pointer
from selector.networks.set_transformer import SetTransformer
from selector.networks.standardised import Standardised

__all__ = ["MLP", "FreeLogits", "Network", "Pointer", "SetTransformer", "Standardised"]
