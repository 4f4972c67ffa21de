"""``python -m selector predict``: what a trained selector chooses from the lists in a file.

Shape legend: L lists · S slots · N items · D features per item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from selector.errors import InvalidInput
from selector.items.lists import Lists, read_lists
from selector.npz import Array, stream_npz
from selector.search import Search
from selector.trained import Picks, Selector


@dataclass(frozen=True)
class Columns:
    """Columns of a table; None: those that the selector was trained on."""

    list_id: str | None = None
    features: Sequence[str] | None = None
    context: Sequence[str] | None = None


def predict(
    selector: Selector, items: Path, out: Path, columns: Columns, console: Console, search: Search | None = None
) -> None:
    """Choose for every list of a file, in chunks, and write what was chosen.

    ``out`` holds ``index`` [L, S] int64 (places in the list, from 0), ``slots`` [L, S, D], ``margin`` [L, S] (best
    minus second-best logit), ``loss`` [L] if the selector has a critic, and ``list`` [L], the list ids of a table. It
    is there when all lists are done, or not at all.

    Args:
        selector: what chooses.
        items: a file as for :class:`selector.items.File`; a .npy file may be larger than memory.
        out: a .npz file.
        columns: of a table.
        console: shows how far it is.
        search: improves every choice with the critic; ``margin`` stays that of the network's own choice.

    Raises:
        InvalidInput: for a file that cannot be used, with the key "items", an ``out`` that cannot be written, and a
            search where the critic is not known.
    """
    selector.check_search(search, "--search")
    lists = _read(selector, items, columns)
    L, S, D = len(lists), selector.S, selector.D
    arrays: dict[str, tuple[Sequence[int], str]] = {
        "index": ([L, S], "<i8"),
        "slots": ([L, S, D], "<f4"),
        "margin": ([L, S], "<f4"),
    }
    if selector.critic is not None:
        arrays["loss"] = ([L], "<f4")
    if lists.ids is not None:
        arrays["list"] = ([L], lists.ids.dtype.str)
    at_once = selector.lists_at_once(selector.N or lists.N)
    total_loss, bar = 0.0, Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with stream_npz(out, arrays) as append, bar:
            task = bar.add_task("lists", total=L)
            for first in range(0, L, at_once):
                last = min(L, first + at_once)
                picks = _choose(selector, lists, first, last, search)
                for name in ("index", "slots", "margin"):
                    append(name, getattr(picks, name).numpy())
                if picks.loss is not None:
                    append("loss", picks.loss.numpy())
                    total_loss += float(picks.loss.double().sum())
                bar.update(task, completed=last)
            if lists.ids is not None:
                append("list", lists.ids)
    except OSError as error:
        raise InvalidInput("--out", out, f"cannot be written ({error.strerror})") from None
    loss = f", mean loss {total_loss / L:.6g}" if selector.critic is not None else ""
    console.print(f"{L:,} lists, seed {selector.seed} of step {selector.step}{loss}", highlight=False)
    if selector.why_no_loss is not None:
        console.print(f"no loss: {selector.why_no_loss}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"picks  {out}", highlight=False, soft_wrap=True)


def _read(selector: Selector, items: Path, columns: Columns) -> Lists:
    known = selector.columns or {}
    if items.suffix.lower() in (".csv", ".parquet"):
        wanted = {name: getattr(columns, name) or known.get(name) for name in ("list_id", "features", "context")}
    else:
        wanted = {name: getattr(columns, name) for name in ("list_id", "features", "context")}
    try:
        lists = read_lists(items, **wanted)
    except InvalidInput as error:
        key = "items" if error.key == "path" else f"--{error.key.replace('_', '-')}"
        raise InvalidInput(key, error.given, error.allowed) from None
    if (lists.D, lists.C) != (selector.D, selector.C):
        ours = f"{selector.D} features and {selector.C} of the list"
        raise InvalidInput("items", items, f"has {lists.D} features and {lists.C} of the list; the run has {ours}")
    if selector.N is not None and lists.N > selector.N:
        because = f"the network of the run reads at most {selector.N}; network=pointer reads any number"
        raise InvalidInput("items", items, f"its lists have up to {lists.N} items; {because}")
    if selector.without_replacement and lists.fewest() < selector.S:
        because = f"{selector.S} slots without replacement need as many"
        raise InvalidInput("items", items, f"its shortest list has {lists.fewest()} items; {because}")
    return lists


def _choose(selector: Selector, lists: Lists, first: int, last: int, search: Search | None) -> Picks:
    try:
        rows = lists.read(first, last)
    except InvalidInput as error:
        raise InvalidInput("items", error.given, error.allowed) from None
    lengths = lists.lengths(first, last)
    N = selector.N if selector.N is not None else int(lengths.max())
    here: Array = np.arange(N) < lengths[:, None]
    items = np.zeros((last - first, N, lists.D), np.float32)
    items[here] = rows
    mask = None
    if lists.allowed is not None:
        here[here] = lists.allowed[lists.begin(first) : lists.begin(last)]
    if not here.all():
        mask = torch.from_numpy(here)
    context = None if lists.context is None else torch.from_numpy(lists.context[first:last])
    return selector(torch.from_numpy(items), mask, context, search=search)
