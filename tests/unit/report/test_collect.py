"""Finding runs, and sorting their seeds."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selector.errors import InvalidInput
from selector.report.collect import Group, Section, collect

RunFolder = Callable[..., Path]


def only(sections: list[Section] | tuple[Section, ...]) -> Section:
    (section,) = sections
    return section


def groups(runs: Path) -> dict[str, Group]:
    return {group.label: group for group in only(list(collect([runs]).sections)).groups}


def test_side_by_side_and_separate_jobs_are_the_same(run_folder: RunFolder, runs: Path) -> None:
    run_folder("together", seeds=range(4))
    for seed in range(4):
        run_folder(f"sweep/{seed}", seeds=[seed], strategy="st_argmax")
    found = groups(runs)
    for one, other in zip(found["st_gumbel"].seeds, found["st_argmax"].seeds, strict=True):
        assert one.seed == other.seed
        assert one.final == other.final
        for key in one.series:
            np.testing.assert_array_equal(one.series[key], other.series[key])
        assert (one.companions, other.companions) == (4, 1)


def test_a_run_is_read_once_however_it_is_named(run_folder: RunFolder, runs: Path) -> None:
    folder = run_folder()
    found = collect([folder, runs, folder])
    assert found.runs == 1
    assert not found.notes
    assert not only(list(found.sections)).notes


def test_other_problems_are_other_sections(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", settings={"problem": {"N": 16}})
    run_folder("b")
    run_folder("c", choices={"problem": "sum_target"})
    titles = [section.title for section in collect([runs]).sections]
    assert titles == ["seed_question · problem.N=8", "seed_question · problem.N=16", "sum_target · problem.N=8"]


@pytest.mark.parametrize(("records", "why"), [(False, "wrote no metrics.csv"), (True, "recorded nothing")])
def test_a_job_that_died_at_once_is_shown(run_folder: RunFolder, runs: Path, records: bool, why: str) -> None:
    run_folder("good")
    run_folder("dead", strategy="softmax", finished=False, records=records, steps=())
    assert {seed.failure for seed in groups(runs)["softmax"].seeds} == {f"failed: it {why}"}


def test_final_numbers_without_curves_still_count(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", records=False)
    section = only(list(collect([runs]).sections))
    assert [seed.final for seed in section.groups[0].seeds] == [math.exp(-100 / (40 + 5 * s)) for s in range(5)]
    assert any("no metrics.csv" in note for note in section.notes)


def test_repeated_seeds_are_reported_and_count_once(run_folder: RunFolder, runs: Path) -> None:
    old, new = run_folder("old", seeds=range(3)), run_folder("new", seeds=range(1, 5), value=lambda *_: 0.5)
    for path in old.iterdir():
        os.utime(path, (1e9, 1e9))
    section = only(list(collect([runs]).sections))
    assert [seed.seed for seed in section.groups[0].seeds] == [0, 1, 2, 3, 4]
    assert [seed.final for seed in section.groups[0].seeds][1:] == [0.5] * 4
    assert section.notes == [f"st_gumbel: seeds 1, 2 found twice; {new} counts, {old} does not."]


def test_a_finished_repetition_counts_rather_than_a_later_unfinished_one(run_folder: RunFolder, runs: Path) -> None:
    run_folder("done")
    crashed = run_folder("crashed", steps=(0, 25), finished=False)
    for path in crashed.iterdir():
        os.utime(path, (4e9, 4e9))
    section = only(list(collect([runs]).sections))
    assert all(seed.failure is None for seed in section.groups[0].seeds)
    assert len(section.notes) == 1


def test_budgets_that_differ_are_said(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    run_folder("b", strategy="softmax", max_steps=200, steps=(0, 100, 200))
    section = only(list(collect([runs]).sections))
    assert any("Budgets differ (1,000, 2,000 samples per seed)" in note for note in section.notes)
    assert {group.label for group in section.groups} == {"st_gumbel · max_steps=100", "softmax · max_steps=200"}


def test_versions_that_differ_are_said(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    folder = run_folder("b", strategy="softmax")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"versions": {"torch": "2.12.0"}}))
    assert list(collect([runs]).notes) == ["The runs were made with different versions: torch 2.12.0 and 2.13.0."]


def test_what_only_looks_like_a_run_is_left_out_and_said(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    (runs / "odd").mkdir()
    (runs / "odd" / "metrics.csv").write_text("step,samples,seed,key,value\n")
    found = collect([runs])
    assert list(found.notes) == [f"{runs / 'odd'} was left out: .hydra/config.yaml is missing."]


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        collect([tmp_path / "missing"])
    with pytest.raises(InvalidInput, match="no run is here or below it"):
        collect([tmp_path])


def test_the_report_imports_no_torch() -> None:
    code = "import sys, selector.__main__, selector.report.command; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
