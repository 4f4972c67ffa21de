"""The best loss that any choice reaches, and the loss of choosing at random: the two ends of the regret scale.

Shape legend: Q critic queries · V lists · S slots · N items · D features per item.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations, permutations
from math import perm
from typing import Literal

import torch
from torch import Tensor

from selector.assignment import assign
from selector.batch import Batch
from selector.critics import Critic, SeparableCritic
from selector.noise import Noise
from selector.selection import Selection

Kind = Literal["separable", "assignment", "enumerated", "best-known", "estimated"]

# Filled-slot values (Q·V·S·D) that one chunk of a search may hold: 16 MiB of float32, small enough for most caches'
# neighbourhood and large enough to hide the cost of a call.
_CHUNK = 2**22
_TIE = 1e-6  # share of (random − best) below which two losses count as a tie: float32 sums in another order differ


@dataclass(frozen=True)
class Oracle:
    """What is known about the best choice of every list.

    Attributes:
        kind: "separable", "assignment" (separable without replacement) and "enumerated" are exact; "best-known" is
            the best of a coordinate search with restarts, an upper bound of the true optimum; "estimated" is the same
            search where the critic itself is an estimate, and ``loss`` another estimate of what was found.
        loss: ``[V]``, the best loss.
        random_loss: ``[V]``, the expected loss of uniformly random choices (exact, or a mean over draws if best-known).
        index: ``[V, S]`` int64, a choice that reaches ``loss``.
        unique: ``[V, S]`` bool, where that choice is the only one (False throughout if best-known).
    """

    kind: Kind
    loss: Tensor
    random_loss: Tensor
    index: Tensor
    unique: Tensor

    @property
    def exact(self) -> bool:
        """Whether ``loss`` is the true optimum."""
        return self.kind not in ("best-known", "estimated")

    def reshape(self, *lead: int) -> "Oracle":
        """The same oracle with other leading dims of equal size: ``[V, …] -> [*lead, …]``."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "kind"}
        return Oracle(kind=self.kind, **{k: t.reshape(*lead, *t.shape[1:]) for k, t in tensors.items()})


def oracle_kind(critic: Critic, N: int, S: int, max_enumeration: int, without_replacement: bool = False) -> Kind:
    """Which oracle a problem of this size gets."""
    if isinstance(critic, SeparableCritic):
        return "assignment" if without_replacement else "separable"
    choices = perm(N, S) if without_replacement else N**S
    if not critic.exact:
        return "estimated"
    return "best-known" if choices > max_enumeration else "enumerated"


@torch.no_grad()
def find_oracle(
    critic: Critic,
    batch: Batch,
    S: int,
    *,
    max_enumeration: int,
    without_replacement: bool = False,
    restarts: int = 8,
    sweeps: int = 10,
) -> Oracle:
    """Find the best choice for every list.

    Args:
        critic: the loss.
        batch: V lists, ``items [V, N, D]``; masked items are never part of the best or of a random choice.
        S: number of slots.
        max_enumeration: the largest N^S that is enumerated.
        without_replacement: whether an item may be chosen for one slot only.
        restarts: random starting points of the coordinate search.
        sweeps: how often the coordinate search may go over all slots.

    Returns:
        An oracle with leading dim V.
    """
    N = batch.items.shape[-2]
    kind = oracle_kind(critic, N, S, max_enumeration, without_replacement)
    choices = perm(N, S) if without_replacement else N**S
    queries = {
        "separable": N,
        "assignment": N,
        "enumerated": choices,
        "best-known": restarts * N,
        "estimated": restarts * N,
    }[kind]
    parts = []
    for chunk in _chunks(batch, queries * S * batch.items.shape[-1]):
        if isinstance(critic, SeparableCritic):
            parts.append(_separable(critic, chunk, S, without_replacement))
        elif kind == "enumerated":
            parts.append(_enumerated(critic, chunk, S, without_replacement))
        else:
            parts.append(_searched(critic, chunk, S, restarts, sweeps, without_replacement))
    tensors = [f.name for f in fields(Oracle) if f.name != "kind"]
    found = Oracle(kind=kind, **{name: torch.cat([getattr(part, name) for part in parts]) for name in tensors})
    if kind != "estimated":
        return found
    # The lowest of many estimates was lucky with its noise (the winner's curse): what was found is judged again.
    picked = Selection(index=found.index.unsqueeze(0)).pick(batch.items)
    return replace(found, loss=critic.measure(picked, batch)[0])


