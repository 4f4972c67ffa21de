"""Silence for what Lightning and torch print about themselves; what they warn about stays."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Not their parents: a profiler reports through a logger of its own.
_TALKATIVE = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
_EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep advertisements and device listings off the terminal, and leave the user's own settings as they were."""
    with _as_they_were(_TALKATIVE, logging.WARNING):
        # Lightning 2.6 asks torch 2.13 in a way that torch calls deprecated; nothing a user could mend.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        # A run that was stopped within a validation period goes on there; its "loader" only counts.
        warnings.filterwarnings("ignore", message=r"You're resuming from a checkpoint that ended before the epoch")
        # Said of every run on a machine that belongs to a cluster; a job gets there by hydra/launcher.
        warnings.filterwarnings("ignore", message=r"The `srun` command is available")
        # A critic of the user's own judges in evaluation mode, and is meant to.
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        yield


@contextmanager
def quiet_export() -> Iterator[None]:
    """torch and onnxscript report every pass, and deprecations among themselves."""
    with _as_they_were(_EXPORTERS, logging.ERROR):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quiet_hydra() -> Iterator[None]:
    """Keep a deprecation away: configs/hydra/launcher/ names its files as the plugins name theirs, which have types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
        yield


@contextmanager
def _as_they_were(names: Sequence[str], level: int) -> Iterator[None]:
    """Loggers at ``level``; afterwards their levels, and the filters of warnings, are the old ones."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for logger in loggers:
            logger.setLevel(level)
        try:
            yield
        finally:
            for logger, old in zip(loggers, levels, strict=True):
                logger.setLevel(old)
