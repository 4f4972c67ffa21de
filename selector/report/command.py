"""``python -m selector report``: collect, compare, then write the figures, the table and the page."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import selector
from selector.errors import InvalidInput
from selector.files import write_atomically
from selector.report import figures, page
from selector.report.collect import Collection, collect
from selector.report.comparison import Comparison, compare
from selector.report.palette import assign
from selector.report.plots import Standing, known, number

_COLUMNS = [
    *("problem", "rank", "label", "strategy", "seeds", "failed"),
    *("regret_iqm", "regret_low", "regret_high", "regret_median", "regret_best", "regret_worst"),
    *("logit_std_iqm", "training_seconds"),
    *("next", "p_beats_next", "p_low", "p_high"),
]


def report(folders: Sequence[Path], out: Path, console: Console, command: str) -> None:
    """Compare all runs below ``folders`` and write ``out``/report.html, summary.csv and figures/.

    Everything is read and computed before the first file is written; files of other names in ``out`` stay.

    Args:
        folders: run folders, or folders that hold some.
        out: made if missing.
        console: where the ranking and the paths are printed.
        command: how the report was asked for; it is quoted on the page.

    Raises:
        InvalidInput: when there is nothing to compare, a file cannot be read, or ``out`` cannot be a folder.
    """
    collection = collect(folders)
    comparisons = compare(collection)
    styles = assign((standing.label, standing.strategy) for one in comparisons for standing in one.standings)
    html = page.render(comparisons, header(collection, command), collection.notes, styles) if page.can_write() else None

    pictures = out / "figures"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput("--out", out, "is not a folder; must be one, or a name that is free") from None
    except OSError as error:
        raise InvalidInput("--out", out, f"cannot be written ({error.strerror})") from None
    drawn = 0
    for prefix, comparison in zip(_prefixes(comparisons), comparisons, strict=True):
        for plot in comparison.plots:
            figure = figures.draw(plot, comparison.title, styles)
            for ending in ("png", "pdf"):
                figures.save(figure, pictures / f"{prefix}{plot.name}.{ending}")
            drawn += 1
    with write_atomically(out / "summary.csv") as temporary:
        _write_summary(temporary, comparisons)
    if html is not None:
        with write_atomically(out / "report.html") as temporary:
            temporary.write_text(html, encoding="utf-8")

    for comparison in comparisons:
        _print(comparison, console)
    for note in collection.notes:
        console.print(f"[yellow]warning[/] {escape(note)}", highlight=False, soft_wrap=True)
    if html is not None:
        console.print(f"page     {out / 'report.html'}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"table    {out / 'summary.csv'}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"figures  {pictures} ({drawn}, each as png and pdf)", highlight=False, soft_wrap=True, markup=False)
    if html is None:
        hint = 'The page report.html needs plotly: pip install "selector[report]"'
        console.print(hint, highlight=False, soft_wrap=True, markup=False)


def header(collection: Collection, command: str) -> dict[str, str]:
    """What stands on top of the page: name -> text."""
    labels = {group.label: None for section in collection.sections for group in section.groups}
    versions = [f"{name} {' and '.join(found)}" for name, found in collection.versions.items()]
    seeds = sum(len(group.seeds) for section in collection.sections for group in section.groups)
    return {
        "compared": ", ".join(labels),
        "read": f"{collection.runs} run{'s' if collection.runs > 1 else ''}, {seeds} seeds",
        "measured by": "regret of the noise-free argmax on held-out lists: 0 is the oracle, 1 is random choice",
        "made with": ", ".join(versions) or "unknown versions (no run ended)",
        "report by": f"selector {selector.__version__}",
        "command": command,
    }


def _prefixes(comparisons: Sequence[Comparison]) -> list[str]:
    """What the figures' names start with: nothing for a single problem, else the problem."""
    if len(comparisons) == 1:
        return [""]
    found: list[str] = []
    for comparison in comparisons:
        slug = re.sub(r"[^\w.=-]+", "_", comparison.title).strip("_") + "-"
        found.append(slug if slug not in found else f"{len(found)}-{slug}")
    return found


def _write_summary(path: Path, comparisons: Sequence[Comparison]) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(_COLUMNS)
        for comparison in comparisons:
            for standing, following in zip(comparison.standings, [*comparison.standings[1:], None], strict=True):
                writer.writerow(_row(comparison.title, standing, following))


def _row(title: str, s: Standing, following: Standing | None) -> list[str | int | float]:
    ordered = np.sort(s.finals)
    better: list[str | float] = ["", "", "", ""]
    if s.better is not None and following is not None:
        better = [following.label, float(s.better.estimate), float(s.better.low), float(s.better.high)]
    # The lower of two middle values: a mean with inf would say nothing.
    median = float(ordered[(len(ordered) - 1) // 2])
    return [
        *(title, s.rank, s.label, s.strategy, len(s.seeds), len(s.failures)),
        *(float(s.regret.estimate), float(s.regret.low), float(s.regret.high)),
        *(median, float(ordered[0]), float(ordered[-1]), s.spread, s.seconds),
        *better,
    ]


def _print(comparison: Comparison, console: Console) -> None:
    table = Table(title=comparison.title, title_justify="left", title_style="bold")
    for name in ("", "label", "regret (IQM)", "95% interval", "seeds"):
        label = name == "label"
        table.add_column(name, justify="left" if label else "right", no_wrap=not label)
    for s in comparison.standings:
        interval = f"{number(float(s.regret.low))} .. {number(float(s.regret.high))}" if known(s) else "-"
        seeds = f"{len(s.seeds)}, {len(s.failures)} failed" if s.failures else str(len(s.seeds))
        table.add_row(str(s.rank), escape(s.label), number(float(s.regret.estimate)), interval, seeds)
    console.print(table)
    console.print(escape("; ".join(comparison.facts) + "."), highlight=False)
    for sentence in comparison.sentences:
        console.print(escape(sentence), highlight=False)
    for warning in comparison.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False, soft_wrap=True)
