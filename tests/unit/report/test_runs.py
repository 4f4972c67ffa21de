"""Reading what a run measured."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selector.errors import InvalidInput
from selector.report.runs import read_run

RunFolder = Callable[..., Path]


def test_a_nan_seed_counts_as_failed_though_its_regret_is_a_number(run_folder: RunFolder) -> None:
    seeds = read_run(run_folder(nan={2: 50})).seeds
    seed = seeds[2]
    assert seed.final == math.inf
    assert seed.ended
    assert seed.failure == "failed: val/soft_loss is nan from sample 500 on"
    np.testing.assert_array_equal(np.isinf(seed.series["val/regret"]), [False, False, True, True, True])
    others = [s for s in seeds if s.seed != 2]
    assert all(s.failure is None and math.isfinite(s.final) for s in others)


def test_an_infinite_regret_is_a_failure(run_folder: RunFolder) -> None:
    folder = run_folder(value=lambda seed, step: -math.inf if seed == 0 and step == 100 else 0.5)
    seed = read_run(folder).seeds[0]
    assert seed.final == math.inf  # not the -inf that would win
    assert seed.failure == "failed: val/regret is -inf from sample 1,000 on"


def test_an_unfinished_run_counts_as_failed(run_folder: RunFolder) -> None:
    seeds = read_run(run_folder(steps=(0, 25, 50), finished=False)).seeds
    assert {seed.failure for seed in seeds} == {"unfinished: 500 of 1,000 samples"}
    assert not any(seed.ended for seed in seeds)
    np.testing.assert_array_equal(seeds[0].samples, [0, 250, 500])


def test_an_early_stop_is_no_failure(run_folder: RunFolder) -> None:
    folder = run_folder(steps=(0, 25, 50))  # with a result.json
    assert all(seed.failure is None for seed in read_run(folder).seeds)


def test_a_continued_run_that_died_is_unfinished(run_folder: RunFolder) -> None:
    folder = run_folder(steps=(0, 50, 100, 150), max_steps=200)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"steps": 100}))  # of the first part
    assert {s.failure for s in read_run(folder).seeds} == {"unfinished: 1,500 of 2,000 samples"}


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("metrics.csv", b"a,b\n", "cannot be read as a metrics.csv"),
        ("metrics.csv", b"\xff\xfe\x00", "cannot be read as a metrics.csv"),
        ("result.json", b"{", "cannot be read as JSON"),
        ("result.json", b"[]", "is not a result of train.py"),
        (".hydra/config.yaml", b"a: [", "cannot be read as YAML"),
        (".hydra/hydra.yaml", b"1", "is not a configuration of train.py"),
        (".hydra/hydra.yaml", b"hydra: {}", "does not describe a run of train.py"),
    ],
)
def test_unreadable_files_are_one_line(run_folder: RunFolder, file: str, content: bytes, says: str) -> None:
    folder = run_folder()
    (folder / file).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_run(folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_cut_off_by_a_crash_does_no_harm(run_folder: RunFolder) -> None:
    folder = run_folder()
    whole = read_run(folder)
    with (folder / "metrics.csv").open("a") as f:
        f.write("100,1000,4,val/regret,0.0")  # the beginning of 0.042
    assert [seed.final for seed in read_run(folder).seeds] == [seed.final for seed in whole.seeds]
