"""What a command line may not do with Hydra itself, and with folders."""

import os
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from selector.composing import compose_job
from selector.errors import InvalidInput
from selector.guard import check_hydra, make_run_folder
from selector.provenance import git_state
from tests.support import CONFIGS

FILTER = r"+hydra.job_logging.filters.x={\(\):logging.io.open,file:PWNED,mode:w}"


def checked(*overrides: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        check_hydra(compose_job(list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([FILTER, "++hydra.job_logging.root={level:INFO}"], "hydra.job_logging.root"),
        (["hydra/job_logging=default", FILTER], "hydra.job_logging.filters"),
        (["hydra/job_logging=default", "hydra.job_logging.handlers.file.filename=x"], "hydra.job_logging.handlers"),
        (["hydra/job_logging=stdout", "~hydra.job_logging.handlers"], "hydra.job_logging.handlers"),
        (["hydra/hydra_logging=hydra_debug"], "hydra/hydra_logging"),
        (["hydra/job_logging=[none,default]"], "hydra/job_logging"),
        (["+hydra.job.env_set.A=b"], "hydra.job.env_set"),
        (["hydra.job.env_copy=[PATH]"], "hydra.job.env_copy"),
        (["hydra.job.name=../x"], "hydra.job.name"),
    ],
)
def test_hydra_is_left_as_it_is(overrides: list[str], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked(*overrides)
    assert refused.value.key == key


@pytest.mark.parametrize("choice", ["none", "default", "stdout", "disabled"])
def test_shipped_logging_may_be_chosen(choice: str) -> None:
    checked(f"hydra/job_logging={choice}", "hydra.verbose=true")


def test_git_runs_no_program_that_a_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"COUNT": "1", "KEY_0": "core.fsmonitor", "VALUE_0": f"touch {tmp_path / 'made'}; false"}
    for name, value in variables.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    git_state()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InvalidInput, match="may not be written to"):
        make_run_folder(tmp_path, "name")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InvalidInput, match="may not be written to"):
            make_run_folder(tmp_path, "name")
    finally:
        tmp_path.chmod(0o755)
