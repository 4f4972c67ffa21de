"""How this process gets the memory of large tensors. Importing this module does not import torch."""

import ctypes
import os
from contextlib import suppress

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_ASKED = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_memory() -> None:
    """Keep the memory of freed tensors for the next ones, in huge pages; called before torch is imported.

    A tensor of more than 32 MiB otherwise gets fresh pages from the system whenever it is made, and the system clears
    them one by one: with large problems on a CPU that is up to half of a training step. The price is that a process
    never gives back what it once took. Does nothing where the C library is not glibc, or where the environment says
    something else of the same: THP_MEM_ALLOC_ENABLE=0 switches it off.
    """
    # Torch asks the system for huge pages, and aligns tensors to them. Without that a freed tensor is a little too
    # small for the next one of its size, and the heap would grow without end.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if os.environ["THP_MEM_ALLOC_ENABLE"] != "1" or any(name in os.environ for name in _ASKED):
        return
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_MMAP_MAX, 0)  # no tensor is a mapping of its own …
        mallopt(_TRIM_THRESHOLD, -1)  # … and what is free at the end of the heap stays
