"""Methods that choose columns, and how they are measured."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from selector.errors import InvalidInput
from selector.features import baselines
from selector.features.command import Measured, run_features
from selector.features.decoders import linear_errors, mlp_errors
from selector.items.columns import Table
from selector.noise import Noise


def copies() -> Table:
    """Six columns, of which 3, 4, 5 are the first three again: three columns say everything, no two of them do."""
    rows = Noise(0, "copies").normal([400, 3]).repeat(1, 2)
    return Table(rows[:300], rows[300:], (rows[:300, 0] > 0).long(), None)


def test_the_linear_decoder_is_exact_and_counts_copies_once() -> None:
    table = copies()
    errors = linear_errors(table, torch.tensor([[0, 1, 2], [0, 1, 5], [0, 3, 0], [0, 1, 4]]))
    assert errors[:2].max() < 1e-10
    variance = table.test.var(0, unbiased=False)
    assert float(errors[2]) == pytest.approx(float(2 * (variance[1] + variance[2]) / 6), rel=0.1)
    assert float(errors[3]) == pytest.approx(float(2 * variance[2] / 6), rel=0.1)


def test_the_mlp_decoder_learns_reads_nothing_but_the_choice_and_is_the_same_alone() -> None:
    table, choices = copies(), torch.tensor([[0, 1, 2], [0, 1, 4]])
    errors = mlp_errors(table, choices, [0, 1], steps=300)
    assert errors[0] < 0.02
    assert errors[1] > 0.2
    torch.testing.assert_close(mlp_errors(table, choices[1:], [1], steps=300), errors[1:], rtol=1e-4, atol=1e-6)


def test_methods_that_look_at_columns_together_find_three_different_ones() -> None:
    table = copies()
    assert {n % 3 for n in baselines.greedy(table, 3)} == {0, 1, 2}
    assert {n % 3 for n in baselines.principal(table, 3, seed=0)} == {0, 1, 2}
    assert len(set(baselines.random_columns(table, 6, seed=0))) == 6
    assert set(baselines.mutual_information(table, 2, seed=0)) == {0, 3}, "the label is the sign of column 0"


def test_the_concrete_autoencoder_learns() -> None:
    """Its seeds are apart, and what it chooses beats choosing at random."""
    table = copies()
    chosen = baselines.concrete(table, 3, seeds=(0, 1, 2, 3), steps=400)
    assert chosen.shape == (4, 3)
    assert linear_errors(table, chosen).mean() < 0.2, "a random choice leaves .37 on average"
    alone = baselines.concrete(table, 3, seeds=(2,), steps=400)
    assert torch.equal(alone[0], chosen[2])


@pytest.mark.parametrize("problem", ["digits", "breast_cancer"])
def test_the_command_compares_all_methods(problem: str, tmp_path: Path) -> None:
    console = Console(record=True, width=140)
    options = [f"problem={problem}", "seeds=2", "max_steps=20", "val_every=20", "problem.S=3"]
    options += ["problem.D=64"]
    figure = tmp_path / "features.png"
    measured = run_features(options, figure=figure, console=console, decoder_steps=30, concrete_steps=30)
    assert figure.read_bytes().startswith(b"\x89PNG")
    by_name: dict[str, Measured] = {m.method: m for m in measured}
    shown = console.export_text()
    assert all(name in shown for name in by_name)
    assert "distinct" in shown
    searched, selector, random = (by_name[n].linear.mean() for n in ("selector, then search", "selector", "random"))
    assert searched < random
    assert searched < selector, "20 steps leave something to improve"
    assert by_name["all columns"].linear.max() < 1e-6


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    figure = tmp_path / "features.png"
    with pytest.raises(InvalidInput, match="must be Columns"):
        run_features(["items=normal"], figure=figure, console=Console())
    with pytest.raises(InvalidInput, match="one choice for all rows"):
        run_features(["network=pointer"], figure=figure, console=Console())
    assert not figure.exists()
