"""Item lists of your own, from a file.

Shape legend: `*` any leading dims · L lists · V held-out lists · T items of all lists · N items in a list ·
D features per item · C features per list.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from selector.batch import Batch
from selector.errors import InvalidInput
from selector.items.arrays import Array
from selector.items.generators import Items
from selector.items.lists import Lists, read_lists
from selector.noise import Noise, derive_seed
from selector.scaling import Scale
from selector.untrusted import check_file

# Bytes of float32 items up to which a file lives on the device. Beyond, every batch is gathered from the file.
RESIDENT = 2**30
# Numbers that one piece of a pass over the file may hold: 16 MiB of float32.
_PIECE = 2**22


class File(Items):
    """Lists from a .npy, .npz, .csv or .parquet file; see :func:`selector.items.lists.read_lists`.

    Some of the lists are held out. Training draws from the others, each as likely as any other in every draw, so that
    a seed's lists depend on its own stream alone. Lists shorter than N are padded with zeros and masked.

    A relative path is relative to the working directory. The file is read whole once, in pieces, to check it and to
    find mean and std; a .npy file of more than 1 GiB stays on disk.

    Args:
        path: the file.
        list_id: tables only: the column that says which list an item belongs to.
        features: tables only: the feature columns; None: all others.
        context: tables only: columns that are the same for all items of a list; None: none.
        validation: share of the lists that are held out, in (0, 1).
        split_seed: chooses which.
        standardise: whether networks read (x − mean) / std, from the items of the training lists. Picks and critics
            keep to the numbers in the file.
        N: items in a list that the problem wants, at least as many as the longest list has; None: known when lists
            are drawn.
        D: features that the problem wants; None: known when lists are drawn.
        C: features of a list that the problem wants; None: known when lists are drawn.

    Raises:
        InvalidInput: for a file that is no whole one of these, holds a number that is not finite (with its place), or
            does not fit N, D and C, and for a split that leaves no list on one side.
    """

    def __init__(
        self,
        path: Path | str,
        list_id: str | None = None,
        features: Sequence[str] | None = None,
        context: Sequence[str] | None = None,
        validation: float = 0.2,
        split_seed: int = 0,
        standardise: bool = True,
        N: int | None = None,
        D: int | None = None,
        C: int | None = None,
    ) -> None:
        if not 0 < validation < 1:
            raise InvalidInput("validation", validation, "must be a share of the lists in (0, 1)")
        path = Path(path)
        found = check_file(path)
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        columns = tuple(None if names is None else tuple(names) for names in (features, context))
        prepared = _prepare(path.absolute(), path, stamp, list_id, *columns, validation, split_seed)
        self.lists, self._training, self._validation = prepared.lists, prepared.training, prepared.validation
        self.fewest = self.lists.fewest()
        read = self.lists.columns
        if read is not None:
            self.columns = {"list_id": read.list_id, "features": [*read.features], "context": [*read.context]}
        self.checksum = prepared.checksum
        self.scale = prepared.scale() if standardise else None
        self._resident: dict[torch.device, _Resident] = {}
        self._check(N, D, C)

    def _check(self, N: int | None, D: int | None, C: int | None) -> None:
        ours = self.lists
        fits = (N is None or N >= ours.N) and D in (None, ours.D) and C in (None, ours.C)
        if not fits:
            context = f" and {ours.C} of the list" if ours.C else ""
            raise InvalidInput(
                "path",
                ours.path,
                f"its lists have up to {ours.N} items with {ours.D} features{context}; "
                f"use problem.N={ours.N} problem.D={ours.D} problem.C={ours.C}",
            )

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        *lead, N, D = shape
        self._check(N, D, None)
        here = self._on(noise.device)
        return here.take(here.training[noise.integers(len(here.training), lead)], N)

    def held_out(self, shape: Sequence[int], noise: Noise) -> Batch:
        """The first V held-out lists in an order that ``split_seed`` fixes; nothing is drawn."""
        V, N, D = shape
        self._check(N, D, None)
        here = self._on(noise.device)
        return here.take(torch.from_numpy(self._validation[:V]).to(noise.device), N)

    def _on(self, device: torch.device) -> "_Resident":
        if device not in self._resident:
            self._resident[device] = _Resident(self.lists, self._training, device)
        return self._resident[device]


@dataclass(frozen=True)
class _Prepared:
    """A file that was checked and split; ``moments`` are mean and std of items and context, ``checksum`` of both."""

    lists: Lists
    training: Array
    validation: Array
    moments: tuple[Array, ...]
    checksum: int

    def scale(self) -> Scale:
        return Scale(*(torch.from_numpy(values) for values in self.moments))


@functools.lru_cache(maxsize=1)  # a run builds its items twice: once to check them, once to train
def _prepare(
    _: Path,  # absolute: where the same relative path is another file
    path: Path,
    stamp: tuple[int, ...],  # noqa: ARG001 - another file under the same name
    list_id: str | None,
    features: Sequence[str] | None,
    context: Sequence[str] | None,
    validation: float,
    split_seed: int,
) -> _Prepared:
    lists = read_lists(path, list_id, features, context)
    L = len(lists)
    V = min(max(1, round(validation * L)), L - 1)
    if V < 1:
        raise InvalidInput("path", path, f"has {L} list; one to train on and one to validate with are needed")
    order = np.random.default_rng(derive_seed(split_seed, "split")).permutation(L)
    training = np.zeros(L, np.bool_)
    training[order[V:]] = True
    return _Prepared(lists, np.flatnonzero(training), order[:V], *_survey(lists, training))


def _survey(lists: Lists, training: Array) -> tuple[tuple[Array, ...], int]:
    """Check every item of the file; mean and std over the items, and over the contexts, of the training lists.

    Mean and squared deviation of the pieces are merged by the formula of Chan, Golub and LeVeque (1979): a sum of
    squares would lose all digits where the mean is large.
    """
    count, mean, squared = 0, np.zeros(lists.D), np.zeros(lists.D)
    checksum = 0 if lists.start is None else zlib.crc32(lists.start.tobytes())
    L, step = len(lists), max(1, _PIECE // (lists.N * lists.D))
    for first in range(0, L, step):
        last = min(L, first + step)
        values = lists.read(first, last)
        checksum = zlib.crc32(values.data, checksum)
        here = np.repeat(training[first:last], lists.lengths(first, last))
        if lists.allowed is not None:
            here &= lists.allowed[lists.begin(first) : lists.begin(last)]
        piece = values[here].astype(np.float64)
        if not len(piece):
            continue
        own, total = piece.mean(0), count + len(piece)
        squared += np.square(piece - own).sum(0) + np.square(own - mean) * (count * len(piece) / total)
        mean += (own - mean) * (len(piece) / total)
        count = total
    items = (mean, np.sqrt(squared / count))
    if lists.context is None:
        return items, checksum
    checksum = zlib.crc32(np.ascontiguousarray(lists.context).data, checksum)
    context = lists.context[training].astype(np.float64)
    return (*items, context.mean(0), context.std(0)), checksum


class _Resident:
    """A file's lists as a device sees them: all of them if they are small, otherwise only where each begins."""

    def __init__(self, lists: Lists, training: Array, device: torch.device) -> None:
        self.lists, self.device = lists, device
        self.training = torch.from_numpy(training).to(device)
        self.start = None if lists.start is None else torch.from_numpy(lists.start).to(device)
        self.allowed = None if lists.allowed is None else torch.from_numpy(lists.allowed).to(device)
        self.context = None if lists.context is None else torch.from_numpy(lists.context).to(device)
        small = lists.rows.size * 4 <= RESIDENT
        self.rows = torch.from_numpy(lists.read(0, len(lists))).to(device) if small else None

    def take(self, which: Tensor, N: int) -> Batch:
        """The lists ``which [*]``, padded to N items."""
        if self.start is None:
            begin, length = which * self.lists.N, torch.full_like(which, self.lists.N)
        else:
            begin = self.start[which]
            length = self.start[which + 1] - begin
        place = torch.arange(N, device=self.device)
        inside = place < length.unsqueeze(-1)
        row = begin.unsqueeze(-1) + torch.where(inside, place, 0)
        if self.rows is not None:
            items = self.rows[row]
        else:
            gathered = self.lists.rows[row.cpu().numpy()].astype(np.float32)
            items = torch.from_numpy(gathered).to(self.device)
        mask = None
        if self.start is not None or self.allowed is not None or self.lists.N < N:
            mask = inside if self.allowed is None else inside & self.allowed[row]
            items = items.masked_fill(~mask.unsqueeze(-1), 0.0)
            mask = mask.unsqueeze(-2)
        return Batch(items, mask, None if self.context is None else self.context[which])
