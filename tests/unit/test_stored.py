"""What Hydra wrote into a run folder, where anyone may have changed it since."""

from pathlib import Path

import pytest

from selector.errors import InvalidInput
from selector.stored import load_run


def test_load_run_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        load_run(tmp_path / "nowhere", needs="x")
    with pytest.raises(InvalidInput, match=r"config\.yaml is missing"):
        load_run(tmp_path, needs="x")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("name: a\n")
    (tmp_path / ".hydra" / "hydra.yaml").write_text("hydra: {}\n")
    with pytest.raises(InvalidInput, match=r"last\.ckpt is missing"):
        load_run(tmp_path, needs="checkpoints/last.ckpt")
