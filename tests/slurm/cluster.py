"""A SLURM of its own for the tests: a controller and two virtual nodes on this machine, without systemd."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
NODES = ("n1", "n2")

# No munge, cgroups, accounting or MPI: nothing that a container lacks. A requeued job starts after seconds, because
# its old credential expires soon.
CONFIGURATION = """
ClusterName=selector-tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
SlurmctldPort={control}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
MpiDefault=none
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    missing = [program for program in PROGRAMS if _find(program) is None]
    return f"SLURM is not installed ({missing[0]}); apt-get install slurm-wlm" if missing else None


class Slurm:
    """A running cluster; its commands find it by ``environment``.

    Args:
        folder: configuration, state, logs and pid files.
        cpus: of each of the two nodes; more than the machine has is allowed.
    """

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        control, first, second = _free_ports(3)
        configuration = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], user=getpass.getuser(), folder=folder, cpus=cpus,
            control=control, first=first, second=second,
        )  # fmt: skip
        (folder / "slurm.conf").write_text(configuration)
        path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self.run("slurmctld", "-c", "-f", str(self.folder / "slurm.conf"))
        for node in NODES:
            self.run("slurmd", "-N", node, "-f", str(self.folder / "slurm.conf"))
        self.wait_until(lambda: self.run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES), 120)

    def run(self, *command: str) -> str:
        """A command of this cluster; its output."""
        program = _find(command[0])
        assert program is not None
        done = subprocess.run(
            [program, *command[1:]], env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Look twice a second whether ``condition`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; {self.run('squeue')}"
            time.sleep(0.5)

    def stop(self) -> None:
        """End all jobs and the daemons, by their pid files."""
        with suppress(AssertionError):
            for job in self.run("squeue", "-h", "-o", "%A").split():
                self.run("scancel", job)
            self.wait_until(lambda: not self.run("squeue", "-h"), 20)
        for file in (*(self.folder / f"slurmd-{node}.pid" for node in NODES), self.folder / "slurmctld.pid"):
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                pid = int(file.read_text())
                os.kill(pid, signal.SIGTERM)
                _wait_for_end(pid, 10)


def _find(program: str) -> str | None:
    """Debian keeps the daemons in /usr/sbin, which is not on everybody's path."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for_end(pid: int, seconds: float) -> None:
    """Until a process that may not be a child is gone; killed if it does not go."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.kill(pid, 0)  # ProcessLookupError: it is gone
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
