"""A seed that diverges stops alone; the others end as if it had not been there."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from selector import MLP, Problem, fit
from selector.batch import Batch
from selector.critics import TargetValue
from selector.items import Uniform
from selector.launch import main
from selector.strategies import STGumbel
from tests.e2e.test_resume import assert_same_run, checkpoint, train_in, values
from tests.e2e.test_stopping import Send
from tests.support import CONFIGS, SHORT
from train import train


class Poison(pl.Callback):
    """From a step on, the gradient of one seed is not finite."""

    def __init__(self, step: int, seed: int, value: float) -> None:
        self.step, self.seed, self.value = step, seed, value

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step + 1 >= self.step:
            for p in pl_module.network.parameters():  # type: ignore[union-attr,operator]
                p.grad[self.seed] = self.value


class Watch(pl.Callback):
    """The parameters of one seed after every step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:  # noqa: ARG002
        flat = [p[self.seed].detach().flatten().clone() for p in pl_module.network.parameters()]  # type: ignore[union-attr,operator]
        self.seen.append(torch.cat(flat))


OPTIMIZERS = [
    ["optimizer.weight_decay=0.1"],
    ["optimizer=adamw", "optimizer.weight_decay=0.1"],
    ["optimizer=sgd", "optimizer.clip=1.0"],
]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30], ids=str)
@pytest.mark.parametrize("overrides", OPTIMIZERS, ids=" ".join)
def test_a_seed_is_frozen_at_the_step_that_failed_and_the_others_notice_nothing(
    overrides: list[str], value: float, tmp_path: Path
) -> None:
    overrides = [*overrides, "seeds=3", "strategy=relax"]
    train_in(tmp_path / "whole", overrides)
    watch = Watch(1)
    result = train_in(tmp_path / "one", overrides, callbacks=[Poison(17, 1, value), watch])
    assert result.failed == {1: 17}
    assert all(not torch.equal(a, b) for a, b in zip(watch.seen[:15], watch.seen[1:16], strict=True))
    assert all(torch.equal(watch.seen[15], after) for after in watch.seen[16:])

    ours, theirs = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "whole")
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name][[0, 2]], tensor[[0, 2]]), name
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        for index, state in other["state"].items():
            for key, tensor in state.items():
                assert torch.isfinite(mine["state"][index][key]).all()
                if tensor.dim():
                    assert torch.equal(mine["state"][index][key][[0, 2]], tensor[[0, 2]])
    for (step, _, before), (_, _, after) in zip(values(tmp_path / "whole"), values(tmp_path / "one"), strict=True):
        for key, numbers in before.items():
            assert (after[key][0], after[key][2]) == (numbers[0], numbers[2])
            if key not in ("tau", "lr"):
                assert math.isnan(after[key][1]) == (step >= 20)
        assert ("failed_step" in after) == (step >= 20)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("steps_per_call", [1, 5])
def test_a_loss_that_is_not_finite_fails_its_step(value: float, steps_per_call: int) -> None:
    class Poisoned(TargetValue):
        steps = 0

        def forward(self, slots: Tensor, batch: Batch) -> Tensor:
            losses = super().forward(slots, batch)
            if slots.requires_grad:
                self.steps += 1
                if self.steps == 13:
                    losses = losses + torch.tensor([0.0, value, 0.0])[:, None]
            return losses

    networks = []
    for critic in (TargetValue(5.0), Poisoned(5.0)):
        problem = Problem(Uniform(0, 10), critic, N=4, S=2)
        network = MLP(N=4, S=2, width=8, seeds=range(3))
        _, result = fit(
            problem, network, STGumbel(), steps=20, batch_size=8, val_every=10, held_out=16,
            steps_per_call=steps_per_call,
        )  # fmt: skip
        networks.append(network)
    assert result.failed == {1: 13}
    for sound, poisoned in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(sound[[0, 2]], poisoned[[0, 2]])
        assert torch.isfinite(poisoned).all()
    assert [math.isnan(x) for x in result.metrics["regret"]] == [False, True, False]


