"""The command line of train.py."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

# What needs no torch to be seen, and how the line about it begins.
SEEN_AT_ONCE = {
    "stratgy=st_gumbel": "stratgy: no such key",
    "problem.N=0": "problem.N=0: must be >= 1",
    "max_steps=0": "max_steps=0: must be >= 1",
    "seed=-1": "seed=-1: must be >= 0",
    "held_out=10000000000000": "held_out=10000000000000: too large",
    "tau.start=warm": "tau.start=warm: must be a number",
}


def test_torch_is_not_imported_to_refuse_what_is_wrong_without_it(tmp_path: Path) -> None:
    code = f"""
import sys
from selector.composing import CONFIGS
from selector.launch import main
print([main(print, CONFIGS, [one]) for one in {list(SEEN_AT_ONCE)}], {{"torch", "lightning"}} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == f"{[2] * len(SEEN_AT_ONCE)} set()\n"
    for line, said in zip(done.stderr.splitlines(), SEEN_AT_ONCE.values(), strict=True):
        assert line.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())
