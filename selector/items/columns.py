"""Columns of a table as items: choosing items is choosing features.

Shape legend: `*` any leading dims · N columns of the table, the items of a list · D rows, the features of an item ·
V held-out lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from selector.batch import Batch
from selector.errors import InvalidInput, check_choice
from selector.items.generators import Items
from selector.noise import Noise


@dataclass(frozen=True)
class Table:
    """A data set, its rows split into two parts.

    Attributes:
        train: ``[rows, N]`` float32.
        test: ``[rows, N]`` float32.
        labels: ``[rows]`` int64, the class of every training row.
        image: (height, width) where the columns are pixels; None where they are not.
    """

    train: Tensor
    test: Tensor
    labels: Tensor
    image: tuple[int, int] | None


def read_table(data: str, split_seed: int = 0) -> Table:
    """One of the data sets that come with scikit-learn, a fifth of its rows for testing.

    Args:
        data: "digits": 1797 images of 8×8 pixels, grey values in [0, 1]; "breast_cancer": 569 rows of 30 measurements,
            standardised by mean and standard deviation of the training rows.
        split_seed: chooses the testing rows.

    Raises:
        InvalidInput: for another name, or when scikit-learn is not installed.
    """
    check_choice(["digits", "breast_cancer"], data=data)
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise InvalidInput("data", data, 'needs scikit-learn; pip install "selector[data]"') from None
    loaded = {"digits": datasets.load_digits, "breast_cancer": datasets.load_breast_cancer}[data]()
    rows = torch.from_numpy(np.asarray(loaded.data, dtype=np.float32))
    labels = torch.from_numpy(np.asarray(loaded.target, dtype=np.int64))
    order = Noise(split_seed, "rows").uniform([len(rows)]).argsort()
    testing, training = order[: len(rows) // 5], order[len(rows) // 5 :]
    train, test = rows[training], rows[testing]
    if data == "digits":
        return Table(train / 16, test / 16, labels[training], (8, 8))
    mean, std = train.mean(0), train.std(0)
    return Table((train - mean) / std, (test - mean) / std, labels[training], None)


class Columns(Items):
    """A list is the N columns of a table, seen through D of its rows: an item is a column's values in these rows.

    Training draws its rows from four fifths of the table, with replacement; held-out lists have theirs from the rest.
    The items of all lists are the same columns in the same order: choose with ``network=free_logits``.

    Args:
        data: "digits" or "breast_cancer", see :func:`read_table`.
        split_seed: chooses the rows that are held out.
        N: columns that the problem wants; None: known when lists are drawn.

    Raises:
        InvalidInput: for another data set, a table of another number of columns, or without scikit-learn.
    """

    _read: ClassVar[dict[tuple[str, int], Table]] = {}

    def __init__(self, data: str = "digits", split_seed: int = 0, N: int | None = None) -> None:
        if (data, split_seed) not in self._read:
            self._read[data, split_seed] = read_table(data, split_seed)
        self.data, self.table = data, self._read[data, split_seed]
        self._check(N)

    def _check(self, N: int | None) -> None:
        ours = self.table.train.shape[1]
        if N not in (None, ours):
            raise InvalidInput("data", self.data, f"has {ours} columns; use problem.N={ours}")

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        return self._draw(self.table.train, shape, noise)

    def held_out(self, shape: Sequence[int], noise: Noise) -> Batch:
        return self._draw(self.table.test, shape, noise)

    def _draw(self, rows: Tensor, shape: Sequence[int], noise: Noise) -> Batch:
        *lead, N, D = shape
        self._check(N)
        drawn = rows.to(noise.device)[noise.integers(len(rows), [*lead, D])]  # [*, D, N]
        return Batch(drawn.transpose(-1, -2).contiguous())