def test_a_run_with_a_failed_seed_goes_on_as_it_was(tmp_path: Path) -> None:
    poison = Poison(13, 0, math.nan)
    train_in(tmp_path / "whole", [], callbacks=[poison])
    for step in (12, 13, 15, 24):
        with pytest.raises(KeyboardInterrupt):
            train_in(tmp_path / "stopped", [], resume=step > 12, callbacks=[poison, Send(step, 2)])
    result = train_in(tmp_path / "stopped", [], resume=True, callbacks=[poison])
    assert result.failed == {0: 13}
    ours, theirs = values(tmp_path / "stopped"), values(tmp_path / "whole")
    assert repr(ours) == repr(theirs)  # NaN is not equal to itself


def test_accumulated_gradients_fail_as_a_whole(tmp_path: Path) -> None:
    result = train_in(tmp_path, ["trainer.accumulate_grad_batches=3"], callbacks=[Poison(4, 1, math.nan)])
    assert result.failed == {1: 4}


def test_a_loss_scaler_may_overflow() -> None:
    """At 16-mixed an infinite gradient is how the scaler finds its scale; a loss that is not finite is a failure."""
    from selector.divergence import Divergence

    for loss, failed in ((1.0, [None, None]), (math.inf, [None, 3])):
        divergence = Divergence(2)
        p = torch.nn.Parameter(torch.ones(2, 4))
        p.grad = torch.ones(2, 4)
        p.grad[1] = math.inf
        divergence.watch(torch.tensor([1.0, loss]))
        divergence.silence([p])
        divergence.before_step([p], 3, scaled=True, shared=False)
        assert divergence.failed() == failed
        assert bool(p.grad.isfinite().all()) == (failed != [None, None])
        assert torch.equal(p.grad[0], torch.ones(4))


def test_if_all_seeds_fail_it_is_one_line_and_the_last_good_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FloatingPointError, match="all 2 seeds failed, the last at step 17") as error:
        train_in(tmp_path / "run", [], callbacks=[Poison(14, 0, math.nan), Poison(17, 1, math.inf)])
    assert checkpoint(tmp_path / "run")["global_step"] == 10
    message = str(error.value)
    assert "with STGumbel at tau 0.955; the largest gradient before had norm " in message
    assert float(message.split("norm ")[1].split()[0].rstrip(".")) > 0
    train_in(tmp_path / "run", [], resume=True)
    train_in(tmp_path / "whole", [])
    assert_same_run(tmp_path / "run", tmp_path / "whole")

    monkeypatch.chdir(tmp_path)
    arguments = [*SHORT, "name=x", "logger=none", "optimizer=sgd", "optimizer.lr=1e30"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert main(train, CONFIGS, arguments) == 3
    err = capsys.readouterr().err
    assert err.startswith("failed: outputs/x: FloatingPointError: the seed failed, the last at step 2: ")
    assert err.count("\n") == 1


def test_the_table_and_the_result_name_the_failed_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step = torch.optim.Adam.step

    def poisoned(self: torch.optim.Adam, closure: Any = None) -> Any:
        # After the update of some step, the first seed's parameters are not finite: the next step fails.
        result = step(self, closure)
        if any(state["step"] == 12 for state in self.state.values()):
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = math.nan
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", poisoned)
    arguments = [*SHORT, "name=x", "logger=none", "seeds=2", "seed=7"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert main(train, CONFIGS, arguments) == 0
    assert "Seed 7 failed at step 13: its loss or gradient was not finite, it was frozen.\n" in capsys.readouterr().out
    result = json.loads((tmp_path / "outputs/x/result.json").read_text())
    assert result["failed"] == [{"seed": 7, "step": 13}]
    assert [row["regret"] is None for row in result["final"]["per_seed"]] == [True, False]


def test_when_all_seeds_have_failed_no_validation_is_waited_for(tmp_path: Path) -> None:
    watch, poison = Watch(0), [Poison(5, 0, math.nan), Poison(5, 1, math.nan)]
    with pytest.raises(FloatingPointError, match="all 2 seeds failed, the last at step 5:"):
        train_in(tmp_path, ["seeds=2"], callbacks=[*poison, watch])
    assert len(watch.seen) == 5
