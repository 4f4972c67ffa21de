"""Fixtures of the whole suite."""

import os
from collections.abc import Iterator

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

# The tensors of the tests are small: a second thread brings nothing, and on a busy machine waiting for it costs a
# hundred times the work. Subprocesses inherit the variable, so that their sums have the same order.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# Triton's kernels run on the CPU, step by step, in its interpreter. Triton reads this when it is imported. On a machine
# with a GPU, TRITON_INTERPRET=0 runs the same tests there.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _no_hydra_left_behind() -> Iterator[None]:
    """Hydra's configuration is global: no test may see that of another."""
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture(autouse=True)
def _no_shared_wandb() -> Iterator[None]:
    """A subprocess would use the W&B service of this process, in which the run ids of other tests may be taken."""
    yield
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Streams are counters, as on a GPU; where the kernels run."""
    pytest.importorskip("triton", reason="needs Triton: pip install triton")
    from selector import counters

    device = torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")
    monkeypatch.setattr("selector.noise.streams", lambda keys, _: counters.Counters(keys, device))
    monkeypatch.setattr(counters, "_BLOCK", 2**13)  # the interpreter's time is per block
    return device
