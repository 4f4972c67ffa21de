"""Item lists from a file, whatever its format: in memory, or memory-mapped where it is a .npy file.

Shape legend: L lists · T items of all lists together · N items in a list · D features per item · C features per list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selector.errors import InvalidInput
from selector.items.arrays import Array, map_npy, read_npz
from selector.items.tables import Columns, Table, read_csv, read_parquet
from selector.untrusted import UnreadableFile, check_file, check_memory

ARRAYS = ("items", "mask", "context")


@dataclass(frozen=True)
class Lists:
    """L lists of items, one behind the other.

    Attributes:
        path: the file.
        rows: ``[T, D]`` numbers of any kind, perhaps memory-mapped. Read them with :meth:`read`.
        start: ``[L + 1]`` int64, where each list begins in ``rows``; None: every list has N items.
        N: items of the longest list.
        allowed: ``[T]`` bool, which places hold an item at all; None is all. The others may hold anything.
        context: ``[L, C]`` float32, features of a list as a whole; None where C is 0.
        columns: the columns that a table was read from; None for arrays.
        ids: ``[L]``, what a table calls its lists; None for arrays.
    """

    path: Path
    rows: Array
    start: Array | None
    N: int
    allowed: Array | None = None
    context: Array | None = None
    columns: Columns | None = None
    ids: Array | None = None

    def __len__(self) -> int:
        return len(self.rows) // self.N if self.start is None else len(self.start) - 1

    @property
    def D(self) -> int:
        """Features of an item."""
        return int(self.rows.shape[1])

    @property
    def C(self) -> int:
        """Features of a list as a whole."""
        return 0 if self.context is None else int(self.context.shape[1])

    def begin(self, one: int) -> int:
        """Where list ``one`` begins in ``rows``; for ``one = L``, where the last list ends."""
        return one * self.N if self.start is None else int(self.start[one])

    def lengths(self, first: int, last: int) -> Array:
        """Items of the lists ``first … last − 1``, ``[last − first]`` int64; places that hold none are counted."""
        if self.start is None:
            return np.full(last - first, self.N)
        return np.asarray(np.diff(self.start[first : last + 1]))

    def read(self, first: int, last: int) -> Array:
        """The items of the lists ``first … last − 1``: ``[their number, D]`` float32, 0 where there is no item.

        Raises:
            InvalidInput: naming the first item with a feature that is not a finite 32-bit number.
        """
        begin, end = self.begin(first), self.begin(last)
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.rows[begin:end].astype(np.float32)
        finite = np.isfinite(values)
        if self.allowed is not None:
            holds = self.allowed[begin:end]
            finite |= ~holds[:, None]
            values[~holds] = 0.0
        if not finite.all():
            row, feature = np.argwhere(~finite)[0].tolist()
            where = [*divmod(begin + row, self.N), feature]
            given = self.rows[begin + row, feature]
            raise InvalidInput("path", self.path, f"items{where} is {given}; must be a finite 32-bit number")
        return values

    def fewest(self) -> int:
        """Items of the shortest list."""
        if self.allowed is not None:
            return int(self.allowed.reshape(-1, self.N).sum(1).min())
        return self.N if self.start is None else int(np.diff(self.start).min())


def read_lists(
    path: Path,
    list_id: str | None = None,
    features: Sequence[str] | None = None,
    context: Sequence[str] | None = None,
) -> Lists:
    """Read item lists.

    - ``.npy``: an array [lists, N, D] of whole numbers or floats. It is memory-mapped: it may be larger than memory.
    - ``.npz``: ``items`` [lists, N, D], and where needed ``mask`` [lists, N], true where there is an item, and
      ``context`` [lists, C].
    - ``.csv``, ``.parquet``: a row for every item, a column that names its list. The lists are in the order in which
      they first appear, the items of a list in the order of their rows.

    Args:
        path: the file.
        list_id: tables only: the column that says which list an item belongs to.
        features: tables only: the D feature columns; None: all but ``list_id`` and ``context``.
        context: tables only: the C columns that are the same for all items of a list; None: none.

    Raises:
        InvalidInput: for anything but a whole file of at least one list, and for items in the file's memory that are
            not finite. Those of arrays are checked when they are read.
    """
    check_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".parquet"):
            table = (read_csv if suffix == ".csv" else read_parquet)(path, list_id, features, context)
            return _group(path, table)
        if suffix not in (".npy", ".npz"):
            raise UnreadableFile("must end in .npy, .npz, .csv or .parquet")
        for key, value in (("list_id", list_id), ("features", features), ("context", context)):
            if value is not None:
                given = value if isinstance(value, str) else list(value)
                raise InvalidInput(key, given, f"is for columns of .csv and .parquet files; this is a {suffix} file")
        if suffix == ".npy":
            return _dense(path, {"items": map_npy(path)})
        return _dense(path, read_npz(path, ARRAYS))
    except UnreadableFile as error:
        raise InvalidInput("path", path, str(error)) from None
    except (OSError, MemoryError) as error:
        raise InvalidInput("path", path, f"cannot be read ({error})") from None


def _dense(path: Path, arrays: dict[str, Array]) -> Lists:
    """Lists from arrays ``items [L, N, D]``, ``mask [L, N]`` and ``context [L, C]``."""
    if "items" not in arrays:
        raise UnreadableFile("has no array named items")
    items, mask, context = (arrays.get(name) for name in ARRAYS)
    assert items is not None
    if items.ndim != 3:
        hint = "; an item that is one number is x[..., None]" if items.ndim == 2 else ""
        raise UnreadableFile(f"must be [lists, N, D]; it has shape {list(items.shape)}{hint}")
    L, N, D = items.shape
    if mask is not None:
        if mask.dtype != np.bool_ or mask.shape != (L, N):
            raise UnreadableFile(f"mask must be bool {[L, N]}; it is {mask.dtype} {list(mask.shape)}")
        empty = ~mask.any(1)
        if empty.any():
            raise UnreadableFile(f"list {int(empty.argmax())} is empty: its mask is false throughout")
    if context is not None:
        if context.ndim != 2 or len(context) != L:
            raise UnreadableFile(f"context must be [{L}, C]; it has shape {list(context.shape)}")
        with np.errstate(over="ignore"):
            context = context.astype(np.float32)
        if not np.isfinite(context).all():
            where = np.argwhere(~np.isfinite(context))[0].tolist()
            raise UnreadableFile(f"context{where} must be a finite 32-bit number")
    if not items.flags.c_contiguous:  # stored column by column, as Fortran does: an item is all over the file
        check_memory(items.nbytes)
        items = np.ascontiguousarray(items)
    allowed = None if mask is None else mask.reshape(-1)
    return Lists(path, items.reshape(L * N, D), None, N, allowed, context)


def _group(path: Path, table: Table) -> Lists:
    """Lists from a long table: rows of the same id belong together, wherever they stand."""
    if not table.ids:
        raise UnreadableFile("has no items")
    D = len(table.columns.features)
    number: dict[object, int] = {}
    group = np.fromiter((number.setdefault(one, len(number)) for one in table.ids), np.int64, len(table.ids))
    order = group.argsort(kind="stable")
    start = np.zeros(len(number) + 1, np.int64)
    np.cumsum(np.bincount(group), out=start[1:])
    first = order[start[:-1]]
    context = None
    if table.columns.context:
        shared = table.values[:, D:]
        context = shared[first]
        differs = (shared != context[group]).any(1)
        if differs.any():
            row = int(differs.argmax())
            column = table.columns.context[int((shared[row] != context[group[row]]).argmax())]
            other = table.place(int(first[group[row]]))
            raise UnreadableFile(
                f"{table.place(row)}: context column {column} differs from {other}, which is of the same list"
            )
    ids = list(number)
    whole = all(isinstance(one, int) and abs(one) < 2**63 for one in ids)
    return Lists(
        path,
        np.ascontiguousarray(table.values[order, :D]),
        start,
        int(np.diff(start).max()),
        context=context,
        columns=table.columns,
        ids=np.array(ids, np.int64) if whole else np.array([str(one) for one in ids]),
    )
