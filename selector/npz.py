"""A .npz file that is written piece by piece, and is whole or absent."""

import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from selector.files import write_atomically

Array = np.ndarray[Any, np.dtype[Any]]


@contextmanager
def stream_npz(path: Path, arrays: Mapping[str, tuple[Sequence[int], str]]) -> Iterator[Callable[[str, Array], None]]:
    """Write arrays that may be larger than memory, several at a time.

    The pieces go to files without a name beside ``path``, which vanish with this process however it ends. When the
    block ends without an error they become one .npz file; until then nothing is at ``path``. For a moment the disk
    holds everything twice.

    Args:
        path: the file.
        arrays: name -> shape and dtype of the whole array.

    Yields:
        ``append(name, rows)``: the next rows of an array.
    """
    with ExitStack() as stack:
        pieces = {name: stack.enter_context(TemporaryFile(dir=path.parent)) for name in arrays}

        def append(name: str, rows: Array) -> None:
            pieces[name].write(np.ascontiguousarray(rows, arrays[name][1]).data)

        yield append
        with write_atomically(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, (shape, dtype) in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # without a date: the same picks are the same bytes
                with archive.open(entry, "w", force_zip64=True) as f:
                    header = {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
                    np.lib.format.write_array_header_1_0(f, header)
                    pieces[name].seek(0)
                    shutil.copyfileobj(pieces[name], f, 2**20)
