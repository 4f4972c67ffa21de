"""Long tables from .csv and .parquet files: one row for every item, a column that says which list it belongs to."""

import csv
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selector.errors import InvalidInput
from selector.items.arrays import Array
from selector.untrusted import UnreadableFile, check_memory, listing, reason

LARGEST = float(np.finfo(np.float32).max)
_LONGEST_ID = 256  # ids become a numpy array, in which every one takes as much room as the longest


@dataclass(frozen=True)
class Columns:
    """Which columns of a long table mean what.

    Attributes:
        list_id: the column that says which list an item belongs to.
        features: the D columns that are an item's features, in this order.
        context: the C columns that are the same for all items of a list.
    """

    list_id: str
    features: tuple[str, ...]
    context: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A long table with T rows.

    Attributes:
        columns: which columns were read.
        ids: T list ids, text or whole numbers.
        values: ``[T, D + C]`` float32, features and then context.
        place: says where a row stands in the file, in words.
    """

    columns: Columns
    ids: list[Any]
    values: Array
    place: "Place"


@dataclass(frozen=True)
class Place:
    """Where rows stand in their file: the line of every row, or None if they are counted from 1."""

    lines: "array[int] | None"

    def __call__(self, row: int) -> str:
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def choose(
    there: Sequence[str], list_id: str | None, features: Sequence[str] | None, context: Sequence[str] | None
) -> Columns:
    """Match the columns that were asked for with those that are there.

    Args:
        there: the table's columns.
        list_id: the column of list ids; None: not said, which is refused with what there is.
        features: the feature columns; None: all that are neither list id nor context.
        context: the context columns; None: none.

    Raises:
        InvalidInput: naming the option that is missing, or whose column is.
    """
    if list_id is None:
        raise InvalidInput("list_id", None, f"must be the column of list ids; the file has {listing(there)}")
    shared = tuple(context or ())
    own = tuple(name for name in there if name not in (list_id, *shared)) if features is None else tuple(features)
    for key, names in (("list_id", (list_id,)), ("features", own), ("context", shared)):
        for name in names:
            if name not in there:
                raise InvalidInput(key, name, f"no such column; the file has {listing(there)}")
    if not own:
        raise InvalidInput("features", list(own), "must be one column at least")
    every = (list_id, *own, *shared)
    if len(set(every)) < len(every):
        twice = next(name for name in every if every.count(name) > 1)
        raise InvalidInput("features", twice, "a column can be only one of list_id, features, context, and once")
    return Columns(list_id, own, shared)


def read_csv(path: Path, list_id: str | None, features: Sequence[str] | None, context: Sequence[str] | None) -> Table:
    """Read a .csv file: UTF-8, commas, column names in the first line.

    Raises:
        InvalidInput: as for :func:`choose`.
        UnreadableFile: naming the line that is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f, strict=True)
            header = next((row for row in reader if row), [])
            _check_names(header)
            columns = choose(header, list_id, features, context)
            id_at = header.index(columns.list_id)
            value_at = [header.index(name) for name in (*columns.features, *columns.context)]
            ids, lines, values = [], array("q"), array("d")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UnreadableFile(f"line {reader.line_num} has {len(row)} fields, the header {len(header)}")
                ids.append(_check_id(row[id_at], f"line {reader.line_num}", columns.list_id))
                lines.append(reader.line_num)
                for at in value_at:
                    values.append(_number(row[at], reader.line_num, header[at]))
    except UnicodeDecodeError:
        raise UnreadableFile("is not UTF-8 text") from None
    except csv.Error as error:
        raise UnreadableFile(f"line {reader.line_num}: {reason(error)}") from None
    block = np.frombuffer(values, np.float64).astype(np.float32) if values else np.empty(0, np.float32)
    return Table(columns, ids, block.reshape(-1, len(value_at)), Place(lines))


