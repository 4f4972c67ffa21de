"""The record of a run: what was measured, when, for every seed; in memory and as metrics.csv. Imports no torch.

Shape legend: R seeds trained side by side.
"""

import csv
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selector.errors import InvalidInput
from selector.files import write_atomically
from selector.untrusted import reason

HEADER = ["step", "samples", "seed", "key", "value"]


@dataclass(frozen=True)
class Record:
    """All metrics of one moment: key -> one number per seed."""

    step: int
    samples: int
    values: dict[str, list[float]]


@dataclass
class History:
    """Records in the order of their steps, mirrored to a csv file in long format (step, samples, seed, key, value).

    Args:
        seeds: the R seeds.
        path: the csv file; None keeps the history in memory only.
        records: what is in it already.
        required: whether an error in writing the file is raised; if not, the next record tries to write all of it.
    """

    seeds: Sequence[int]
    path: Path | None = None
    records: list[Record] = field(default_factory=list)
    required: bool = True
    _behind: bool = field(default=False, repr=False)

    def start(self) -> None:
        """Begin an empty file."""
        self._write_all()

    def resume(self, step: int) -> None:
        """Continue a file that another process began: what it recorded after ``step`` is dropped."""
        if self.path is not None and self.path.exists():
            self.records = [r for r in read_history(self.path).records if r.step <= step]
        self._write_all()

    def append(self, record: Record) -> None:
        """Add a record, and its rows to the file at once."""
        self.records.append(record)
        if self.path is None:
            return
        try:
            if self._behind:
                self._write_all()
            else:
                with self.path.open("a", newline="") as f:
                    csv.writer(f).writerows(self._rows(record))
                    f.flush()
                    os.fsync(f.fileno())  # a checkpoint that outlives a power cut needs the records before it
            self._behind = False
        except OSError:
            if self.required:
                raise
            self._behind = True

    def series(self, key: str) -> tuple[list[int], list[list[float]]]:
        """(samples, values per seed) of every record that has ``key``."""
        found = [r for r in self.records if key in r.values]
        return [r.samples for r in found], [r.values[key] for r in found]

    def seconds_at(self, step: int) -> float:
        """Training time until ``step``."""
        done = [r for r in self.records if r.step <= step and "seconds" in r.values]
        return max((r.values["seconds"][0] for r in done), default=0.0)

    def _rows(self, record: Record) -> list[list[Any]]:
        return [
            [record.step, record.samples, seed, key, repr(value)]
            for key, values in record.values.items()
            for seed, value in zip(self.seeds, values, strict=True)
        ]

    def _write_all(self) -> None:
        if self.path is None:
            return
        with write_atomically(self.path) as temporary, temporary.open("w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(HEADER)
            for record in self.records:
                writer.writerows(self._rows(record))


def given_history(path: Path) -> History:
    """:func:`read_history` for a run that a user named.

    Raises:
        InvalidInput: naming the file, when it cannot be read.
    """
    try:
        return read_history(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInput("run", path, f"cannot be read: {reason(error)}") from None


def read_history(path: Path, keys: Collection[str] | None = None) -> History:
    """Read a metrics.csv; an incomplete last line, as a crash leaves it, is ignored.

    Args:
        path: the file.
        keys: which metrics to keep; None keeps all.

    Raises:
        ValueError: when the file is not a metrics.csv.
    """
    seeds: dict[int, None] = {}  # in the order of their first appearance
    found: dict[int, tuple[int, dict[str, dict[int, float]]]] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    # A last line without its end may hold half a number, which would be read as another number.
    rows = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    if next(rows, None) != HEADER:
        raise ValueError(f"{path} does not start with {','.join(HEADER)}")
    for row in rows:
        try:
            key = row[3]
            if keys is not None and key not in keys:
                continue
            step, samples, seed, value = int(row[0]), int(row[1]), int(row[2]), float(row[4])
        except (ValueError, IndexError):
            continue
        seeds[seed] = None
        found.setdefault(step, (samples, {}))[1].setdefault(key, {})[seed] = value
    records = []
    for step, (samples, metrics) in sorted(found.items()):
        complete = {key: [v[s] for s in seeds] for key, v in metrics.items() if len(v) == len(seeds)}
        records.append(Record(step, samples, complete))
    return History(list(seeds), path, records)
