"""Which of the processes that train together this one is. Importing this module does not import torch."""

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def is_lead() -> bool:
    """Whether this is the process that writes: the only one, or the first of those that were started together.

    Lightning numbers its processes in LOCAL_RANK (and NODE_RANK), torchrun in RANK, SLURM in SLURM_PROCID.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


def end_with(parent: int) -> None:
    """Have this process killed when the process ``parent`` that forked it ends, however it ends; Linux only.

    Else it would train on, and keep the lock of the run folder that it was born with. In ``parent`` itself this does
    nothing.

    Args:
        parent: its process id.
    """
    if os.getpid() == parent or sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, see prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)


def cluster_plugins() -> list[Any]:
    """Plugins for Lightning's Trainer that say who starts the processes; without any it finds out by itself.

    Inside SLURM Lightning would take a job of one task for one of several, and requeue jobs that are others' to
    requeue.
    """
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if "SLURM_JOB_ID" not in os.environ or TorchElasticEnvironment.detect():
        return []
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()]


def mean_over_processes(value: "Tensor") -> "Tensor":
    """The mean of a tensor over the processes that split every batch; what is not differentiated. Any shape."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
