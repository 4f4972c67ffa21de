"""The Lightning module: ask the strategy, fill the slots, judge, tell, differentiate.

Shape legend: R seeds trained side by side · B batch · V held-out lists · S slots · N items.
"""

import os
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from selector.actor_critic import ActorCritic
from selector.batch import check_mask
from selector.calls import optimize, recount_batches
from selector.critics.black_box import BlackBox, SeparableBlackBox
from selector.critics.learned import LearnedCritic
from selector.critics.questions import Questions
from selector.divergence import Divergence
from selector.metrics import Evaluation, HeldOut, entropy, evaluate
from selector.networks import Network
from selector.noise import SeedNoise
from selector.optimizer import OptimizerOptions, clip_per_seed
from selector.problems import Problem
from selector.processes import end_with, mean_over_processes
from selector.schedules import EntropyBonus, Schedule
from selector.strategies import Strategy


class MeanLoss:
    """A mean over steps that stays on the device until it is read.

    Args:
        total: ``[R]``, the sum so far; None before the first step.
        steps: how many steps are in it.
    """

    def __init__(self, total: Tensor | None = None, steps: int = 0) -> None:
        self.total, self.steps = total, steps

    def add(self, loss: Tensor) -> None:
        """Add one step's losses ``[R]``."""
        self.total = loss.clone() if self.total is None else self.total.to(loss.device).add_(loss)
        self.steps += 1

    def mean(self) -> Tensor | None:
        """``[R]`` on the CPU, or None before the first step."""
        return None if self.total is None else (self.total.double() / self.steps).cpu()

    def state(self) -> tuple[Tensor | None, int]:
        """The constructor's arguments that continue this mean."""
        return self.total, self.steps


