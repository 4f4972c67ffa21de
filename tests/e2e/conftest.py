"""Fixtures of the tests that run W&B: an empty place to work in, and a stand-in of the server."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import wandb

from tests.wandb_server import KEY, WandbServer, wandb_server

LIMIT = 120  # seconds that a test may take; W&B itself waits without end for some answers


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the test took more than {LIMIT} s")


@pytest.fixture
def limited() -> Iterator[None]:
    """Ends a test that hangs, and again every few seconds: cleaning up may hang as well."""
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, LIMIT, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def clean(limited: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: ARG001
    """An empty working directory; W&B knows no key and no address, and remembers nothing of other tests."""
    for name in ("MODE", "DIR", "API_KEY", "IDENTITY_TOKEN_FILE", "ENTITY", "PROJECT", "SWEEP_ID", "RUN_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    home = tmp_path / "home"
    folder = tmp_path / "work"
    for path in (home, folder):
        path.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(home / name.lower()))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    # Where nobody listens: a test that asks for no server reaches none.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name in ("INIT_TIMEOUT", "FINISH_TIMEOUT"):
        monkeypatch.setenv(f"WANDB_{name}", "60")
    monkeypatch.chdir(folder)
    wandb.teardown()  # the settings of a process are read once
    yield folder
    wandb.teardown()


@pytest.fixture
def server(clean: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:  # noqa: ARG001 - comes first
    """The stand-in, and an account on it."""
    with wandb_server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running
        wandb.teardown()  # while the server is there to answer
    assert running.unknown == []
