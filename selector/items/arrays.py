"""Arrays from .npy and .npz files, without numpy's own loader: nothing is unpickled, nothing large is set aside because
a header says so."""

import math
import os
import re
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from selector.untrusted import UnreadableFile, check_memory, listing, reason

Array = np.ndarray[Any, np.dtype[Any]]

_LONGEST_HEADER = 10_000  # numpy's own limit
_FIELD = re.compile(
    r"""\s*['"](?P<name>descr|fortran_order|shape)['"]\s*:\s*
    (?:['"](?P<text>[!#-&(-~]{1,64})['"]|(?P<flag>True|False)|\((?P<sizes>[\d,\s]{0,200})\))\s*(?:,|(?=\}))""",
    re.VERBOSE,
)
_NUMBERS = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_PIECE = 2**20


@dataclass(frozen=True)
class Header:
    """What a .npy file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array (Python integers do not overflow)."""
        return math.prod(self.shape) * self.dtype.itemsize


def map_npy(path: Path) -> Array:
    """The array of a .npy file, memory-mapped and read-only.

    Raises:
        UnreadableFile: when the file is not a whole .npy file of numbers.
    """
    with path.open("rb") as f:
        header, offset = read_header(f), f.tell()
        there = os.fstat(f.fileno()).st_size
    if there != offset + header.nbytes:
        raise UnreadableFile(f"its header announces {header.nbytes:,} bytes of data, {there - offset:,} are there")
    return np.memmap(path, header.dtype, "r", offset, header.shape, order="F" if header.fortran else "C")


def read_npz(path: Path, names: Collection[str]) -> dict[str, Array]:
    """The arrays of a .npz file, in memory.

    Args:
        path: the file.
        names: the arrays that it may hold.

    Raises:
        UnreadableFile: when it is not a whole .npz file of numbers, holds other arrays, or is too large.
    """
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [info.filename.removesuffix(".npy") for info in archive.infolist()]
            if not set(inside) <= set(names) or len(set(inside)) < len(inside):
                raise UnreadableFile(f"may hold {', '.join(names)}, each once; it has {listing(inside)}")
            for name, info in zip(inside, archive.infolist(), strict=True):
                # Other methods unpack any amount at once; numpy writes these two.
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UnreadableFile(f"{name} is compressed in a way that numpy never uses")
                with archive.open(info) as f:
                    found[name] = _unpack(f, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, KeyError) as error:
        # What zipfile and zlib raise of broken, encrypted and newer archives.
        raise UnreadableFile(f"is not a whole .npz file ({reason(error)})") from None
    return found


def read_header(f: IO[bytes]) -> Header:
    """Read the beginning of a .npy file, up to where its data begins.

    Raises:
        UnreadableFile: when it is none, or not one of numbers with one to three dims.
    """
    start = f.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise UnreadableFile("is not a .npy file")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(f.read(width), "little")
    text = f.read(length).decode("latin-1") if length <= _LONGEST_HEADER else ""
    if len(text) != length or not length:
        raise UnreadableFile("its header is cut off, or too long")
    return _parse(text)


def _parse(text: str) -> Header:
    fields: dict[str, re.Match[str]] = {}
    body = text.strip()
    position = 1
    while match := _FIELD.match(body, position):
        fields[match["name"]] = match
        position = match.end()
    kind = fields["descr"]["text"] if "descr" in fields else None
    if "descr" not in fields and re.search(r"['\"]descr['\"]\s*:\s*\[", body):
        raise UnreadableFile("holds records; must be an array of numbers")
    flag = fields["fortran_order"]["flag"] if "fortran_order" in fields else None
    sizes = fields["shape"]["sizes"] if "shape" in fields else None
    whole = body.startswith("{") and body[position:].strip() == "}"
    if kind is None or flag is None or sizes is None or not whole:
        raise UnreadableFile("its header is not that of a .npy file")
    if "O" in kind:
        raise UnreadableFile("holds Python objects, which are never unpickled; must be an array of numbers")
    if not _NUMBERS.fullmatch(kind):
        raise UnreadableFile(f"holds elements of type {kind}; must be whole numbers or floats of at most 64 bits")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip().isdigit() and len(size.strip()) < 19)
    if len(shape) != len([size for size in sizes.split(",") if size.strip()]):
        raise UnreadableFile("its header gives an impossible shape")
    if not 1 <= len(shape) <= 3:
        raise UnreadableFile(f"must be [lists, N, D]; it has {len(shape)} dims")
    if 0 in shape:
        raise UnreadableFile(f"is empty: its shape is {_shape(shape)}")
    return Header(shape, np.dtype(kind), flag == "True")


def _unpack(f: IO[bytes], name: str) -> Array:
    """One array of a .npz file. Memory is taken as data arrives, whatever the header says."""
    try:
        header = read_header(f)
    except UnreadableFile as error:
        raise UnreadableFile(f"{name} {error}") from None
    check_memory(header.nbytes)
    data = bytearray()
    while len(data) <= header.nbytes and (piece := f.read(_PIECE)):
        data += piece
    if len(data) != header.nbytes:
        raise UnreadableFile(f"{name} does not hold the {header.nbytes:,} bytes that its header announces")
    flat: Array = np.frombuffer(data, header.dtype)
    return flat.reshape(header.shape, order="F") if header.fortran else flat.reshape(header.shape)


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
