"""A problem: where item lists come from, how choices are judged, and how large it is."""

from torch import nn

from selector.batch import Batch
from selector.critics import Critic
from selector.errors import check_at_least
from selector.items import Items
from selector.noise import Noise
from selector.oracle import Kind, Oracle, find_oracle, oracle_kind


class Problem(nn.Module):
    """Put one of N items into each of S slots so that the critic's loss is small.

    Args:
        items: draws item lists.
        critic: judges filled slots.
        N: items in a list, >= 1.
        S: slots, >= 1.
        D: features of an item, >= 1.
        max_enumeration: the largest N^S for which the oracle tries every choice; beyond it the oracle of a critic
            that couples slots is the best found by a coordinate search.

    Raises:
        InvalidInput: for sizes below 1.
    """

    def __init__(
        self, items: Items, critic: Critic, *, N: int, S: int, D: int = 1, max_enumeration: int = 65_536
    ) -> None:
        super().__init__()
        check_at_least(1, N=N, S=S, D=D, max_enumeration=max_enumeration)
        self.items, self.critic = items, critic
        self.N, self.S, self.D, self.max_enumeration = N, S, D, max_enumeration
        critic.requires_grad_(False)  # the selector learns, its judge does not

    def sample(self, lead: tuple[int, ...], noise: Noise) -> Batch:
        """Fresh lists ``[*lead, N, D]`` on the device of ``noise``."""
        return Batch(self.items.sample((*lead, self.N, self.D), noise))

    def oracle(self, batch: Batch) -> Oracle:
        """The best choice of every list, with the leading dims of ``batch``."""
        lead = batch.items.shape[:-2]
        flat = Batch(batch.items.reshape(-1, *batch.items.shape[-2:]))
        return find_oracle(self.critic, flat, self.S, max_enumeration=self.max_enumeration).reshape(*lead)

    @property
    def oracle_kind(self) -> Kind:
        """Which oracle this problem has: "separable" and "enumerated" are exact, "best-known" is not."""
        return oracle_kind(self.critic, self.N, self.S, self.max_enumeration)