def judge(critic: Critic, batch: Batch, index: Tensor) -> Tensor:
    """The loss of hard choices: ``index [Q, *, S] -> [Q, *]``."""
    losses: Tensor = critic(Selection(index=index).pick(batch.items), batch)
    return losses


def _chunks(batch: Batch, row: int) -> Iterator[Batch]:
    V = batch.items.shape[0]
    size = max(1, _CHUNK // row)
    for start in range(0, V, size):
        yield batch.narrow(start, min(size, V - start))


def _separable(critic: SeparableCritic, batch: Batch, S: int, without_replacement: bool) -> Oracle:
    allowed = batch.masked(torch.zeros(batch.items.shape[0], S, batch.items.shape[1], device=batch.items.device)) == 0
    table = critic.table(batch.items, S)  # [V, S, N]
    mean = (table * allowed).sum(-1) / allowed.sum(-1)
    table = table.masked_fill(~allowed, float("inf"))
    if not without_replacement:
        best, index, unique = _best(table, mean)
        return Oracle("separable", best.sum(-1), mean.sum(-1), index, unique)
    index = assign(-table)
    best = table.gather(-1, index.unsqueeze(-1)).squeeze(-1).sum(-1)
    # Every slot's item alone is uniform when items are drawn without replacement, so the mean is that of each slot.
    # Whether another assignment is as good is not known, so none is called unique.
    return Oracle("assignment", best, mean.sum(-1), index, torch.zeros_like(index, dtype=torch.bool))


def _enumerated(critic: Critic, batch: Batch, S: int, without_replacement: bool) -> Oracle:
    V, N, _ = batch.items.shape
    device = batch.items.device
    if without_replacement:
        every = torch.tensor(list(permutations(range(N), S)), device=device)  # [N!/(N − S)!, S]
    else:
        every = torch.cartesian_prod(*[torch.arange(N, device=device)] * S).reshape(-1, S)  # [N^S, S]
    size = max(1, _CHUNK // (V * S * batch.items.shape[-1]))
    losses = torch.cat(
        [judge(critic, batch, part.unsqueeze(1).expand(-1, V, -1)) for part in torch.split(every, size)]
    ).T  # [V, choices]
    allowed = _allowed(batch, every.unsqueeze(1).expand(-1, V, -1)).T
    mean = (losses * allowed).sum(-1) / allowed.sum(-1)
    best, row, unique = _best(losses.masked_fill(~allowed, float("inf")), mean)
    return Oracle("enumerated", best, mean, every[row], unique.unsqueeze(-1).expand(V, S))


def _allowed(batch: Batch, index: Tensor) -> Tensor:
    """Whether every pick of ``index [Q, V, S]`` is allowed: ``[Q, V]``."""
    if batch.mask is None:
        return torch.ones(index.shape[:-1], dtype=torch.bool, device=index.device)
    mask = batch.mask.expand(-1, index.shape[-1], -1)  # [V, S, N]
    return mask.expand(index.shape[0], *mask.shape).gather(-1, index.unsqueeze(-1)).squeeze(-1).all(-1)


def _distinct(index: Tensor) -> Tensor:
    """Whether no item is picked twice: ``[*, S] -> [*]``."""
    ordered = index.sort(-1).values
    return (ordered[..., 1:] != ordered[..., :-1]).all(-1)


def _best(losses: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum over the last dim, where it is, and whether it is the only one."""
    if losses.shape[-1] == 1:
        zeros = torch.zeros_like(mean, dtype=torch.int64)
        return losses.squeeze(-1), zeros, torch.ones_like(zeros, dtype=torch.bool)
    two, where = losses.topk(2, dim=-1, largest=False)
    best = two[..., 0]
    return best, where[..., 0], two[..., 1] - best > _TIE * (mean - best)


def random_choices(batch: Batch, S: int, draws: int, noise: Noise, without_replacement: bool) -> Tensor:
    """Uniformly random allowed choices: ``[draws, V, S]``.

    Without replacement the slots choose in turn; a slot whose allowed items are all taken cannot choose (see
    :class:`selector.problems.Problem`, which allows masks without replacement only where they are equal for all slots).
    """
    V, N, _ = batch.items.shape
    scores = batch.masked(noise.uniform([V, S, N], draws=draws))
    if not without_replacement:
        return scores.argmax(-1)
    # One random order of the items: its first S are a uniform draw without replacement.
    return batch.masked(noise.uniform([V, 1, N], draws=draws)).squeeze(-2).topk(S, dim=-1).indices


def _searched(critic: Critic, batch: Batch, S: int, restarts: int, sweeps: int, without_replacement: bool) -> Oracle:
    V = batch.items.shape[0]
    # A fixed stream: the oracle of a list is a property of the problem, not of a run.
    noise = Noise(0, "oracle", batch.items.device)
    index = random_choices(batch, S, restarts, noise, without_replacement)
    random_loss = torch.cat(
        [judge(critic, batch, random_choices(batch, S, restarts, noise, without_replacement)) for _ in range(8)]
    ).mean(0)
    index, loss = coordinate_search(critic, batch, index, sweeps=sweeps, without_replacement=without_replacement)
    best, winner = loss.min(0)
    index = index.gather(0, winner[None, :, None].expand(1, V, S))[0]
    return Oracle("best-known", best, random_loss, index, torch.zeros_like(index, dtype=torch.bool))


@torch.no_grad()
def coordinate_search(
    critic: Critic, batch: Batch, index: Tensor, *, sweeps: int = 10, without_replacement: bool = False
) -> tuple[Tensor, Tensor]:
    """Change one slot at a time to the item that is best beside the others, until no change helps.

    Args:
        critic: the loss.
        batch: V lists, ``items [V, N, D]``.
        index: ``[K, V, S]``, K allowed choices for every list to start from.
        sweeps: how often to go over all slots at most.
        without_replacement: whether an item may be chosen for one slot only; two slots may then also trade theirs.

    Returns:
        The choices found, ``[K, V, S]``, and their losses ``[K, V]``: never worse than at the start.
    """
    K, V, S = index.shape
    N, index = batch.items.shape[-2], index.clone()
    size = max(1, _CHUNK // (K * V * S * batch.items.shape[-1]))
    loss = judge(critic, batch, index)  # [K, V]
    for _ in range(sweeps):
        before = loss
        for s in range(S):
            fixed = index.clone()  # parts of the items are compared with the best so far, all beside the same others
            for items in torch.split(torch.arange(N, device=index.device), size):
                candidates = fixed.unsqueeze(1).repeat(1, len(items), 1, 1)  # [K, part of N, V, S]
                candidates[..., s] = items[:, None]
                candidates = candidates.flatten(0, 1)
                allowed = _allowed(batch, candidates)
                if without_replacement:
                    allowed = allowed & _distinct(candidates)
                losses = judge(critic, batch, candidates).masked_fill(~allowed, float("inf")).view(K, -1, V)
                found, item = losses.min(1)
                better = found < loss
                index[..., s] = torch.where(better, items[item], index[..., s])
                loss = torch.where(better, found, loss)
        # Without replacement a slot alone may have no free item to move to; two slots can always trade theirs.
        for s, t in combinations(range(S), 2) if without_replacement else ():
            traded = index.clone()
            traded[..., s], traded[..., t] = index[..., t], index[..., s]
            found = judge(critic, batch, traded)
            better = found < loss
            index = torch.where(better.unsqueeze(-1), traded, index)
            loss = torch.where(better, found, loss)
        if torch.equal(loss, before):
            break
    return index, loss
