"""The benchmark measures what it says: its plain forms are the same estimators, its arithmetic is right."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from selector.__main__ import main
from selector.bench import command
from selector.bench.measure import Row, exponent, in_turn, peak_memory
from selector.bench.picking import OURS, TAU, square
from selector.bench.plain import PLAIN
from selector.noise import Noise


@pytest.mark.parametrize("name", OURS)
def test_the_plain_form_is_the_same_estimator(name: str) -> None:
    """The mean gradient over many draws at one point, ours against the plain form's, in standard errors."""
    S, N, D, B = 2, 3, 2, 20_000
    draw, noise = Noise(3, "point"), Noise(4, "draws")
    logits = draw.normal([S, N]).expand(B, S, N).clone().requires_grad_()
    items = draw.normal([N, D]).expand(B, N, D)
    strategy = OURS[name]()
    torch.manual_seed(0)
    gradients = []
    for turn in range(2):
        if turn == 0:
            selection = strategy.select(logits, TAU, noise)
            objective = strategy.surrogate(selection, square(selection.pick(items))).sum()
        else:
            objective = B * PLAIN[name](logits, items, square, TAU)
        gradients.append(torch.autograd.grad(objective, logits)[0].double())
    ours, theirs = gradients
    error = ((ours.var(0) + theirs.var(0)) / B).sqrt()
    difference = (ours.mean(0) - theirs.mean(0)).abs()
    # 6 entries, 15 strategies: by chance one of a thousand such test suites fails; the draws are seeded anyway.
    assert (difference <= 4.5 * error + 1e-5).all(), (difference / error).max()


def test_peak_memory_counts_what_lives_at_the_same_time() -> None:
    def two_of_three() -> torch.Tensor:
        a = torch.ones(1000)
        b = a + 1
        del a
        return b + 1

    assert peak_memory(two_of_three) == pytest.approx(8000, abs=512)


def test_exponent_and_quartiles() -> None:
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2.0)
    row = Row.of("x", "", [1.0, 2.0, 3.0, 4.0, 100.0], target=3.0)
    assert (row.low, row.ratio, row.high, row.reached) == (2.0, 3.0, 4.0, True)
    assert Row.of("x", "", [0.5], target=0.6, at_least=True).reached is False


def test_both_sides_take_their_turns() -> None:
    called: list[str] = []
    ratios = in_turn(lambda: called.append("ours"), lambda: called.append("theirs"), seconds=0.0, least=3)
    assert len(ratios) == 3
    assert called == ["ours", "theirs"] * 5


def test_the_command_writes_rows_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        command.picking, "rows", lambda _: iter([Row("a", "b", 0.5, 0.4, 0.6, 1.0), Row("c", "d", 2, 1, 3)])
    )
    console = Console(width=100, record=True)
    command.bench(["picking"], "cpu", tmp_path / "rows.json", None, console)
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"name": "a", "case": "b", "ratio": 0.5, "low": 0.4, "high": 0.6, "target": 1.0},
        {"name": "c", "case": "d", "ratio": 2, "low": 1, "high": 3, "target": None},
    ]
    assert "<= 1" in console.export_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is there")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", "cuda"]) == 2
    assert "--device=cuda: no such device is here" in capsys.readouterr().err
