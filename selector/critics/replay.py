"""What a critic learns from: the newest observations, apart for every seed.

Shape legend: R seeds · K rows at a time · F numbers that describe a filled list.
"""

import torch
from torch import Tensor, nn


class ReplayBuffer(nn.Module):
    """A ring of rows: the newest take the place of the oldest. All of it is part of the state dict.

    Args:
        seeds: R.
        size: rows of each seed, >= 1.
        features: F.
    """

    rows: Tensor
    rewards: Tensor

    def __init__(self, seeds: int, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(seeds, size, features))
        self.register_buffer("rewards", torch.zeros(seeds, size))
        self.size = size
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.size)

    def add(self, rows: Tensor, rewards: Tensor) -> None:
        """Append ``rows [R, K, F]`` and their ``rewards [R, K]``, K at most the size."""
        at = (self.added + torch.arange(rows.shape[1], device=rows.device)) % self.size
        self.rows[:, at], self.rewards[:, at] = rows, rewards
        self.added += rows.shape[1]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``[R, K, F]`` and rewards ``[R, K]`` at ``index [R, K]``, each < ``len(self)``."""
        rows = self.rows.gather(1, index.unsqueeze(-1).expand(*index.shape, self.rows.shape[-1]))
        return rows, self.rewards.gather(1, index)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.added)  # checkpoints hold tensors alone

    def set_extra_state(self, state: Tensor) -> None:
        self.added = int(state)
