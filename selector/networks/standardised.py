"""A network that reads standardised items, while everyone else sees them as the user knows them."""

from torch import Tensor

from selector.batch import Batch
from selector.networks.base import Network
from selector.scaling import Scale


class Standardised(Network):
    """``inner`` reads what ``scale`` makes of the lists. Picks and critics keep to the original numbers.

    Args:
        inner: the network that learns.
        scale: mean and std, saved with the network and the same for all seeds.
    """

    def __init__(self, inner: Network, scale: Scale) -> None:
        super().__init__(inner.N, inner.S, inner.D, inner.seeds, inner.C)
        self.inner, self.scale = inner, scale
        self.any_N = inner.any_N

    @property
    def title(self) -> str:
        return self.inner.title

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.inner(self.scale(batch))
        return logits