class SelectorModule(pl.LightningModule):
    """Trains R seeds of a network side by side.

    One Lightning epoch is one validation period of ``val_every`` optimizer steps. Lists are drawn fresh for every
    batch, so there is no data set: the "loader" only counts.

    Args:
        problem: items, critic and sizes.
        network: R seeds of a selector.
        strategy: the gradient estimator.
        tau: temperature schedule.
        optimizer: optimizer and learning-rate schedule.
        batch_size: lists per seed and batch (over all processes).
        val_every: optimizer steps between two validations.
        held_out: number V of validation lists.
        max_steps: optimizer steps that the learning-rate schedule spans.
        entropy: weight of the bonus on the entropy of softmax(l), summed over slots; None is no bonus. Unbiased
            estimators commit to an item early without one.
        compile_network: compile the network's forward and backward pass with ``torch.compile``.
        steps_per_call: optimizer steps that one Lightning step makes; must divide ``val_every``.
        critic: what the network is trained through, and what is learned from the rewards of the problem's black box;
            None: the problem's own critic.

    Attributes:
        evaluation: the newest :class:`Evaluation`, of step ``evaluated_step``.
        held_out: the validation lists and their oracle, from setup on.
        train_losses: running mean of the training loss since the last record.
        recorded_loss: mean over seeds of the last record's training loss.
        divergence: which seeds failed, and when.
    """

    def __init__(
        self,
        problem: Problem,
        network: Network,
        strategy: Strategy,
        tau: Schedule,
        optimizer: OptimizerOptions,
        *,
        batch_size: int,
        val_every: int,
        held_out: int,
        max_steps: int,
        entropy: EntropyBonus | None = None,
        compile_network: bool = False,
        steps_per_call: int = 1,
        critic: LearnedCritic | None = None,
    ) -> None:
        super().__init__()
        self.problem, self.network, self.strategy, self.tau = problem, network, strategy, tau
        self.optimizer_options = optimizer
        self.entropy = entropy if entropy is not None else EntropyBonus()
        self.batch_size, self.val_every, self.max_steps = batch_size, val_every, max_steps
        self.steps_per_call = steps_per_call
        self._held_out_lists = held_out
        self.critic = critic
        self.actor_critic = None if critic is None else ActorCritic(problem, critic)
        box = problem.critic
        # Measured by what is expected, trained on what is seen.
        self._critic_at = -1
        self.questions: Questions | None = None
        if critic is None and isinstance(box, BlackBox | SeparableBlackBox):
            self.questions = Questions(box.reward, network.seeds)
        if compile_network:
            network.compile()  # in place: the names in checkpoints stay the same
        self.evaluation: Evaluation | None = None
        self.evaluated_step = -1
        self.held_out: HeldOut | None = None
        self.train_losses = MeanLoss()
        self.recorded_loss: float | None = None
        self.divergence = Divergence(len(network.seeds))
        self._noise: dict[str, SeedNoise] = {}
        self._lead = (len(network.seeds), batch_size)  # R, and this process's part of a batch
        self._scaled = False  # whether a loss scaler multiplies gradients, and skips steps in which they overflow
        self._shared = False  # whether several processes train the same parameters
        self._made_by = os.getpid()

    # ---- what happens in a step -------------------------------------------------------------------------------

    def training_step(self, _: int) -> Tensor:
        """The objective of a call's last step; the steps before it are made here, without Lightning's hooks."""
        step = self.trainer.global_step
        last = min(step - step % self.steps_per_call + self.steps_per_call, self.trainer.max_steps) - 1
        for _ in range(last - step):
            optimize(self, self.objective())
        return self.objective()

    def objective(self) -> Tensor:
        """The sum over seeds of the surrogate's mean over a fresh batch: seeds do not mix their gradients."""
        step = self.trainer.global_step
        if self.actor_critic is not None and step != self._critic_at:  # once, however many batches are accumulated
            self._critic_at = step
            with torch.autocast(self.device.type, enabled=False):
                self.actor_critic.step(self.network)
        batch = self.problem.sample(self._lead, self._noise["items"])
        target = self.problem.oracle(batch).index if self.strategy.needs_target else None
        logits = self.network(batch)
        if batch.mask is not None and self.device.type == "cpu":  # elsewhere it would wait for the device every step
            check_mask(batch.mask)
        # Reduced precision is for the network alone: estimators and critics stay in float32.
        with torch.autocast(self.device.type, enabled=False):
            logits = batch.masked(logits.float())
            selection = self.strategy.select(logits, self.tau(step), self._noise["strategy"], target)
            losses = (self.critic or self.questions or self.problem.critic)(selection.pick(batch.items), batch)
            objective = self.strategy.surrogate(selection, losses).mean(-1)
            self.train_losses.add(mean_over_processes(objective.detach()))
            if not self.entropy.never:
                objective = objective - self.entropy(step) * entropy(logits).sum(-1).mean(-1)
        self.divergence.watch(objective)
        return objective.sum()

    @property
    def current_tau(self) -> float:
        """The temperature of the current optimizer step."""
        return self.tau(self.trainer.global_step)

    @property
    def samples(self) -> int:
        """Lists that each seed has been trained on."""
        return self.trainer.global_step * self.batch_size * self.trainer.accumulate_grad_batches

    def _trained(self) -> list[torch.nn.Parameter]:
        """What the optimizer updates; each ``[R, …]``."""
        return [p for group in self.trainer.optimizers[0].param_groups for p in group["params"]]

    def on_after_backward(self) -> None:
        if self._scaled:
            self.divergence.silence(self._trained())

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002 - Lightning's hook
        step = self.trainer.global_step + 1
        self.divergence.before_step(self._trained(), step, scaled=self._scaled, shared=self._shared)
        if self.optimizer_options.clip is not None:
            clip_per_seed(self.network.parameters(), self.optimizer_options.clip)

    def configure_optimizers(self) -> Any:
        groups: list[dict[str, Any]] = [{"params": list(self.network.parameters())}]
        own = list(self.strategy.parameters())
        if own:  # what the strategy learns for itself: at its own rate, and never clipped with the network's gradient
            rate = self.strategy.lr if self.strategy.lr is not None else self.optimizer_options.lr
            groups.append({"params": own, "lr": rate, "weight_decay": 0.0})
        optimizer = self.optimizer_options.build(groups)
        optimizer.register_step_post_hook(lambda *_: self.divergence.after_step())
        factor = self.optimizer_options.factor(self.max_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- data and validation ----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        end_with(self._made_by)  # in processes that Lightning forked
        world = self.trainer.world_size
        shard = (self.trainer.global_rank, world)
        # Asked in every step: Lightning looks through several objects for an answer.
        self._lead = (len(self.network.seeds), self.batch_size // world)
        self._scaled, self._shared = str(self.trainer.precision) == "16-mixed", world > 1
        device = self.trainer.strategy.root_device
        seeds = self.network.seeds
        self._noise = {name: SeedNoise(seeds, name, device, shard) for name in ("items", "strategy")}
        if self.actor_critic is not None:
            self.actor_critic.setup(device)
        if self.questions is not None:
            self.questions.rank = self.trainer.global_rank
        self.divergence = Divergence(len(seeds), device)
        self.held_out = HeldOut.draw(self.problem.to(device), self._held_out_lists, device)

    def train_dataloader(self) -> Iterable[int]:
        return range(self._calls)

    @property
    def _calls(self) -> int:
        """Lightning's batches in a validation period."""
        return self.val_every * self.trainer.accumulate_grad_batches // self.steps_per_call

    def val_dataloader(self) -> Iterable[int]:
        return range(1)  # one validation batch stands for all held-out lists, which evaluate() reads in chunks

    def validation_step(self, _: int) -> None:
        """Evaluate the held-out lists; ``regret`` (mean over seeds) is what callbacks may monitor."""
        self.log(
            "regret",
            self.evaluate().metrics["regret"].nanmean().float(),
            batch_size=1,
            sync_dist=self.trainer.world_size > 1,
        )

    def evaluate(self) -> Evaluation:
        """Measure the network as it is now."""
        assert self.held_out is not None, "the held-out lists are drawn in setup()"
        previous = self.evaluation.index if self.evaluation is not None else None
        self.evaluation = evaluate(self.network, self.problem, self.held_out, self.current_tau, previous)
        self.evaluated_step = self.trainer.global_step
        failed = torch.tensor([step is not None for step in self.divergence.failed()])
        for value in self.evaluation.metrics.values():
            value.masked_fill_(failed, torch.nan)  # that of a network which stopped training is no result
        return self.evaluation

    # ---- what a continuation needs ----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["selector"] = {
            "noise": {name: noise.state_dict() for name, noise in self._noise.items()},
            "train_losses": self.train_losses.state(),
            "choices": None if self.evaluation is None else self.evaluation.index,
            "seeds": list(self.network.seeds),
            "critic": None if self.actor_critic is None else self.actor_critic.state_dict(),
            "asked": None if self.questions is None else self.questions.asked,
            "columns": self.problem.items.columns,
            "items": self.problem.items.checksum,
            "table": None if self.critic is None else self.critic.checksum,
            "evaluated": self.evaluated_step == self.trainer.global_step,
            "max_steps": self.max_steps,
            "divergence": self.divergence.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        recount_batches(checkpoint, self.val_every, self._calls)
        state = checkpoint["selector"]
        for name, noise in self._noise.items():
            noise.load_state_dict(state["noise"][name])
        if self.actor_critic is not None:
            self.actor_critic.load_state_dict(state["critic"])
        if self.questions is not None:
            self.questions.asked = state.get("asked") or 0
        self.train_losses = MeanLoss(*state["train_losses"])
        self.divergence.load(state["divergence"])
        if state["choices"] is not None:
            self.evaluation = Evaluation({}, state["choices"].to(self.trainer.strategy.root_device))
            # Lightning ends the checkpoint's epoch once more: it must not be evaluated and recorded twice.
            self.evaluated_step = checkpoint["global_step"]
