"""Reading a checkpoint that anyone may have written."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selector.errors import InvalidInput
from selector.untrusted import check_file, reason


class DamagedCheckpoint(Exception):
    """A checkpoint that is not as a run wrote it.

    Args:
        path: the file.
        why: the rest of a line that begins with it.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a run's checkpoint holds, on the CPU. Every byte is compared with its checksum; no code in it is ever run.

    Returns:
        Among others ``state_dict`` (dense tensors by name), ``global_step`` and ``selector``, which has ``seeds``.

    Raises:
        DamagedCheckpoint: when it is missing, cut short, altered, or no checkpoint of a run.
    """
    try:
        check_file(path)
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what a damaged pickle makes of tensors
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InvalidInput as error:
        why = f"cannot be read: {error.allowed}" if path.exists() else "is missing"
        raise DamagedCheckpoint(path, why) from None
    except Exception as error:  # pickles, archives and tensors can be broken in a dozen ways, each with its exception
        raise DamagedCheckpoint(path, f"is damaged: {reason(error)}") from None
    problem = _what_is_wrong(content)
    if problem:
        raise DamagedCheckpoint(path, f"is no checkpoint of a run: {problem}")
    return dict(content)


def chosen_checkpoint(path: Path) -> dict[str, Any]:
    """:func:`read_checkpoint` for one that a user named.

    Raises:
        InvalidInput: with the key "checkpoint", where that raises :class:`DamagedCheckpoint`.
    """
    try:
        return read_checkpoint(path)
    except DamagedCheckpoint as error:
        raise InvalidInput("checkpoint", path, error.why) from None


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of a ``state_dict`` whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Give a module the parameters and buffers that a checkpoint holds of it.

    Raises:
        InvalidInput: with the key "checkpoint", when names or shapes are not those of the module.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        because = " ".join(str(error).splitlines()[1].split()) if "\n" in str(error) else str(error)
        raise InvalidInput("checkpoint", path, f"does not fit the run's configuration: {because[:200]}") from None


def _check_archive(path: Path) -> None:
    """Refuse archives that torch did not write: it stores everything as it is, and notes a checksum."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError("holds something compressed")  # which could unpack to any size
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"{broken!r} has a wrong checksum")


def _what_is_wrong(content: object) -> str | None:
    """The first thing that is not as a run writes it; None if all is."""
    if not isinstance(content, dict):
        return "it holds no dictionary"
    state, step, own = (content.get(name) for name in ("state_dict", "global_step", "selector"))
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return "global_step is missing"
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        return "state_dict is missing"
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            return f"{name[:60]!r} is no dense tensor"
        if value.is_quantized or value.is_complex() or type(value) not in (Tensor, torch.nn.Parameter):
            return f"{name[:60]!r} is no plain tensor"
    seeds = own.get("seeds") if isinstance(own, dict) else None
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        return "its seeds are missing"
    if len(set(seeds)) < len(seeds):
        return "a seed is there twice"
    return None
