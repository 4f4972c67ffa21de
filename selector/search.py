"""Search with the critic: change a choice slot by slot, keep what is better.

Shape legend: K starting points · W choices kept for each · V lists · S slots · N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selector.batch import Batch
from selector.choices import CHUNK, are_allowed, judge
from selector.critics import Critic
from selector.errors import InvalidInput, check_at_least


@dataclass(frozen=True)
class Search:
    """What may follow a network's choice where the critic is known and cheap: a search that starts there.

    The slots of which the network is least sure (by the margin of the best logit over the second best) are changed
    first.

    Args:
        sweeps: how often to go over all slots, >= 1; it ends earlier when a sweep changes nothing of what is kept.
        width: choices kept for every list, >= 1.

    Raises:
        InvalidInput: for values below 1.
    """

    sweeps: int = 2
    width: int = 4

    def __post_init__(self) -> None:
        check_at_least(1, sweeps=self.sweeps, width=self.width)

    def __call__(
        self, critic: Critic, batch: Batch, index: Tensor, logits: Tensor, without_replacement: bool = False
    ) -> Tensor:
        """A choice that is at least as good: ``index [V, S], logits [V, S, N] -> [V, S]``."""
        found, _ = coordinate_search(
            critic,
            batch,
            index.unsqueeze(0),
            sweeps=self.sweeps,
            width=self.width,
            order=margins(logits).argsort(-1),
            without_replacement=without_replacement,
        )
        return found[0]

    def check(self, critic: Critic, key: str = "search") -> None:
        """Refuse a critic that cannot be searched with.

        Args:
            critic: the critic.
            key: what a message names.

        Raises:
            InvalidInput: when it is an estimate.
        """
        if not critic.exact:
            because = f"must be left out: {critic.title} is an estimate, and a search finds what it errs about"
            raise InvalidInput(key, self.sweeps, because)

    def queries(self, S: int, N: int) -> int:
        """Losses of a list that the critic is asked for if no sweep is left out; the first slots have fewer to try."""
        kept, asked = 1, 1
        for _ in range(self.sweeps * S):
            asked += kept * N
            kept = min(self.width, kept * N)
        return asked


def margins(logits: Tensor) -> Tensor:
    """Best minus second-best logit: ``[*, S, N] -> [*, S]``; inf where only one is allowed."""
    if logits.shape[-1] == 1:
        return torch.full_like(logits[..., 0], float("inf"))
    best, second = logits.topk(2).values.unbind(-1)
    return best - second


@torch.no_grad()
def coordinate_search(
    critic: Critic,
    batch: Batch,
    index: Tensor,
    *,
    sweeps: int = 10,
    width: int = 1,
    order: Tensor | None = None,
    without_replacement: bool = False,
) -> tuple[Tensor, Tensor]:
    """Change one slot at a time to the item that is best beside the others, until no change helps.

    With ``width`` above 1 it is a beam search: of all changes to what is kept, the best ``width`` choices are kept.

    Args:
        critic: the loss.
        batch: V lists, ``items [V, N, D]``.
        index: ``[K, V, S]``, K allowed choices for every list to start from, each searched apart.
        sweeps: how often to go over all slots at most.
        width: different choices that are kept for every starting point and list.
        order: ``[V, S]``, in which order the slots are changed; None: from the first to the last.
        without_replacement: whether an item may be chosen for one slot only; a slot that takes another's item gives it
            its own.

    Returns:
        The best choices found, ``[K, V, S]``, and their losses ``[K, V]``: never worse than at the start.
    """
    S = index.shape[-1]
    if order is None:
        order = torch.arange(S, device=index.device).expand(index.shape[1], S)
    kept, losses = index.unsqueeze(0), _never_nan(judge(critic, batch, index)).unsqueeze(0)  # [W, K, V, S], [W, K, V]
    for _ in range(sweeps):
        before = losses
        for slot in order.unbind(-1):
            table = _losses_of_changes(critic, batch, kept, losses, slot, without_replacement)
            kept, losses = _best_changes(table, kept, slot, width, without_replacement)
        if torch.equal(losses, before):
            break
    return kept[0], losses[0]


def _losses_of_changes(critic: Critic, batch: Batch, kept: Tensor, losses: Tensor, slot: Tensor, trade: bool) -> Tensor:
    """The loss of every choice with every item in one slot; inf where that is not allowed.

    ``kept [W, K, V, S], losses [W, K, V], slot [V] -> [W, N, K, V]``.
    """
    W, K, V, S = kept.shape
    N, D = batch.items.shape[-2:]
    parts = []
    for items in torch.split(torch.arange(N, device=kept.device), max(1, CHUNK // (W * K * V * S * D))):
        shape = (W, len(items), K, V)
        changed = change(kept.unsqueeze(1).expand(*shape, S), slot, items.view(-1, 1, 1).expand(shape), trade)
        queries = changed.flatten(0, 2)
        part = _never_nan(judge(critic, batch, queries)).masked_fill(~are_allowed(batch, queries), float("inf"))
        parts.append(part.view(shape))
    # A choice keeps its loss to the last bit, or rounding would look like progress.
    own = kept.gather(-1, slot.expand(W, K, V).unsqueeze(-1)).movedim(-1, 1)  # [W, 1, K, V]
    return torch.cat(parts, 1).scatter(1, own, losses.unsqueeze(1))


def _never_nan(losses: Tensor) -> Tensor:
    """NaN as inf: the smallest of several numbers with a NaN among them is NaN."""
    return losses.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))


def _best_changes(table: Tensor, kept: Tensor, slot: Tensor, width: int, trade: bool) -> tuple[Tensor, Tensor]:
    """The best ``width`` different choices, the best first: ``[W, N, K, V] -> [W', K, V, S], [W', K, V]``."""
    W, N, K, V = table.shape
    chosen, losses = [], []
    for left in reversed(range(min(width, W * N))):
        loss, place = table.flatten(0, 1).min(0)  # [K, V]
        from_kept = kept.gather(0, (place // N)[None, ..., None].expand(1, *kept.shape[1:]))[0]
        choice = change(from_kept, slot, place % N, trade)
        chosen.append(choice)
        losses.append(loss)
        if left:  # the same choice may come from every other that is kept, by the same item
            item = choice.gather(-1, slot.expand(K, V).unsqueeze(-1)).squeeze(-1)
            same = (change(kept, slot, item.expand(W, K, V), trade) == choice).all(-1)
            at = item.expand(W, 1, K, V)
            table = table.scatter(1, at, table.gather(1, at).masked_fill(same.unsqueeze(1), float("inf")))
    return torch.stack(chosen), torch.stack(losses)


def change(index: Tensor, slot: Tensor, item: Tensor, trade: bool) -> Tensor:
    """Put another item into one slot: ``index [*, V, S], slot [V], item [*, V] -> [*, V, S]``.

    With ``trade`` the slot that held the item gets what the changed slot held.
    """
    place = slot.expand(index.shape[:-1]).unsqueeze(-1)
    if trade:
        index = torch.where(index == item.unsqueeze(-1), index.gather(-1, place), index)
    return index.scatter(-1, place, item.unsqueeze(-1))
