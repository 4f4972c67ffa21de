"""Memory of freed tensors is kept: the system hands out no new pages for the next ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource
from selector.allocation import keep_memory
if {keep}:
    keep_memory()
import torch
torch.set_num_threads(1)
for n in range(12):
    torch.ones(2**24)  # 64 MiB
    if n == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool, **environment: str) -> int:
    """Pages that the system had to give for ten tensors, after two of the same size were freed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "THP_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def huge_pages_always() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.is_file() and "[always]" in setting.read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.skipif(huge_pages_always(), reason="every page here is a huge one, and few are needed in any case")
def test_tensors_of_a_size_take_over_each_others_memory() -> None:
    assert faults(keep=False) > 10_000, "without, every tensor has 16,384 pages of 4 KiB"
    assert faults(keep=True) < 1000
    asked = {"MALLOC_MMAP_MAX_": "65536", "THP_MEM_ALLOC_ENABLE": "0"}
    assert faults(keep=True, **asked) > 10_000, "what the environment says is left alone"
