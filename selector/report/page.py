"""Every comparison on one page: report.html, which holds figures, data and Plotly itself, and fetches nothing.

The figures are plain dicts in Plotly's JSON form; the package ``plotly`` is needed for its JavaScript alone.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from string import Template

from selector.report.comparison import Comparison
from selector.report.palette import Style, diverging, family
from selector.report.plots import MatrixPlot, Plot, Standing, TauPlot, bracketed, known, number, probability
from selector.report.specification import Spec, specification


def can_write() -> bool:
    """Whether the package that the page needs is installed."""
    return find_spec("plotly") is not None


def render(
    comparisons: Sequence[Comparison], header: Mapping[str, str], notes: Sequence[str], styles: Mapping[str, Style]
) -> str:
    """The page as one HTML text.

    Args:
        comparisons: one section each.
        header: what stands on top of the page: name -> text.
        notes: warnings that concern all sections.
        styles: label -> how it is drawn.
    """
    from plotly.offline import get_plotlyjs

    specs: dict[str, Spec] = {}
    body = [_section(i, one, styles, specs) for i, one in enumerate(comparisons)]
    names = ", ".join(comparison.title for comparison in comparisons)
    title = f"Comparison: {names}" if len(names) < 80 else f"Comparison of {len(comparisons)} problems"
    top = [f"<h1>{escape(title)}</h1>", "<dl>"]
    top += [f"<dt>{escape(name)}</dt><dd>{_code(name, text)}</dd>" for name, text in header.items()]
    top += ["</dl>", _warnings(notes)]
    if len(comparisons) > 1:
        links = (f'<a href="#s{i}">{escape(one.title)}</a>' for i, one in enumerate(comparisons))
        top.append(f"<nav>Sections: {' | '.join(links)}</nav>")
    template = Template((files("selector.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        header="\n".join(top),
        body="\n".join(body),
        # "</" would end the script element that the JSON stands in.
        figures=json.dumps(specs, allow_nan=False, separators=(",", ":")).replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _code(name: str, text: str) -> str:
    return f"<code>{escape(text)}</code>" if name == "command" else escape(text)


def _warnings(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _section(i: int, comparison: Comparison, styles: Mapping[str, Style], specs: dict[str, Spec]) -> str:
    parts = [f'<section id="s{i}">', f"<h2>{escape(comparison.title)}</h2>"]
    parts += [f'<p class="facts">{escape("; ".join(comparison.facts))}.</p>', _warnings(comparison.warnings)]
    parts.append(_ranking(comparison.standings, styles))
    if comparison.sentences:
        words = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.sentences)
        parts.append(f'<ul class="words">{words}</ul>')
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-label="{escape(s.label)}">'
        f"{_key(styles[s.label])}{escape(s.label)}</button>"
        for s in comparison.standings
    )
    parts += [f'<div class="legend">{buttons}</div>', '<div class="cards">']
    for plot in comparison.plots:
        parts.append(_card(f"s{i}-{plot.name}", plot, styles, specs))
    return "\n".join([*parts, "</div>", "</section>"])


def _card(identifier: str, plot: Plot, styles: Mapping[str, Style], specs: dict[str, Spec]) -> str:
    if isinstance(plot, MatrixPlot):
        inner = f'<div class="wide">{_matrix(plot, styles)}</div>'
    else:
        specs[identifier] = specification(plot, styles)
        # The height is known before Plotly draws: the page does not jump.
        height = specs[identifier]["layout"]["height"]
        inner = f'<div class="plot" id="{identifier}" style="height:{height}px"></div>'
    if isinstance(plot, TauPlot):
        families = enumerate(plot.families)
        keys = (f"{_key(family(i, styles[points[0].label]))} {escape(name)}" for i, (name, points) in families)
        inner = f'<p class="caption">{"<br>".join(keys)}</p>{inner}'
    caption = f'<p class="caption">{escape(plot.caption)}</p>'
    wide = " whole" if isinstance(plot, MatrixPlot) and len(plot.labels) > 5 else ""
    return f'<article class="card{wide}"><h3>{escape(plot.title)}</h3>{inner}{caption}</article>'


def _key(style: Style) -> str:
    """A short piece of the label's line with its marker."""
    dash = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}[style.dash[0]]
    return (
        f'<svg class="key" width="34" height="12" aria-hidden="true"><line x1="1" y1="6" x2="33" y2="6" '
        f'stroke="{style.color}" stroke-width="2.4" stroke-dasharray="{dash}"/>'
        f'<polygon points="{_outline(style.marker[0])}" fill="{style.color}"/></svg>'
    )


def _outline(symbol: str) -> str:
    """The marker as a polygon around (17, 6)."""
    corners, turn = {
        "circle": (24, 0.0),
        "square": (4, 0.25 * math.pi),
        "triangle-up": (3, 0.0),
        "triangle-down": (3, math.pi),
        "pentagon": (5, 0.0),
        "hexagon": (6, 0.0),
        "star": (10, 0.0),
    }[symbol]
    points = []
    for k in range(corners):
        radius = 2.2 if symbol == "star" and k % 2 else 5.4 if symbol == "star" else 4.8
        angle = 2 * math.pi * k / corners + turn
        points.append(f"{17 + radius * math.sin(angle):.1f},{6 - radius * math.cos(angle):.1f}")
    return " ".join(points)


def _ranking(standings: Sequence[Standing], styles: Mapping[str, Style]) -> str:
    head = ["", "label", "regret (IQM)", "95% interval", "seeds", "failed", "logit spread", "training time"]
    rows = []
    for s in standings:
        interval = f"[{number(float(s.regret.low))}, {number(float(s.regret.high))}]" if known(s) else "-"
        seconds = "-" if math.isnan(s.seconds) else f"{s.seconds:.3g} s"
        cells = [
            str(s.rank),
            f"{_key(styles[s.label])} {escape(s.label)}",
            number(float(s.regret.estimate)),
            interval,
            str(len(s.seeds)),
            str(len(s.failures)) if s.failures else "-",
            number(s.spread),
            seconds,
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="wide card"><table><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _matrix(plot: MatrixPlot, styles: Mapping[str, Style]) -> str:
    head = "<th></th>" + "".join(f"<th>{i + 1}</th>" for i in range(len(plot.labels)))
    rows = []
    for i, (label, row) in enumerate(zip(plot.labels, plot.cells, strict=True)):
        cells = []
        for cell in row:
            if cell is None:
                cells.append("<td></td>")
                continue
            p = float(cell.estimate)
            cells.append(
                f'<td style="background:{diverging(p)}">{probability(p)}<br><small>{bracketed(cell)}</small></td>'
            )
        rows.append(f"<tr><th>{i + 1} {_key(styles[label])} {escape(label)}</th>{''.join(cells)}</tr>")
    return f'<table class="matrix"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
