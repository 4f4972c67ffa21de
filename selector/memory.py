"""Sizes that this machine's memory does not hold, found out by counting bytes before anything is made.

Importing this module does not import torch.
"""

import os
import warnings

from omegaconf import DictConfig, OmegaConf

from selector.errors import InvalidInput

# Bytes of held-out items beyond which a run says how many they are.
_MANY_HELD_OUT = 2**30


def check_sizes(cfg: DictConfig) -> None:
    """Refuse sizes whose items or logits alone are larger than this machine's memory.

    Raises:
        InvalidInput: naming the key that is out of proportion.
    """
    there = memory()
    problem = cfg.problem
    items = 4 * problem.N * problem.D
    per_list = max(items, 4 * problem.N * problem.S)
    for key, needed in (
        ("problem.N" if problem.N >= problem.S else "problem.S", per_list),
        ("seeds", cfg.seeds * per_list),
        ("batch_size", cfg.seeds * cfg.batch_size * per_list),
        ("held_out", cfg.held_out * items),  # their logits come in chunks
    ):
        if needed > there:
            because = f"{needed / 2**30:.3g} GiB for items and logits alone, there are {there / 2**30:.3g}"
            raise InvalidInput(key, OmegaConf.select(cfg, key), f"too large: {because}")


def warn_of_held_out(cfg: DictConfig) -> None:
    """Say so when the held-out items are many.

    Warns:
        UserWarning: naming a number of lists that is not too large.
    """
    items = 4 * cfg.problem.N * cfg.problem.D
    if cfg.held_out * items > _MANY_HELD_OUT:
        warnings.warn(
            f"held_out: {cfg.held_out} lists of {cfg.problem.N} items take {cfg.held_out * items / 2**30:.3g} GiB, and "
            f"every validation judges them all; held_out={max(1, _MANY_HELD_OUT // items)} takes no more than 1 GiB",
            stacklevel=2,
        )


def check_queries(cfg: DictConfig, queries: int) -> None:
    """Refuse a strategy that asks for so many selections of a list that they alone are larger than the memory.

    Raises:
        InvalidInput: naming the strategy.
    """
    # Of every selection at least an index of 8 bytes a slot, with and without masked items, the slots and their loss.
    needed = cfg.seeds * cfg.batch_size * queries * cfg.problem.S * 2 * (8 + 4 * cfg.problem.D)
    if needed > memory():
        raise InvalidInput(
            "strategy",
            cfg.strategy._target_.rpartition(".")[-1],
            f"asks for {queries:,} selections of every list: {needed / 2**30:,.4g} GiB, there are "
            f"{memory() / 2**30:.3g}; lower batch_size, or take another strategy",
        )


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