def read_parquet(
    path: Path, list_id: str | None, features: Sequence[str] | None, context: Sequence[str] | None
) -> Table:
    """Read the columns needed of a .parquet file.

    Raises:
        InvalidInput: as for :func:`choose`, and when pyarrow is not installed.
        UnreadableFile: naming the row that is wrong.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InvalidInput("path", path, 'pyarrow is not installed; pip install "selector[parquet]"') from None

    with _arrow_errors():
        # Extension types are code named by the file: they stay the plain columns that they are stored as.
        file = pq.ParquetFile(path, arrow_extensions_enabled=False)
        schema, T = file.schema_arrow, file.metadata.num_rows
    _check_names(schema.names)
    columns = choose(schema.names, list_id, features, context)
    names = (*columns.features, *columns.context)
    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise UnreadableFile(f"column {listing([name])} holds {kind}; must hold numbers")
    kind = schema.field(columns.list_id).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UnreadableFile(f"column {listing([columns.list_id])} holds {kind}; list ids must be text or integers")
    check_memory(T * (4 * len(names) + 64))
    ids: list[Any] = []
    blocks = []
    with _arrow_errors():
        for batch in file.iter_batches(batch_size=65_536, columns=[columns.list_id, *names]):
            row = len(ids)
            for at, one in enumerate(batch.column(columns.list_id).to_pylist()):
                ids.append(_check_id(one, f"row {row + at + 1}", columns.list_id))
            blocks.append(np.stack([_float32(batch.column(name), name, row) for name in names], 1))
    if len(ids) != T:
        raise UnreadableFile(f"announces {T:,} rows and holds {len(ids):,}")
    values = np.concatenate(blocks) if blocks else np.empty((0, len(names)), np.float32)
    return Table(columns, ids, values, Place(None))


@contextmanager
def _arrow_errors() -> Iterator[None]:
    """pyarrow raises half a dozen kinds of exceptions of broken files."""
    try:
        yield
    except (InvalidInput, UnreadableFile):
        raise
    except Exception as error:
        raise UnreadableFile(f"is not a whole .parquet file ({reason(error)})") from None


def _float32(column: Any, name: str, row: int) -> Array:
    """A column of a record batch that begins at ``row``."""
    empty = np.asarray(column.is_null())
    if empty.any():
        raise UnreadableFile(f"row {row + int(empty.argmax()) + 1}: column {listing([name])} is empty")
    with np.errstate(over="ignore"):
        values = np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.float32)
    broken = ~np.isfinite(values)
    if broken.any():
        at = int(broken.argmax())
        raise UnreadableFile(
            f"row {row + at + 1}: column {listing([name])} is {column[at].as_py()}; must be a finite 32-bit number"
        )
    return values


def _number(text: str, line: int, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        what = repr(text[:20]) if text.strip() else "empty"
        raise UnreadableFile(f"line {line}: column {listing([name])} is {what}; must be a number") from None
    if not -LARGEST <= value <= LARGEST:  # NaN is not either
        raise UnreadableFile(
            f"line {line}: column {listing([name])} is {text.strip()[:20]}; must be a finite 32-bit number"
        )
    return value


def _check_id(one: Any, where: str, name: str) -> Any:
    if one is None or (isinstance(one, str) and not one.strip()):
        raise UnreadableFile(f"{where}: column {listing([name])} is empty; every item needs a list id")
    if isinstance(one, str):
        if len(one) > _LONGEST_ID:
            raise UnreadableFile(f"{where}: a list id is longer than {_LONGEST_ID} characters")
        return sys.intern(one)  # ids repeat in every row of their list
    return one


def _check_names(header: Sequence[str]) -> None:
    """Refuse tables without column names, or with a name twice."""
    if not header:
        raise UnreadableFile("is empty")
    if len(set(header)) < len(header):
        twice = next(name for name in header if list(header).count(name) > 1)
        raise UnreadableFile(f"has two columns named {listing([twice])}")
    if all(_is_number(name) for name in header):
        raise UnreadableFile("has no column names; the first line must hold them")


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
