"""Item files and checkpoints with bytes flipped, cut and put in: data, or one clear line; never another exception.

Three seconds of each, or as many as SELECTOR_FUZZ_SECONDS says; the number of executions is printed (pytest -s).
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from selector import fit
from selector.errors import InvalidInput
from selector.items.lists import read_lists
from selector.loading import DamagedCheckpoint, read_checkpoint
from selector.strategies import STGumbel
from tests.support import small_network, small_problem
from tests.unit.items.test_file import options
from tests.unit.items.test_hostile_files import SUFFIXES, valid

SECONDS = float(os.environ.get("SELECTOR_FUZZ_SECONDS", "3"))
TOKENS = [b"\xff" * 4, b"\0" * 8, b"cos\nsystem\n(S'id'\ntR.", b"PK\x05\x06", b"1e999", b"(9999999999, 9, 9)", b"|O"]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to four changes: a flipped bit, a cut, an insertion, a repetition."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[at : at + chance.choice([1, 8, 1000, len(changed)])]
        elif kind == 2:
            changed[at:at] = chance.choice([*TOKENS, chance.randbytes(4)])
        else:
            changed[at:at] = changed[at : at + chance.randrange(64)]
    return bytes(changed)


def fuzz(path: Path, content: bytes, read: Callable[[Path], object], seconds: float) -> int:
    """How often ``read`` was tried, with every outcome but data or a clear refusal failing the test."""
    path.write_bytes(content)
    read(path)  # sound as it is; and what the reader imports takes no time from the rest
    chance, count, end = random.Random(0), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        count += 1
        path.write_bytes(mutated(content, chance))
        refused = ""
        try:
            read(path)
        except (InvalidInput, DamagedCheckpoint) as error:
            refused = str(error)
        except Exception as error:
            kept = path.with_name(f"found-{path.name}")
            path.rename(kept)
            raise AssertionError(f"after {count} executions, {kept}: {error!r}") from error
        assert "\n" not in refused
    return count


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_item_files(suffix: str, tmp_path: Path) -> None:
    def read(path: Path) -> None:
        found = read_lists(path, **options(path))
        assert np.isfinite(found.read(0, len(found))).all()

    count = fuzz(tmp_path / f"x{suffix}", valid(tmp_path, suffix), read, SECONDS / len(SUFFIXES))
    print(f"{suffix}: {count} executions")
    assert count >= 10


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"steps": 2, "val_every": 2, "batch_size": 4, "held_out": 4}
    fit(small_problem(), small_network(), STGumbel(), folder=tmp_path / "run", **sizes)  # type: ignore[arg-type]
    sound = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert isinstance(read_checkpoint(sound)["global_step"], int)
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("code was run"))
    count = fuzz(tmp_path / "x.ckpt", sound.read_bytes(), read_checkpoint, SECONDS)
    print(f"checkpoints: {count} executions, torch {torch.__version__}")
    assert count >= 10
