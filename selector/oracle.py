"""The best loss that any choice reaches, and the loss of choosing at random: the two ends of the regret scale.

Shape legend: Q critic queries · V lists · S slots · N items · D features per item.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import permutations
from math import perm
from typing import Literal

import torch
from torch import Tensor

from selector.assignment import assign
from selector.batch import Batch
from selector.choices import CHUNK, are_allowed, judge, random_choices
from selector.critics import Critic, SeparableCritic
from selector.noise import Noise
from selector.search import coordinate_search
from selector.selection import Selection

Kind = Literal["separable", "assignment", "enumerated", "best-known", "estimated"]

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


def _chunks(batch: Batch, row: int) -> Iterator[Batch]:
    V = batch.items.shape[0]
    size = max(1, CHUNK // row)
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
    size = max(1, CHUNK // (V * S * batch.items.shape[-1]))
    losses = torch.cat(
        [judge(critic, batch, part.unsqueeze(1).expand(-1, V, -1)) for part in torch.split(every, size)]
    ).T  # [V, choices]
    allowed = are_allowed(batch, every.unsqueeze(1).expand(-1, V, -1)).T
    mean = (losses * allowed).sum(-1) / allowed.sum(-1)
    best, row, unique = _best(losses.masked_fill(~allowed, float("inf")), mean)
    return Oracle("enumerated", best, mean, every[row], unique.unsqueeze(-1).expand(V, S))


def _best(losses: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum over the last dim, where it is, and whether it is the only one."""
    if losses.shape[-1] == 1:
        zeros = torch.zeros_like(mean, dtype=torch.int64)
        return losses.squeeze(-1), zeros, torch.ones_like(zeros, dtype=torch.bool)
    two, where = losses.topk(2, dim=-1, largest=False)
    best = two[..., 0]
    return best, where[..., 0], two[..., 1] - best > _TIE * (mean - best)


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
