"""Processes that train together."""

import os
import select
import signal
import subprocess
import sys

import pytest

FORK = """
import os, time
from selector.processes import end_with
parent = os.getpid()
end_with(parent)
if os.fork() == 0:
    end_with(parent)
    print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_forked_process_ends_with_the_one_that_forked_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", FORK], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    readable, _, _ = select.select([process.stdout], [], [], 60)  # the pipe ends when both have
    assert readable, "the forked process lives on"
    assert process.stdout.read() == b""
    process.stdout.close()
