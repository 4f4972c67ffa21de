"""What a black box is asked in training: every observation with noise, of a stream of its seed alone.

Shape legend: Q critic queries · R seeds trained side by side · K lists · S slots · D features per item.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.black_box import finite, to_numpy
from selector.noise import derive_seed
from selector.rewards.base import Reward


class Questions:
    """Asks for rewards as they are seen, never for expected ones.

    Args:
        reward: the black box.
        seeds: the R seeds.

    Attributes:
        asked: calls for each seed so far; all that a continuation needs.
        rank: of this process, where several train the same seeds on parts of a batch.
    """

    def __init__(self, reward: Reward, seeds: Sequence[int]) -> None:
        self.reward, self.seeds = reward, tuple(seeds)
        self.asked = self.rank = 0

    @torch.no_grad()
    def rewards(self, slots: Tensor, batch: Batch) -> Tensor:
        """Observed rewards ``[Q, R, K]`` of ``slots [Q, R, K, S, D]``.

        Raises:
            FloatingPointError: when one is not finite.
        """
        Q, R, K = slots.shape[:3]
        rows, context = to_numpy(slots, batch)
        rows = rows.reshape(Q, R, K, *rows.shape[1:])
        seen = []
        for r, seed in enumerate(self.seeds):
            # Made anew from a counter, so that a checkpoint needs no state of numpy's.
            key = [derive_seed(seed, "reward"), self.asked, *([self.rank] if self.rank else [])]
            mine = rows[:, r].reshape(Q * K, *rows.shape[3:])
            about = None if context is None else context.reshape(Q, R, K, -1)[:, r].reshape(Q * K, -1)
            rewards = finite(self.reward, self.reward.observe(mine, about, np.random.default_rng(key)))
            seen.append(rewards.reshape(Q, K))
        self.asked += 1
        return torch.from_numpy(np.stack(seen, 1)).to(slots)

    def __call__(self, slots: Tensor, batch: Batch) -> Tensor:
        """The losses, minus :meth:`rewards`: what a strategy that needs no gradient is trained on."""
        return -self.rewards(slots, batch)
