"""``python -m selector bench``: measure, print a table of ratios, write JSON and a figure."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from selector.bench import SECTIONS, picking, roofline, scaling, startup, training
from selector.bench.measure import Row
from selector.errors import InvalidInput
from selector.files import write_json


def bench(only: Collection[str], device: str, json: Path | None, figure: Path | None, console: Console) -> list[Row]:
    """Run sections of the benchmark.

    Args:
        only: which of ``SECTIONS``; none is all.
        device: "cpu" or "cuda"; start-up and processes always use what train.py does.
        json: gets the rows as a list; None writes none.
        figure: gets the scaling's figure; None draws none.
        console: where the table is printed.

    Raises:
        InvalidInput: for a device that is not there.
    """
    if device not in ("cpu", "cuda"):
        raise InvalidInput("--device", device, "must be cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("--device", device, "no such device is here; try cpu")
    rows: list[Row] = []
    for section in only or SECTIONS:
        for row in measure(section, device, figure, console):
            rows.append(row)
            console.print(f"  {row.name}, {row.case}: {row.ratio:.3g}", highlight=False)
            if json is not None:  # after every row: a section that is stopped keeps what it measured
                write_json(json, [_plain(r) for r in rows])
    console.print(table(rows))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    console.print(f"On {where}, torch {torch.__version__}. Below 1 is faster or smaller than the alternative.")
    return rows


def measure(section: str, device: str, figure: Path | None, console: Console) -> Iterator[Row]:
    """The rows of one section, as they come."""
    console.print(f"{section} ...", highlight=False)
    if section == "picking":
        yield from picking.rows(device)
    elif section == "training":
        yield from training.rows(device)
    elif section == "processes":
        yield from startup.process_rows()
    elif section == "startup":
        yield from startup.rows()
    elif section == "roofline":
        yield from roofline.rows(device)
    else:
        curves = scaling.curves(device)
        yield from scaling.rows(*curves)
        if figure is not None:
            figure.parent.mkdir(parents=True, exist_ok=True)
            scaling.draw(*curves, str(figure), device)
            console.print(f"figure  {figure}", highlight=False)
        yield scaling.large_row()


def table(rows: list[Row]) -> Table:
    """All rows: median, quartiles, target, and whether it was reached."""
    shown = Table(title="ours / alternative", title_justify="left")
    for name in ("what", "case", "ratio", "quartiles", "target"):
        shown.add_column(name, justify="left" if name in ("what", "case") else "right")
    for row in rows:
        bound = "" if row.target is None else f"{'>=' if row.at_least else '<='} {row.target:.3g}"
        colour = {None: "", True: "green", False: "red"}[row.reached]
        shown.add_row(row.name, row.case, f"{row.ratio:.3g}", f"{row.low:.3g}-{row.high:.3g}", bound, style=colour)
    return shown


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if key != "at_least"}
