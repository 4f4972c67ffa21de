"""kill -9 at random moments, resumed each time: the result is that of an undisturbed run, bit for bit."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

# SELECTOR_KILLS=20 python -m pytest tests/e2e/test_kills.py: the full size.
KILLS = int(os.environ.get("SELECTOR_KILLS", "3"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=st_gumbel"],
        ["strategy=relax", "optimizer.schedule=cosine"],
        ["strategy=rloo", "trainer.accumulate_grad_batches=2"],
        ["critic=learned", "reward=noisy_target", "critic.width=8", "critic.rows=32", "probe.every=null"],
    ],
    ids=" ".join,
)
def test_a_run_that_is_killed_again_and_again(overrides: list[str]) -> None:
    if KILLS < 20 and overrides != ["strategy=relax", "optimizer.schedule=cosine"]:
        pytest.skip("one strategy is enough of the short version; SELECTOR_KILLS=20 is the full one")
    command = [sys.executable, "-m", "tests.kills", "--kills", str(KILLS), "--steps", str(100 * KILLS), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("s: bit-identical")
