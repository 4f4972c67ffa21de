"""Watching the gradient while training.

Shape legend: R seeds trained side by side · L lists.
"""

from typing import Any

import lightning.pytorch as pl
import torch

from selector.errors import check_at_least
from selector.gradients import GradientQuality, probe
from selector.module import SelectorModule
from selector.noise import SeedNoise
from selector.recording import Recorder


class GradientProbe(pl.Callback):
    """Records ``grad/bias``, ``grad/std`` and ``grad/cosine`` of the estimator as training goes on.

    Measured at the network's own logits for some of the held-out lists. All random numbers come from streams of their
    own and the strategy is in evaluation mode, so that probing changes nothing of the training.

    Args:
        recorder: where the numbers go.
        every: optimizer steps between two probes.
        lists: L, held-out lists that are probed.
        draws: gradients drawn for every list.

    Raises:
        InvalidInput: for values below 1 (2 for ``lists`` and ``draws``).
    """

    def __init__(self, recorder: Recorder, every: int, lists: int = 16, draws: int = 64) -> None:
        check_at_least(1, every=every)
        check_at_least(2, lists=lists, draws=draws)
        self.recorder, self.every, self.lists, self.draws = recorder, every, lists, draws
        self._probed = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == 0 or step % self.every or step == self._probed:  # several batches make a step when accumulating
            return
        assert isinstance(pl_module, SelectorModule)
        self._probed = trainer.global_step
        with self.recorder.paused():
            quality = self._measure(pl_module, trainer.global_step)
            values = {f"grad/{name}": getattr(quality, name).tolist() for name in ("bias", "std", "cosine")}
            self.recorder.add(trainer, pl_module, values)

    @torch.no_grad()
    def _measure(self, module: SelectorModule, step: int) -> GradientQuality:
        assert module.held_out is not None
        seeds = module.network.seeds
        lists = min(self.lists, module.held_out.batch.items.shape[0])
        batch = module.held_out.batch.narrow(0, lists).expand(len(seeds))
        logits = batch.masked(module.network(batch).float())
        noise = SeedNoise(seeds, f"probe/{step}", logits.device)
        return probe(module.strategy, module.problem, batch, logits, module.current_tau, noise, self.draws)[0]
