"""Silence for what Lightning and torch print about themselves; what they warn about stays."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Not their parents: a profiler reports through a logger of its own.
_TALKATIVE = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep advertisements and device listings off the terminal, and leave the user's own settings as they were."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # Lightning 2.6 asks torch 2.13 in a way that torch calls deprecated; nothing a user could mend.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        # A run that was stopped within a validation period goes on there; its "loader" only counts.
        warnings.filterwarnings("ignore", message=r"You're resuming from a checkpoint that ended before the epoch")
        # Said of every run on a machine that belongs to a cluster; a job gets there by hydra/launcher.
        warnings.filterwarnings("ignore", message=r"The `srun` command is available")
        # A critic of the user's own judges in evaluation mode, and is meant to.
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def quiet_hydra() -> Iterator[None]:
    """Keep a deprecation away: configs/hydra/launcher/ names its files as the plugins name theirs, which have types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
        yield
