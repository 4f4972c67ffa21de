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
    assert faults(keep=False) > 100_000, "without, each of ten tensors has 16,384 pages of 4 KiB"
    assert faults(keep=True) < 20_000
    for asked in ({"THP_MEM_ALLOC_ENABLE": "0"}, {"THP_MEM_ALLOC_ENABLE": "0", "MALLOC_MMAP_MAX_": "65536"}):
        assert faults(keep=True, **asked) > 100_000, "what the environment says is left alone"
    assert faults(keep=True, MALLOC_ARENA_MAX="2") < 20_000, "which says nothing of this"


GROWTH = """
import resource
from selector.allocation import keep_memory
keep_memory()
import torch
torch.set_num_threads(1)
kept = []
for n in range(60):
    large = torch.ones(2**24)  # 64 MiB
    kept.append(torch.ones(25_000))
    del large
    if n == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize("asked", [{}, {"THP_MEM_ALLOC_ENABLE": "0"}, {"MALLOC_MMAP_MAX_": "65536"}])
def test_small_tensors_that_stay_do_not_make_the_heap_grow(asked: dict[str, str]) -> None:
    """5 MiB of them between fifty large ones, which take 64 MiB by turns: not 3 GiB."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "THP_"))}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], env={**clean, **asked}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 300
