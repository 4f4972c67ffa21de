"""A problem: where item lists come from, how choices are judged, and how large it is."""

from dataclasses import replace

from torch import Tensor, nn

from selector.assignment import assign
from selector.batch import Batch
from selector.critics import Critic
from selector.errors import InvalidInput, check_at_least, check_choice
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
        C: features of a list as a whole, >= 0, which network and critic see; drawn standard normal where the source of
            items brings none.
        max_enumeration: the largest N^S for which the oracle tries every choice; beyond it the oracle of a critic
            that couples slots is the best found by a coordinate search.
        eligible: probability that an item is allowed, in (0, 1]; drawn anew for every list. At least one item (S of
            them without replacement) is always allowed.
        eligible_per: "list": an item is allowed for all slots or for none; "slot": drawn for every slot apart.
        without_replacement: an item may fill one slot only. Needs a strategy that respects it.

    Raises:
        InvalidInput: for sizes out of range, for more slots than items without replacement, and for masks per slot
            without replacement (whether they leave every slot an item is not known before they are drawn).
    """

    def __init__(
        self,
        items: Items,
        critic: Critic,
        *,
        N: int,
        S: int,
        D: int = 1,
        C: int = 0,
        max_enumeration: int = 65_536,
        eligible: float = 1.0,
        eligible_per: str = "list",
        without_replacement: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, N=N, S=S, D=D, max_enumeration=max_enumeration)
        check_at_least(0, C=C)
        if not 0 < eligible <= 1:
            raise InvalidInput("eligible", eligible, "must be a probability in (0, 1]")
        check_choice(["list", "slot"], eligible_per=eligible_per)
        if without_replacement and S > N:
            raise InvalidInput("S", S, f"must be <= N ({N}) without replacement")
        if without_replacement and items.fewest is not None and items.fewest < S:
            raise InvalidInput(
                "S", S, f"must be <= {items.fewest}, the items of the shortest list, without replacement"
            )
        if without_replacement and eligible < 1 and eligible_per == "slot":
            raise InvalidInput("eligible_per", eligible_per, "must be list when without_replacement is true")
        self.items, self.critic = items, critic
        self.N, self.S, self.D, self.C, self.max_enumeration = N, S, D, C, max_enumeration
        self.eligible, self.eligible_per, self.without_replacement = eligible, eligible_per, without_replacement
        critic.requires_grad_(False)  # the selector learns, its judge does not

    def sample(self, lead: tuple[int, ...], noise: Noise) -> Batch:
        """Fresh lists ``[*lead, N, D]`` on the device of ``noise``, with a mask if not every item is eligible."""
        return self._judged(self.items.sample((*lead, self.N, self.D), noise), noise)

    def held_out(self, lists: int, noise: Noise) -> Batch:
        """Lists to measure with, ``[V, N, D]``: never trained on, V <= ``lists``. Otherwise as :meth:`sample`."""
        return self._judged(self.items.held_out((lists, self.N, self.D), noise), noise)

    def _judged(self, batch: Batch, noise: Noise) -> Batch:
        """Lists from the source with what the problem adds: context where the source has none, and eligibility."""
        lead = batch.items.shape[:-2]
        if self.C and batch.context is None:
            batch = replace(batch, context=noise.normal((*lead, self.C)))
        there = 0 if batch.context is None else batch.context.shape[-1]
        if there != self.C:
            raise InvalidInput("C", self.C, f"must be {there}: that many features of a list come with its items")
        if self.eligible == 1:
            return batch
        slots = self.S if self.eligible_per == "slot" else 1
        luck = noise.uniform((*lead, slots, self.N))
        if batch.mask is not None:  # an item that is not there has no luck
            luck = luck.masked_fill(~batch.mask, 2.0)
        # The luckiest items are always allowed: as many as a choice needs.
        needed = luck.kthvalue(self.S if self.without_replacement else 1, dim=-1, keepdim=True).values
        return replace(batch, mask=(luck < self.eligible) | (luck <= needed))

    def oracle(self, batch: Batch) -> Oracle:
        """The best choice of every list, with the leading dims of ``batch``."""
        lead = batch.items.shape[:-2]
        oracle = find_oracle(
            self.critic,
            batch.reshape(-1),
            self.S,
            max_enumeration=self.max_enumeration,
            without_replacement=self.without_replacement,
        )
        return oracle.reshape(*lead)

    def choose(self, logits: Tensor) -> Tensor:
        """The noise-free choice that evaluation counts: ``[*, S, N] -> [*, S]``.

        The argmax of every slot; without replacement the assignment with the largest sum of logits.
        """
        return assign(logits) if self.without_replacement else logits.argmax(-1)

    @property
    def oracle_kind(self) -> Kind:
        """Which oracle this problem has: all are exact but "best-known" and "estimated"."""
        return oracle_kind(self.critic, self.N, self.S, self.max_enumeration, self.without_replacement)
