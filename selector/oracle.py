"""The best loss that any choice reaches, and the loss of choosing at random: the two ends of the regret scale.

Shape legend: Q critic queries · V lists · S slots · N items · D features per item.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import Critic, SeparableCritic
from selector.noise import Noise
from selector.selection import Selection

Kind = Literal["separable", "enumerated", "best-known"]

# Filled-slot values (Q·V·S·D) that one chunk of a search may hold: 16 MiB of float32, small enough for most caches'
# neighbourhood and large enough to hide the cost of a call.
_CHUNK = 2**22
_TIE = 1e-6  # share of (random − best) below which two losses count as a tie: float32 sums in another order differ


@dataclass(frozen=True)
class Oracle:
    """What is known about the best choice of every list.

    Attributes:
        kind: "separable" and "enumerated" are exact; "best-known" is the best of a coordinate search with restarts,
            an upper bound of the true optimum.
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
        return self.kind != "best-known"

    def reshape(self, *lead: int) -> "Oracle":
        """The same oracle with other leading dims of equal size: ``[V, …] -> [*lead, …]``."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "kind"}
        return Oracle(kind=self.kind, **{k: t.reshape(*lead, *t.shape[1:]) for k, t in tensors.items()})


def oracle_kind(critic: Critic, N: int, S: int, max_enumeration: int) -> Kind:
    """Which oracle a problem of this size gets."""
    if isinstance(critic, SeparableCritic):
        return "separable"
    return "best-known" if max_enumeration < N**S else "enumerated"


@torch.no_grad()
def find_oracle(
    critic: Critic, batch: Batch, S: int, *, max_enumeration: int, restarts: int = 8, sweeps: int = 10
) -> Oracle:
    """Find the best choice for every list.

    Args:
        critic: the loss.
        batch: V lists, ``items [V, N, D]``.
        S: number of slots.
        max_enumeration: the largest N^S that is enumerated.
        restarts: random starting points of the coordinate search.
        sweeps: how often the coordinate search may go over all slots.

    Returns:
        An oracle with leading dim V.
    """
    N = batch.items.shape[-2]
    kind = oracle_kind(critic, N, S, max_enumeration)
    queries = {"separable": 1, "enumerated": N**S, "best-known": restarts * N}[kind]
    row = queries * S * batch.items.shape[-1] * (N if kind == "separable" else 1)
    parts = []
    for chunk in _chunks(batch, row):
        if isinstance(critic, SeparableCritic):
            parts.append(_separable(critic, chunk, S))
        elif kind == "enumerated":
            parts.append(_enumerated(critic, chunk, S))
        else:
            parts.append(_searched(critic, chunk, S, restarts, sweeps))
    if len(parts) == 1:
        return parts[0]
    tensors = [f.name for f in fields(Oracle) if f.name != "kind"]
    return Oracle(kind=kind, **{name: torch.cat([getattr(part, name) for part in parts]) for name in tensors})


def judge(critic: Critic, batch: Batch, index: Tensor) -> Tensor:
    """The loss of hard choices: ``index [Q, *, S] -> [Q, *]``."""
    losses: Tensor = critic(Selection(index=index).pick(batch.items), batch)
    return losses


def _chunks(batch: Batch, row: int) -> Iterator[Batch]:
    V = batch.items.shape[0]
    size = max(1, _CHUNK // row)
    for start in range(0, V, size):
        yield batch.narrow(start, min(size, V - start))


def _separable(critic: SeparableCritic, batch: Batch, S: int) -> Oracle:
    table = critic.table(batch.items, S)  # [V, S, N]
    mean = table.mean(-1)
    best, index, unique = _best(table, mean)
    return Oracle("separable", best.sum(-1), mean.sum(-1), index, unique)


def _enumerated(critic: Critic, batch: Batch, S: int) -> Oracle:
    V, N, _ = batch.items.shape
    device = batch.items.device
    every = torch.cartesian_prod(*[torch.arange(N, device=device)] * S).reshape(-1, S)  # [N^S, S]
    size = max(1, _CHUNK // (V * S * batch.items.shape[-1]))
    losses = torch.cat(
        [judge(critic, batch, part.unsqueeze(1).expand(-1, V, -1)) for part in torch.split(every, size)]
    ).T  # [V, N^S]
    mean = losses.mean(-1)
    best, row, unique = _best(losses, mean)
    return Oracle("enumerated", best, mean, every[row], unique.unsqueeze(-1).expand(V, S))


def _best(losses: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum over the last dim, where it is, and whether it is the only one."""
    if losses.shape[-1] == 1:
        return losses.squeeze(-1), losses.new_zeros(mean.shape, dtype=torch.int64), torch.ones_like(mean).bool()
    two, where = losses.topk(2, dim=-1, largest=False)
    best = two[..., 0]
    return best, where[..., 0], two[..., 1] - best > _TIE * (mean - best)


def _searched(critic: Critic, batch: Batch, S: int, restarts: int, sweeps: int) -> Oracle:
    V, N, _ = batch.items.shape
    # A fixed stream: the oracle of a list is a property of the problem, not of a run.
    noise = Noise(0, "oracle", batch.items.device)
    index = noise.integers(N, [restarts, V, S])
    random_loss = torch.cat([judge(critic, batch, noise.integers(N, [restarts, V, S])) for _ in range(8)]).mean(0)
    loss = judge(critic, batch, index)  # [restarts, V]
    for _ in range(sweeps):
        before = loss
        for s in range(S):
            candidates = index.unsqueeze(1).repeat(1, N, 1, 1)  # [restarts, N, V, S]
            candidates[..., s] = torch.arange(N, device=index.device)[:, None]
            losses = judge(critic, batch, candidates.flatten(0, 1)).view(restarts, N, V)
            found, item = losses.min(1)
            better = found < loss
            index[..., s] = torch.where(better, item, index[..., s])
            loss = torch.where(better, found, loss)
        if torch.equal(loss, before):
            break
    best, winner = loss.min(0)
    index = index.gather(0, winner[None, :, None].expand(1, V, S))[0]
    return Oracle("best-known", best, random_loss, index, torch.zeros_like(index, dtype=torch.bool))
