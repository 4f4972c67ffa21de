"""A critic that is learned from rewards.

Shape legend: Q critic queries · R seeds trained side by side · E members of the ensemble · K lists · `*` any leading
dims · S slots · D features per item · C features per list · F = S·D + C.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.critics.replay import ReplayBuffer
from selector.errors import InvalidInput, check_at_least, check_positive
from selector.networks.base import StackedMLP
from selector.noise import SeedNoise, derive_seed


class LearnedCritic(Critic):
    """An ensemble of MLPs that predict the reward of filled slots: R seeds of it, each with data of its own.

    The selector is trained through the *target* ensemble, a moving average of the one that learns. Its loss is minus
    the members' mean reward, plus ``pessimism`` times their standard deviation: a choice that only some of them praise
    is not trusted. How it learns is :class:`selector.actor_critic.ActorCritic`'s business.

    Args:
        S: slots.
        D: features per item.
        C: features per list.
        seeds: the R seeds.
        width: hidden units of a layer.
        depth: hidden layers.
        activation: relu, gelu, silu or tanh.
        members: E, >= 1.
        pessimism: >= 0.
        lr: learning rate of Adam, > 0.
        weight_decay: >= 0.
        rows: rows of the buffer that a member sees in an update.
        updates: updates for every selector step; 0: none after the warm-up.
        observations: picks of every selector step whose reward is asked; 0: none after the warm-up.
        explore: share of them that are uniformly random choices, in [0, 1]; the others are drawn from softmax(l).
        buffer: observations of each seed that are remembered.
        warmup: uniformly random choices whose reward is asked before the selector's first step, beside a table's.
        warmup_updates: updates before the selector's first step.
        target_decay: share of the target ensemble that stays at every update, in [0, 1).
        table: a file of past picks and rewards, which the buffer begins with; see
            :func:`selector.critics.table.read_table`.

    Raises:
        InvalidInput: for values out of range, and for a table that cannot be read.

    References:
        Actor-critic with replay and target networks: Lillicrap et al., 2015, arXiv 1509.02971. Pessimistic ensembles:
        Fujimoto et al., 2018, arXiv 1802.09477; An et al., 2021, arXiv 2110.01548.
    """

    in_mean: Tensor
    in_std: Tensor
    out_mean: Tensor
    out_std: Tensor
    table: tuple[Tensor, Tensor] | None
    checksum: int | None

    def __init__(
        self,
        S: int,
        D: int,
        C: int = 0,
        seeds: Sequence[int] = (0,),
        width: int = 128,
        depth: int = 2,
        activation: str = "silu",
        members: int = 2,
        pessimism: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        rows: int = 256,
        updates: int = 1,
        observations: int = 64,
        explore: float = 0.25,
        buffer: int = 16_384,
        warmup: int = 1024,
        warmup_updates: int = 300,
        target_decay: float = 0.98,
        table: str | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, members=members, rows=rows, buffer=buffer)
        check_at_least(0, pessimism=pessimism, weight_decay=weight_decay, updates=updates, observations=observations)
        check_at_least(0, warmup=warmup, warmup_updates=warmup_updates)
        check_positive(lr=lr)
        for key, share in (("explore", explore), ("target_decay", target_decay)):
            if not 0 <= share <= 1 or (key == "target_decay" and share == 1):
                raise InvalidInput(key, share, "must be >= 0 and " + ("< 1" if key == "target_decay" else "<= 1"))
        if members == 1 and pessimism:
            raise InvalidInput("pessimism", pessimism, "must be 0 with members=1: one network disagrees with nobody")
        self.table, self.checksum, past = None, None, 0
        if table is not None and table != MISSING:
            from selector.critics.table import read_table

            self.table = read_table(Path(table), S, D, C)
            past = len(self.table[1])
            self.checksum = zlib.crc32(self.table[1].numpy().tobytes(), zlib.crc32(self.table[0].numpy().tobytes()))
        elif warmup == 0:
            raise InvalidInput(
                "table", None, "is missing: past picks and rewards (critic.table=past.npz); or warmup >= 2"
            )
        elif warmup < 2:
            raise InvalidInput("warmup", warmup, "must be >= 2: a critic that has seen nothing misleads")
        least = max(past + warmup, observations)
        if least > buffer:
            because = "the table's rows and warmup" if past else "warmup and observations"
            raise InvalidInput("buffer", buffer, f"must be >= {because} ({least})")
        self.seeds, self.members, self.pessimism = tuple(seeds), members, pessimism
        self.lr, self.weight_decay, self.rows, self.updates = lr, weight_decay, rows, updates
        self.observations, self.explore, self.warmup = observations, explore, warmup
        self.warmup_updates, self.target_decay = warmup_updates, target_decay
        R, F = len(self.seeds), S * D + C
        streams = [derive_seed(seed, f"critic/{e}") for seed in self.seeds for e in range(members)]
        self.online, self.target = (
            StackedMLP(
                SeedNoise(streams, "init"),
                R * members,
                F,
                1,
                width=width,
                depth=depth,
                activation=activation,
                norm="none",
            )
            for _ in range(2)
        )
        self.target.requires_grad_(False)
        self.buffer = ReplayBuffer(R, buffer, F)
        for name, value in (("in_mean", 0.0), ("in_std", 1.0)):
            self.register_buffer(name, torch.full((R, 1, F), value))
        for name, value in (("out_mean", 0.0), ("out_std", 1.0)):
            self.register_buffer(name, torch.full((R, 1), value))

    def describe(self, slots: Tensor, batch: Batch) -> Tensor:
        """What the networks see of filled slots ``[*, S, D]``: ``[*, F]``."""
        flat = slots.flatten(-2)
        if batch.context is None:
            return flat
        return torch.cat([flat, batch.context.expand(*flat.shape[:-1], batch.context.shape[-1])], -1)

    def standardise(self) -> None:
        """Fit the scale of features and rewards to what the buffer holds now."""
        rows, rewards = self.buffer.rows[:, : len(self.buffer)], self.buffer.rewards[:, : len(self.buffer)]
        self.in_mean.copy_(rows.mean(1, keepdim=True))
        self.in_std.copy_(rows.std(1, keepdim=True).clamp(min=1e-6))
        self.out_mean.copy_(rewards.mean(1, keepdim=True))
        self.out_std.copy_(rewards.std(1, keepdim=True).clamp(min=1e-6))

    def standard(self, rewards: Tensor) -> Tensor:
        """Rewards ``[R, K]`` in the unit that the networks predict."""
        return (rewards - self.out_mean) / self.out_std

    def predict(self, rows: Tensor, network: StackedMLP | None = None) -> Tensor:
        """What the members think: ``[R, K, F] -> [R, E, K]``, in units of the reward.

        Args:
            rows: as :meth:`describe` gives them.
            network: None: the target ensemble.
        """
        R, K, F = rows.shape
        x = ((rows - self.in_mean) / self.in_std).unsqueeze(1).expand(R, self.members, K, F)
        out: Tensor = (network or self.target)(x.reshape(R * self.members, K, F)).view(R, self.members, K)
        return out * self.out_std.unsqueeze(1) + self.out_mean.unsqueeze(1)

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        x = self.describe(slots, batch)
        Q, R, *lists = x.shape[:-1]
        rewards = self.predict(x.transpose(0, 1).reshape(R, -1, x.shape[-1]))
        loss = -rewards.mean(1)
        if self.pessimism and self.members > 1:
            # The root's gradient is infinite where all members agree.
            loss = loss + self.pessimism * (rewards.var(1) + 1e-8 * self.out_std.square()).sqrt()
        return loss.view(R, Q, *lists).transpose(0, 1)
