"""Finding, reading and labelling runs."""

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


def test_labels_are_strategies_when_nothing_else_differs(run_folder: RunFolder, runs: Path) -> None:
    # The temperature follows from the strategy's yaml: no news.
    run_folder("a", strategy="st_gumbel", choices={"tau": "exponential"})
    run_folder("b", strategy="softmax")
    run_folder("c", strategy="st_argmax", choices={"tau": "argmax"}, settings={"tau": {"value": 0.6}})
    assert list(groups(runs)) == ["softmax", "st_argmax", "st_gumbel"]


def test_labels_name_the_network_and_settings_that_differ(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    run_folder("b", settings={"network": {"width": 32}})
    run_folder("c", choices={"network": "pointer"}, settings={"network": {"width": 64}})
    run_folder("d", strategy="softmax", settings={"optimizer": {"lr": 0.1}})
    assert set(groups(runs)) == {
        "st_gumbel · network=mlp · network.width=16 · optimizer.lr=0.002",
        "st_gumbel · network=mlp · network.width=32 · optimizer.lr=0.002",
        "st_gumbel · network=pointer · network.width=64 · optimizer.lr=0.002",
        "softmax · network=mlp · network.width=16 · optimizer.lr=0.1",
    }


def test_labels_name_tau_where_one_strategy_had_several(run_folder: RunFolder, runs: Path) -> None:
    for value in (0.5, 10.0, 2.0):
        run_folder(f"g{value}", settings={"tau": {"value": value}}, overrides=[f"tau.value={value}"])
    run_folder("softmax", strategy="softmax")
    found = groups(runs)
    taus = ["tau.value=0.5", "tau.value=2.0", "tau.value=10.0"]  # by size, not by letters
    assert list(found) == ["softmax", *(f"st_gumbel · {tau}" for tau in taus)]
    assert {found[f"st_gumbel · {tau}"].family for tau in taus} == {"st_gumbel"}


def test_other_problems_are_other_sections(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    run_folder("b", settings={"problem": {"N": 16}})
    run_folder("c", choices={"problem": "sum_target"})
    titles = [section.title for section in collect([runs]).sections]
    assert titles == ["seed_question · problem.N=8", "seed_question · problem.N=16", "sum_target · problem.N=8"]


def test_a_nan_seed_counts_as_failed_though_its_regret_is_a_number(run_folder: RunFolder, runs: Path) -> None:
    run_folder(nan={2: 50})
    seed = groups(runs)["st_gumbel"].seeds[2]
    assert seed.final == math.inf
    assert seed.ended
    assert seed.failure == "failed: val/soft_loss is nan from sample 500 on"
    np.testing.assert_array_equal(np.isinf(seed.series["val/regret"]), [False, False, True, True, True])
    others = [s for s in groups(runs)["st_gumbel"].seeds if s.seed != 2]
    assert all(s.failure is None and math.isfinite(s.final) for s in others)


def test_an_infinite_regret_is_a_failure(run_folder: RunFolder, runs: Path) -> None:
    run_folder(value=lambda seed, step: -math.inf if seed == 0 and step == 100 else 0.5)
    seed = groups(runs)["st_gumbel"].seeds[0]
    assert seed.final == math.inf  # not the -inf that would win
    assert seed.failure == "failed: val/regret is -inf from sample 1,000 on"


def test_an_unfinished_run_counts_as_failed(run_folder: RunFolder, runs: Path) -> None:
    run_folder(steps=(0, 25, 50), finished=False)
    seeds = groups(runs)["st_gumbel"].seeds
    assert {seed.failure for seed in seeds} == {"unfinished: 500 of 1,000 samples"}
    assert not any(seed.ended for seed in seeds)
    np.testing.assert_array_equal(seeds[0].samples, [0, 250, 500])


def test_an_early_stop_is_no_failure(run_folder: RunFolder, runs: Path) -> None:
    run_folder(steps=(0, 25, 50))  # with a result.json
    assert all(seed.failure is None for seed in groups(runs)["st_gumbel"].seeds)


def test_a_continued_run_that_died_is_unfinished(run_folder: RunFolder, runs: Path) -> None:
    folder = run_folder(steps=(0, 50, 100, 150), max_steps=200)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"steps": 100}))  # of the first part
    assert {s.failure for s in groups(runs)["st_gumbel"].seeds} == {"unfinished: 1,500 of 2,000 samples"}


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
def test_unreadable_files_are_one_line(run_folder: RunFolder, runs: Path, file: str, content: bytes, says: str) -> None:
    (run_folder() / file).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        collect([runs])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        collect([tmp_path / "missing"])
    with pytest.raises(InvalidInput, match="no run is here or below it"):
        collect([tmp_path])


def test_a_line_cut_off_by_a_crash_does_no_harm(run_folder: RunFolder, runs: Path) -> None:
    path = run_folder() / "metrics.csv"
    whole = groups(runs)["st_gumbel"]
    with path.open("a") as f:
        f.write("100,1000,4,val/regret,0.0")  # the beginning of 0.042
    assert [seed.final for seed in groups(runs)["st_gumbel"].seeds] == [seed.final for seed in whole.seeds]


def test_the_report_imports_no_torch() -> None:
    code = "import sys, selector.__main__, selector.report.command; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
