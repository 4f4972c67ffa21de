"""How this process gets the memory of large tensors. Importing this module does not import torch."""

import ctypes
import os
from contextlib import suppress

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Keep the memory of freed tensors for the next ones, in huge pages; called before torch is imported.

    A tensor of more than 32 MiB otherwise gets fresh pages from the system whenever it is made, and the system clears
    them one by one: with large problems on a CPU that is up to half of a training step. Does nothing where the C
    library is not glibc, and leaves alone what the environment says of the same (MALLOC_…, THP_MEM_ALLOC_ENABLE).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks the system for huge pages
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_MMAP_MAX, 0)  # no tensor is a mapping of its own …
        mallopt(_TRIM_THRESHOLD, -1)  # … and what is free at the end of the heap stays
