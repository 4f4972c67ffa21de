"""Learning a critic while the selector is trained through it: ask the black box, remember, update, measure.

Shape legend: R seeds trained side by side · E members of the ensemble · K lists · V held-out lists · F numbers that
describe a filled list.
"""

from typing import Any

import torch
from torch import Tensor

from selector.critics.black_box import BlackBox, SeparableBlackBox
from selector.critics.learned import LearnedCritic
from selector.critics.questions import Questions
from selector.errors import InvalidInput
from selector.metrics import Evaluation, HeldOut
from selector.networks import Network
from selector.noise import SeedNoise
from selector.optimizer import Adam
from selector.problems import Problem
from selector.selection import Selection
from selector.strategies import Strategy

# One row of a table in so many is never learned from; the critic's error is measured on these.
_KEPT_BACK = 10


def check_actor_critic(
    problem: Problem, critic: LearnedCritic | None, strategy: Strategy, trainer: dict[str, Any]
) -> None:
    """Refuse what cannot be trained with a learned critic, or with a black box and none.

    Raises:
        InvalidInput: naming what does not fit.
    """
    box, name = problem.critic, type(strategy).__name__
    if critic is None:
        if not box.differentiable and strategy.needs_gradient:
            because = f"needs the gradient of the critic, and {box.title} has none"
            raise InvalidInput("strategy", name, f"{because}; take critic=learned, or strategy=rloo")
        return
    if not isinstance(box, BlackBox | SeparableBlackBox):
        raise InvalidInput("reward", None, "critic=learned needs a black box that choices are measured by")
    if strategy.needs_target:
        raise InvalidInput("strategy", name, "is told the best items and learns from no critic")
    if trainer.get("devices", 1) not in (1, "1", "auto") or trainer.get("strategy", "auto") != "auto":
        raise InvalidInput(
            "accelerator.devices", trainer.get("devices", 1), "must be 1: a critic learns in one process"
        )


