"""Hard choices of items for the slots: what they cost, which are allowed, and random ones.

Shape legend: Q critic queries · `*` any leading dims · V lists · S slots · N items.
"""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import Critic
from selector.noise import Noise
from selector.selection import Selection

# Filled-slot values (Q·V·S·D) that one chunk of a search may hold: 16 MiB of float32, small enough for most caches'
# neighbourhood and large enough to hide the cost of a call.
CHUNK = 2**22


def judge(critic: Critic, batch: Batch, index: Tensor) -> Tensor:
    """The loss of hard choices: ``index [Q, *, S] -> [Q, *]``."""
    losses: Tensor = critic(Selection(index=index).pick(batch.items), batch)
    return losses


def are_allowed(batch: Batch, index: Tensor) -> Tensor:
    """Whether every pick of ``index [Q, V, S]`` is allowed: ``[Q, V]``."""
    if batch.mask is None:
        return torch.ones(index.shape[:-1], dtype=torch.bool, device=index.device)
    mask = batch.mask.expand(-1, index.shape[-1], -1)  # [V, S, N]
    return mask.expand(index.shape[0], *mask.shape).gather(-1, index.unsqueeze(-1)).squeeze(-1).all(-1)


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
