"""logger.mode=online where W&B cannot be reached: training starts soon and ends soon, and nothing is lost."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
import wandb

from selector.__main__ import main as command
from selector.logger import SeedWandb
from selector.recording import Record, read_history
from tests.e2e.test_resume import Crash, train_in
from tests.e2e.test_wandb_server import assert_same_numbers, run
from tests.support import ROOT, SHORT
from tests.wandb_server import KEY, WandbServer, wandb_server


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def lines_about_wandb(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().out.splitlines() if line.startswith("W&B ") and "sync" in line]


@pytest.mark.parametrize("how", ["no key", "bad key", "refuses", "hangs"])
def test_a_run_that_cannot_be_sent_trains_offline_and_says_so(
    how: str, clean: Path, silent: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if how != "no key":
        monkeypatch.setenv("WANDB_API_KEY", "too-short" if how == "bad key" else KEY)
    if how == "hangs":
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent}")
    began = time.monotonic()
    assert run(monkeypatch, *SHORT, "logger.mode=online", "seeds=2", "name=kept") == 0
    assert time.monotonic() - began < 60  # a hang is without end; what it takes is measured elsewhere
    (line,) = lines_about_wandb(capfd)
    reason = {"no key": "needs a W&B API key", "bad key": "needs a W&B API key", "refuses": "refused"}
    assert line.startswith("W&B is offline (")
    assert reason.get(how, "deadline") in line
    assert line.endswith("; send it later with: python -m selector sync outputs/kept")
    folders = sorted(path.name.split("-", 3)[3] for path in (clean / "outputs/wandb").glob("*run-*") if path.is_dir())
    assert folders == ["kept-seed0", "kept-seed1"], "nothing is left of the attempt"

    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()
        assert command(["sync", "outputs/kept"]) == 0
        for seed in (0, 1):
            assert_same_numbers(server.runs[f"kept-seed{seed}"], clean / "outputs/kept", seed)


@pytest.mark.parametrize("then", ["refuses", "hangs"])
def test_a_server_that_dies_while_the_run_goes_on(
    then: str, clean: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selector.logger._FINISH_WITHIN", 2.0)
    log = SeedWandb.log_seeds
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with ExitStack() as running, ExitStack() as afterwards:
        server = running.enter_context(wandb_server())
        monkeypatch.setenv("WANDB_BASE_URL", server.url)

        def die(self: SeedWandb, record: Record) -> None:
            log(self, record)
            if record.step == 10:
                running.close()
                if then == "hangs":
                    afterwards.enter_context(socket.create_server(("127.0.0.1", server.server_port)))

        monkeypatch.setattr(SeedWandb, "log_seeds", die)
        assert run(monkeypatch, *SHORT, "logger.mode=online", "seeds=2", "name=cut") == 0
        (line,) = lines_about_wandb(capfd)
        assert line == (
            "W&B does not answer (2 of 2 runs not sent in full); "
            "send it later with: python -m selector sync outputs/cut"
        )
        wandb.teardown()
    with wandb_server(server.server_port) as again:
        assert command(["sync", "outputs/cut"]) == 0
        for seed in (0, 1):
            assert_same_numbers(again.runs[f"cut-seed{seed}"], clean / "outputs/cut", seed)
        asked = len(again.requests)
        assert command(["sync", "outputs/cut"]) == 0
        assert len(again.requests) == asked, "nothing is left to send"


def test_rows_behind_the_checkpoint_are_not_sent_twice(server: WandbServer, clean: Path) -> None:
    """A run that crashes between two checkpoints repeats what it measured there."""
    options: dict[str, Any] = {"probe_every": 4}
    for attempt in range(3):
        logger = SeedWandb("crashed", [0, 1], {}, folder=clean / "outputs")
        crash = {"callbacks": [Crash(17)]} if attempt < 2 else {}
        with pytest.raises(RuntimeError, match="crash") if crash else nullcontext():
            train_in(clean / "run", [], loggers=[logger], resume=attempt > 0, **options, **crash)
        logger.close()
    assert command(["sync"]) == 0
    steps = [r.step for r in read_history(clean / "run/metrics.csv").records]
    for seed in (0, 1):
        # grad/... and val/... of the same step are rows of their own.
        assert sorted({row["step"] for row in server.runs[f"crashed-seed{seed}"].history}) == steps
        keys = [(row["step"], "val/regret" in row) for row in server.runs[f"crashed-seed{seed}"].history]
        assert len(set(keys)) == len(keys)


def test_by_default_nothing_is_sent_anywhere(clean: Path) -> None:
    """With an account, and every way out of this machine leading to a listener that counts who comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        way_out = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k.lower() != "no_proxy"}
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), way_out)
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), way_out)
        environment |= {"WANDB_API_KEY": KEY}
        command = [sys.executable, ROOT / "train.py", *SHORT, "name=quiet"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        assert (clean / "outputs/quiet/result.json").exists()
        assert list((clean / "outputs/wandb").glob("offline-run-*-quiet-seed0"))
        with pytest.raises(BlockingIOError):
            listening.accept()