class ActorCritic:
    """Trains a :class:`LearnedCritic` on the rewards of the selector's picks.

    Every random number comes from streams of each seed alone, so that a seed is the same alone and beside others. The
    black box is asked on lists of its own, for what the selector draws from softmax(l) and for uniformly random
    choices; the held-out lists are never learned from.

    Args:
        problem: its critic is the black box.
        critic: what learns.
    """

    def __init__(self, problem: Problem, critic: LearnedCritic) -> None:
        box = problem.critic
        assert isinstance(box, BlackBox | SeparableBlackBox)
        self.problem, self.critic = problem, critic
        self.questions = Questions(box.reward, critic.seeds)
        self.optimizer = Adam(lr=critic.lr, weight_decay=critic.weight_decay).build(critic.online.parameters())
        self._noise: dict[str, SeedNoise] = {}
        self._fresh: tuple[Tensor, int] | None = None
        self._kept: tuple[Tensor, Tensor] | None = None
        if critic.table is not None:
            self._kept = (critic.table[0][::_KEPT_BACK], critic.table[1][::_KEPT_BACK])

    def setup(self, device: torch.device) -> None:
        """Make the random streams on the training device."""
        names = ("critic lists", "critic picks", "critic rows")
        self._noise = {name: SeedNoise(self.critic.seeds, name, device) for name in names}

    # ---- what happens in a step -------------------------------------------------------------------------------

    def step(self, network: Network) -> None:
        """What comes before a step of the selector: observations and updates; before the first one, the warm-up."""
        critic = self.critic
        if not critic.buffer.added:
            self._warm_up(network)
        if critic.observations:
            rows, rewards = self._observe(network, critic.observations, critic.explore)
            with torch.no_grad():
                self._count(critic.predict(rows, critic.online).mean(1) - rewards, rewards)
            critic.buffer.add(rows, rewards)
        for _ in range(critic.updates):
            self._update()

    def _warm_up(self, network: Network) -> None:
        critic = self.critic
        if critic.table is not None:
            rows, rewards = critic.table
            learned = torch.arange(len(rows)) % _KEPT_BACK != 0
            to, R = critic.buffer.rows.device, len(critic.seeds)
            critic.buffer.add(rows[learned].to(to).expand(R, -1, -1), rewards[learned].to(to).expand(R, -1))
        if critic.warmup:
            critic.buffer.add(*self._observe(network, critic.warmup, 1.0))
        critic.standardise()
        for _ in range(critic.warmup_updates):
            self._update()

    @torch.no_grad()
    def _observe(self, network: Network, K: int, explore: float) -> tuple[Tensor, Tensor]:
        """Rows ``[R, K, F]`` and rewards ``[R, K]`` of picks from fresh lists."""
        R = len(self.critic.seeds)
        batch = self.problem.sample((R, K), self._noise["critic lists"])
        random = round(explore * K)  # the first so many lists get random choices
        logits = batch.items.new_zeros(R, K, self.problem.S, self.problem.N)
        if random < K:
            logits[:, random:] = network(batch).float()[:, random:]
        gumbel = self._noise["critic picks"].gumbel(logits.shape)
        index = self.problem.choose(batch.masked(logits + gumbel))
        slots = Selection(index=index.unsqueeze(0)).pick(batch.items)[0]
        return self.critic.describe(slots, batch), self.questions.rewards(slots.unsqueeze(0), batch)[0]

    @torch.enable_grad()
    def _update(self) -> None:
        critic = self.critic
        R, E, K = len(critic.seeds), critic.members, critic.rows
        # Every member learns from rows of its own, or they would soon agree on everything.
        index = self._noise["critic rows"].integers(len(critic.buffer), [R, E * K])
        rows, rewards = critic.buffer.take(index)
        x = ((rows - critic.in_mean) / critic.in_std).view(R * E, K, -1)
        wanted = critic.standard(rewards).view(R * E, K)
        loss = (critic.online(x).squeeze(-1) - wanted).square().mean(1).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            pairs = zip(critic.target.parameters(), critic.online.parameters(), strict=True)
            for target, online in pairs:
                target.lerp_(online, 1 - critic.target_decay)

    # ---- what is recorded -------------------------------------------------------------------------------------

    def _count(self, error: Tensor, rewards: Tensor) -> None:
        sums = torch.stack([error.square().mean(1), rewards.mean(1)]).double()
        self._fresh = (sums, 1) if self._fresh is None else (self._fresh[0] + sums, self._fresh[1] + 1)

    @torch.no_grad()
    def record(self, evaluation: Evaluation, held_out: HeldOut) -> dict[str, list[float]]:
        """Metrics of the critic since the last record, one number per seed.

        - ``critic/error``: root mean squared error on picks that it had not learned from, in units of the reward, with
          the noise of the observations in it; of a table, on the rows that were kept back.
        - ``critic/optimism``: predicted minus true reward of the held-out argmax picks; large where the selector
          exploits the critic. ``critic/hard_error``: its root mean square.
        - ``reward/hard``: the true reward of these picks; ``reward/observed``: the mean of those it learned from.
        """
        if not self.critic.buffer.added:  # nothing is known before the warm-up
            return {}
        values: dict[str, list[float]] = {}
        if self._fresh is not None:
            mean_square, reward = (self._fresh[0] / self._fresh[1]).cpu()
            values |= {"critic/error": mean_square.sqrt().tolist(), "reward/observed": reward.tolist()}
            self._fresh = None
        elif self._kept is not None:
            R, to = len(self.critic.seeds), self.critic.buffer.rows.device
            rows, rewards = (t.to(to).expand(R, *t.shape) for t in self._kept)
            error = self.critic.predict(rows).mean(1) - rewards
            values["critic/error"] = error.double().square().mean(1).sqrt().tolist()
        batch = held_out.batch.expand(len(self.critic.seeds))
        slots = Selection(index=evaluation.index.unsqueeze(0)).pick(batch.items)
        true = -self.problem.critic.measure(slots, batch)[0].double()
        error = self.critic.predict(self.critic.describe(slots[0], batch)).mean(1).double() - true
        values["critic/optimism"] = error.mean(1).tolist()
        values["critic/hard_error"] = error.square().mean(1).sqrt().tolist()
        values["reward/hard"] = true.mean(1).tolist()
        return values

    # ---- what a continuation needs (the networks and the buffer are in the module's state dict) ---------------------

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` goes on from, bit for bit."""
        return {
            "noise": {name: noise.state_dict() for name, noise in self._noise.items()},
            "optimizer": self.optimizer.state_dict(),
            "asked": self.questions.asked,
            "fresh": self._fresh,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken; after :meth:`setup`."""
        for name, noise in self._noise.items():
            noise.load_state_dict(state["noise"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.questions.asked, self._fresh = state["asked"], state["fresh"]
