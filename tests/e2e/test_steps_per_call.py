"""Several optimizer steps in one Lightning step change nothing but the time: every record and every bit is the same."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from selector.calls import steps_per_call
from selector.errors import InvalidInput
from tests.e2e.test_resume import assert_same_run, train_in

QUICK: dict[str, Any] = {"val_every": 10, "probe_every": None, "logits": 100, "trainer": {}, "callbacks": []}


class Batches(pl.Callback):
    """Counts Lightning's steps; not what decides how many optimizer steps they make."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.count = trainer.fit_loop.epoch_loop.total_batch_idx + 1


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ([], {}),
        (["max_steps=27"], {}),  # ends within a call
        (["optimizer=sgd", "optimizer.schedule=cosine", "optimizer.warmup=5", "optimizer.clip=0.1"], {}),
        (["strategy=relax"], {}),
        (["strategy=reinforce", "entropy.start=.1"], {"probe_every": 5}),
        ([], {"stop_at_regret": 0.9}),
    ],
    ids=str,
)
def test_a_run_is_the_same_bit_for_bit(overrides: list[str], options: dict[str, Any], tmp_path: Path) -> None:
    one, five = Batches(), Batches()
    train_in(tmp_path / "one", overrides, steps_per_call=1, callbacks=[one], **options)
    train_in(tmp_path / "five", overrides, steps_per_call=5, callbacks=[five], **options)
    assert_same_run(tmp_path / "five", tmp_path / "one")
    assert five.count == -(-one.count // 5)


@pytest.mark.parametrize("calls", [(1, 5), (5, 1), (10, 5), (5, 5)])
def test_a_run_goes_on_with_other_calls(calls: tuple[int, int], tmp_path: Path) -> None:
    before, after = calls
    train_in(tmp_path / "whole", [], steps_per_call=1)
    train_in(tmp_path / "parts", ["max_steps=20", "tau.steps=30"], steps_per_call=before)
    train_in(tmp_path / "parts", [], steps_per_call=after, resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_as_many_steps_as_divide_the_periods_and_stay_short() -> None:
    assert steps_per_call(None, **QUICK) == 10
    assert steps_per_call(None, **{**QUICK, "val_every": 200}) == 25
    assert steps_per_call(None, **{**QUICK, "probe_every": 4}) == 2
    assert steps_per_call(None, **{**QUICK, "logits": 2**21}) == 2
    assert steps_per_call(None, **{**QUICK, "logits": 2**30}) == 1


class Watcher(pl.Callback):
    def on_before_optimizer_step(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": [Watcher()]},
        {"trainer": {"accumulate_grad_batches": 2}},
        {"trainer": {"precision": "bf16-mixed"}},
        {"trainer": {"devices": 2}},
        {"trainer": {"limit_train_batches": 3}},
        {"trainer": {"profiler": "simple"}},
    ],
    ids=str,
)
def test_who_may_look_at_single_steps_gets_them(options: dict[str, Any]) -> None:
    assert steps_per_call(None, **{**QUICK, **options}) == 1


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        (0, {}, "must be >= 1"),
        (3, {}, "must divide val_every \\(10\\)"),
        (10, {"probe_every": 5}, "must divide val_every and probe.every \\(5\\)"),
        (5, {"trainer": {"precision": "16-mixed"}}, "must be 1 with trainer.precision=16-mixed"),
    ],
)
def test_what_does_not_fit_is_refused(asked: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"steps_per_call={asked}: {message}"):
        steps_per_call(asked, **{**QUICK, **options})
