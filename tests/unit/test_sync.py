"""Which offline runs belong to a run folder. That they are sent is tested against a server, in e2e."""

from pathlib import Path

import pytest

from selector.__main__ import main
from selector.sync import find_offline


def offline(root: Path, time: str, run_id: str, sent: bool = False) -> str:
    """A folder as W&B leaves it; returns its name."""
    folder = root / "outputs" / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").touch()
    if sent:
        (folder / f"run-{run_id}.wandb.synced").touch()
    return folder.name


def run_folder(root: Path, path: str, mode: str = "RUN", result: str | None = None) -> None:
    """A run folder as train.py leaves it; one that was cut off has no result."""
    folder = root / path
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  mode: {mode}\n")
    if result is not None:
        (folder / "result.json").write_text(f'{{"name": "{result}"}}')


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *folders: str) -> list[str]:
    """What ``sync --dry-run`` would send."""
    assert main(["sync", *folders, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.rsplit("/", 1)[1] for line in lines if line.startswith("would send outputs/wandb/")]


def test_a_run_is_found_by_its_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(root, "outputs/a")
    run_folder(root, "outputs/a-seed1")
    run_folder(root, "elsewhere", result="b c")  # hydra.run.dir may be anything; W&B allows no blank in an id
    run_folder(root, "outputs/sweep/0-x", mode="MULTIRUN")
    run_folder(root, "outputs/sweep/1-y", mode="MULTIRUN", result="sweep-1-y")
    first = [offline(root, "20260102_000000", f"a-seed{seed}") for seed in (0, 1)]
    again = offline(root, "20260103_000000", "a-seed0")  # resumed: sent after the first
    other = offline(root, "20260101_000000", "a-seed1-seed0")
    blank = offline(root, "20260101_000000", "b-c-all-seeds")
    jobs = [offline(root, f"2026010{n}_000000", f"sweep-{job}-seed0") for n, job in ((4, "0-x"), (5, "1-y"))]
    assert listed(capsys, "outputs/a") == [*first, again]
    assert listed(capsys, "outputs/a-seed1") == [other]
    assert listed(capsys, "elsewhere") == [blank]
    assert listed(capsys, "outputs/sweep/0-x") == jobs[:1]
    assert listed(capsys, "outputs/sweep") == jobs
    assert listed(capsys) == [other, blank, *first, again, *jobs]


def test_what_was_sent_is_not_sent_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offline(root, "20260101_000000", "a-seed0", sent=True)
    left = offline(root, "20260101_000000", "a-seed1")
    assert listed(capsys) == [left]


def test_a_folder_without_a_log_is_no_run(root: Path) -> None:
    (root / "offline-run-20260101_000000-empty-seed0").mkdir()
    assert find_offline(root, None) == []


@pytest.mark.parametrize(
    ("folders", "line"),
    [
        (["nowhere"], "error: run=nowhere: no such folder"),
        (["outputs"], "error: run=outputs: no run is here"),
        (["run"], "error: sync=run: no offline runs of it are in outputs/wandb"),
        ([], "error: sync=outputs/wandb: no offline runs"),
        (["broken"], "error: run="),
    ],
)
def test_what_cannot_be_sent_is_one_line(
    folders: list[str], line: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "outputs").mkdir()
    run_folder(root, "run")
    (root / "broken" / ".hydra").mkdir(parents=True)
    assert main(["sync", *folders]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1
