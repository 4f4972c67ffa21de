"""Past picks and their rewards from a file, to learn a critic from.

Shape legend: M filled lists · S slots · D features per item · C features per list · F = S·D + C.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from selector.errors import InvalidInput
from selector.items.arrays import Array, map_npy, read_npz
from selector.untrusted import UnreadableFile


def read_table(path: Path, S: int, D: int, C: int) -> tuple[Tensor, Tensor]:
    """Read M rows of a file.

    - ``.npz``: ``slots [M, S, D]``, ``reward [M]``, and ``context [M, C]`` if the problem has any.
    - ``.npy``: ``[M, S·D + C + 1]``: the slots one after the other, context, reward.
    - ``.csv``: the same columns, with their names in the first line.

    Args:
        path: the file.
        S: slots.
        D: features per item.
        C: features per list.

    Returns:
        ``[M, F]`` and ``[M]``, float32.

    Raises:
        InvalidInput: naming ``table`` and what is wrong with it.
    """
    F = S * D + C
    try:
        if path.suffix == ".npz":
            rows, rewards = _from_npz(path, S, D, C)
        elif path.suffix == ".npy":
            rows, rewards = _split(np.asarray(map_npy(path), dtype=np.float64), F)
        elif path.suffix == ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty file, which is refused below
                rows, rewards = _split(np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, encoding="utf-8"), F)
        else:
            raise UnreadableFile("must end in .npz, .npy or .csv")
    except OSError as error:
        raise InvalidInput("table", path, error.strerror or "cannot be read") from None
    except (UnreadableFile, ValueError) as error:
        raise InvalidInput("table", path, " ".join(str(error).split())) from None
    if len(rows) < 10:
        raise InvalidInput("table", path, f"must have 10 rows at least; it has {len(rows)}")
    broken = ~(np.isfinite(rows).all(1) & np.isfinite(rewards))
    if broken.any():
        raise InvalidInput("table", path, f"row {int(broken.argmax()) + 1} holds nan or inf")
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(rewards.astype(np.float32))


def _from_npz(path: Path, S: int, D: int, C: int) -> tuple[Array, Array]:
    arrays = read_npz(path, ("slots", "reward", "context"))
    needed = {"slots": (S, D), "reward": (), **({"context": (C,)} if C else {})}
    if arrays.keys() != needed.keys():
        raise UnreadableFile(f"must hold {', '.join(needed)}; it has {', '.join(arrays)}")
    M = len(arrays["reward"])
    for name, shape in needed.items():
        if arrays[name].shape != (M, *shape):
            raise UnreadableFile(f"{name} must be {[M, *shape]}; it is {list(arrays[name].shape)}")
    parts = [arrays["slots"].reshape(M, -1), *([arrays["context"]] if C else [])]
    return np.concatenate(parts, 1, dtype=np.float64), arrays["reward"].astype(np.float64)


def _split(table: Array, F: int) -> tuple[Array, Array]:
    if table.ndim != 2 or table.shape[1] != F + 1:
        raise UnreadableFile(f"must have {F + 1} columns: slots, context, reward; its shape is {list(table.shape)}")
    return table[:, :-1], table[:, -1]
