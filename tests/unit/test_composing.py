"""Which jobs a command line asks for, and how a run is continued."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir

from selector.composing import continue_run, jobs
from selector.errors import InvalidInput
from tests.support import CONFIGS


def stored_run(folder: Path, overrides: list[str]) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_resume_of_a_folder_is_what_it_was_started_with_and_the_folder(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "old", ["strategy=st_sampled", "max_steps=5", "name=old", "resume=auto"])
    assert continue_run([f"resume={folder}", "max_steps=9"]) == [
        "strategy=st_sampled",
        "max_steps=5",
        "name='old'",
        "max_steps=9",
        f"hydra.run.dir='{folder}'",
        "resume=auto",
    ]


@pytest.mark.parametrize("overrides", [[], ["seed=1"], ["resume=auto"], ["resume=null"]])
def test_without_a_folder_the_command_line_stays(overrides: list[str]) -> None:
    assert continue_run(overrides) == overrides


def test_resume_refuses_what_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidInput) as refused:
            continue_run([f"resume={folder}"])
        assert refused.value.key == "resume"


def test_a_multirun_is_the_product_of_its_choices() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        asked = jobs(["seed=0,1", "strategy=st_gumbel", "max_steps=2,3"])
        assert jobs(["seed=0"]) == [["seed=0"]]
    assert [sorted(job) for job in asked] == [
        [f"max_steps={steps}", f"seed={seed}", "strategy=st_gumbel"] for seed in (0, 1) for steps in (2, 3)
    ]


@pytest.mark.parametrize("kept", ["strategy=rloo", "+critic.target=3", "name_of=1"])
@pytest.mark.parametrize(
    "dropped",
    [
        "resume=auto",
        "name=x",
        "trust=[os]",
        "++trust=[os]",
        "~trust",
        "+hydra.job.env_set.GIT_DIR=x",
        "hydra/launcher=x",
    ],
)
def test_a_stored_run_says_nothing_about_this_process(dropped: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(f"- {dropped}\n- {kept}\n")
    overrides = continue_run([f"resume={tmp_path}"])
    assert overrides[0] == kept
    assert overrides.count(dropped) == (dropped == "resume=auto")
