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
from typing import Any

import numpy as np

from selector.report.comparison import Comparison
from selector.report.palette import Style, diverging, family
from selector.report.plots import (
    Axis,
    Curve,
    LinePlot,
    MatrixPlot,
    Plot,
    Standing,
    StripPlot,
    TauPlot,
    bracketed,
    drawn,
    known,
    log_ticks,
    number,
    offsets_of,
    probability,
)
from selector.report.statistics import Floats

Spec = dict[str, Any]

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_WRAP = 46  # characters of a label that fit a phone
_FAILED = "#b00020"


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


def specification(plot: LinePlot | StripPlot | TauPlot, styles: Mapping[str, Style]) -> Spec:
    """A plot in Plotly's JSON form: ``data`` and ``layout``."""
    if isinstance(plot, LinePlot):
        return _lines(plot, styles)
    if isinstance(plot, StripPlot):
        return _strip(plot, styles)
    return _tau(plot, styles)


# ---- the page ------------------------------------------------------------------------------------------------------


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


# ---- the figures ---------------------------------------------------------------------------------------------------


def _layout(x: Axis, y: Spec, height: int) -> Spec:
    # No title and no legend in the plot: both stand in the page, where they wrap and cannot cover anything.
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 14, "t": 30, "b": 48},
        "showlegend": False,
        "hovermode": "closest",
        "font": {"family": _FONT, "size": 12, "color": "#1b1f24"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "xaxis": _axis(x, 6),
        "yaxis": y,
    }


def _axis(axis: Axis, most_ticks: int) -> Spec:
    low, high = axis.range
    spec: Spec = {
        "title": {"text": escape(axis.title), "standoff": 8},
        "gridcolor": "#e7eaee",
        "linecolor": "#8c959f",
        "zeroline": False,
        "automargin": True,
    }
    if axis.log:
        ticks = log_ticks(low, high, most_ticks)
        spec |= {"type": "log", "range": [math.log10(low), math.log10(high)]}
        return spec | {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return spec | {"range": [low, high], "nticks": most_ticks, "tickformat": "~s" if high >= 1000 else "~g"}


def _lines(plot: LinePlot, styles: Mapping[str, Style]) -> Spec:
    layout = _layout(plot.x, _axis(plot.y, 7), 340)
    if plot.reference is not None:
        layout["shapes"] = _reference(plot.reference[0])
    data: list[Spec] = []
    for curve in plot.curves:
        data += _band(curve, plot, styles[curve.label])
    for curve in plot.curves:
        data.append(_line(curve, plot, styles[curve.label]))
    return {"data": data, "layout": layout}


def _reference(value: float) -> list[Spec]:
    # Without a name in the plot, where curves may run: the caption says what it is.
    line = {"color": "#8c959f", "width": 1, "dash": "dot"}
    return [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}]


def _band(curve: Curve, plot: LinePlot, style: Style) -> list[Spec]:
    there = ~np.isnan(curve.y.low)
    common = {
        "type": "scatter",
        "mode": "lines",
        "meta": curve.label,
        "x": _plain(curve.x[there]),
        "line": {"width": 0, "shape": "hv" if plot.steps else "linear", "color": style.color},
        "hoverinfo": "skip",
    }
    low = {**common, "y": _plain(drawn(curve.y.low[there], plot.y))}
    high = {**common, "y": _plain(drawn(curve.y.high[there], plot.y)), "fill": "tonexty", "fillcolor": style.band}
    return [low, high]


def _line(curve: Curve, plot: LinePlot, style: Style) -> Spec:
    y = np.where(np.isfinite(curve.y.estimate), drawn(curve.y.estimate, plot.y), np.nan)
    ends = [f"[{number(float(a))}, {number(float(b))}]" for a, b in zip(curve.y.low, curve.y.high, strict=True)]
    texts = [f"{number(float(e))} {i}" for e, i in zip(curve.y.estimate, ends, strict=True)]
    return {
        "type": "scatter",
        "mode": "lines" if plot.steps else "lines+markers",
        "meta": curve.label,
        "name": escape(curve.label),
        "x": _plain(curve.x),
        "y": _plain(y),
        "line": {"color": style.color, "width": 2.2, "dash": style.dash[0], "shape": "hv" if plot.steps else "linear"},
        "marker": {"symbol": style.marker[0], "size": 7, "color": style.color, "maxdisplayed": 9},
        "text": texts,
        "hovertemplate": f"{escape(curve.label)}<br>%{{x:.4~s}}: %{{text}}<extra></extra>",
    }


def _strip(plot: StripPlot, styles: Mapping[str, Style]) -> Spec:
    names = [_wrapped(_described(standing)) for standing in plot.standings]
    lines = max(name.count("<br>") + 1 for name in names)
    row = 34 + 16 * lines
    low, high = plot.x.range
    failed = any(standing.failures for standing in plot.standings)
    edge = high * (high / low) ** 0.04
    rows = len(plot.standings)
    # The name of a row stands above its dots, inside the plot: long names need no margin.
    share = 16 * lines / row
    y_axis = {"visible": False, "range": [rows - 1 + 0.5 - share / 2, -0.5 - share / 2], "fixedrange": True}
    layout = _layout(Axis(plot.x.title, True, (low, edge * edge / high if failed else high)), y_axis, 84 + row * rows)
    layout["margin"]["l"] = 14
    line: Spec = {"color": "#8c959f", "width": 1, "dash": "dot"}
    layout["shapes"] = [{"type": "line", "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "line": line}]
    layout["annotations"] = [
        {
            "xref": "paper",
            "x": 0,
            "xanchor": "left",
            "y": i - 0.5 + 0.5 * (1 - share),
            "yanchor": "bottom",
            "align": "left",
            "text": name,
            "showarrow": False,
            "bgcolor": "rgba(255,255,255,0.8)",
        }
        for i, name in enumerate(names)
    ]
    data: list[Spec] = []
    for i, standing in enumerate(plot.standings):
        data += _strip_row(i, standing, plot.x, edge, (1 - share) * 0.9, styles[standing.label])
    return {"data": data, "layout": layout}


def _strip_row(i: int, standing: Standing, axis: Axis, edge: float, height: float, style: Style) -> list[Spec]:
    inside = np.isfinite(standing.finals)
    at = i + height * offsets_of(len(standing.finals))
    reasons = dict(standing.failures)
    label = escape(standing.label)
    common: Spec = {"type": "scatter", "meta": standing.label, "hovertemplate": "%{text}<extra></extra>"}
    seeds = np.array(standing.seeds)
    dots = {
        **common,
        "mode": "markers",
        "x": _plain(drawn(standing.finals[inside], axis)),
        "y": _plain(at[inside]),
        "marker": {"color": style.color, "size": 7, "opacity": 0.55},
        "text": [
            f"{label}<br>seed {s}: {number(float(v))}"
            for s, v in zip(seeds[inside], standing.finals[inside], strict=True)
        ],
    }
    found = [dots]
    if not inside.all():
        cross = {"color": _FAILED, "size": 8, "symbol": "x-thin", "line": {"color": _FAILED, "width": 2}}
        texts = [f"{label}<br>seed {s}: {escape(reasons.get(int(s), 'failed'))}" for s in seeds[~inside]]
        where = {"x": [edge] * len(texts), "y": _plain(at[~inside])}
        found.append({**common, "mode": "markers", "marker": cross, "text": texts, **where})
    if np.isfinite(standing.regret.estimate):
        r = standing.regret
        ends = drawn(np.array([r.low, r.high]), axis)
        text = f"{label}<br>{number(float(r.estimate))} [{number(float(r.low))}, {number(float(r.high))}]"
        bar: Spec = {"mode": "lines", "x": _plain(ends), "y": [i, i], "line": {"color": style.color, "width": 4}}
        outline = {"color": "#ffffff", "width": 1.5}
        marker = {"symbol": style.marker[0], "size": 10, "color": style.color, "line": outline}
        middle: Spec = {"mode": "markers", "x": [float(drawn(r.estimate, axis))], "y": [i], "marker": marker}
        found += [{**common, **bar, "text": [text] * 2}, {**common, **middle, "text": [text]}]
    return found


def _described(standing: Standing) -> str:
    failed = f", {len(standing.failures)} failed" if standing.failures else ""
    return f"{standing.label} ({len(standing.seeds)} seeds{failed})"


def _wrapped(text: str) -> str:
    """Broken at spaces into lines that fit a phone, as Plotly's pseudo-HTML."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= _WRAP:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "<br>".join(map(escape, lines))


def _tau(plot: TauPlot, styles: Mapping[str, Style]) -> Spec:
    data: list[Spec] = []
    for i, (name, points) in enumerate(plot.families):
        style = family(i, styles[points[0].label])
        finite = [p for p in points if np.isfinite(p.regret.estimate)]
        for constant in (True, False):
            members = [p for p in finite if p.constant is constant]
            if not members:
                continue
            middle = drawn(np.array([float(p.regret.estimate) for p in members]), plot.y)
            high = drawn(np.array([float(p.regret.high) for p in members]), plot.y) - middle
            low = middle - drawn(np.array([float(p.regret.low) for p in members]), plot.y)
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if constant else "markers",
                    # A line joins several labels, so hiding one of them leaves it.
                    "meta": members[0].label if len(members) == 1 else None,
                    "x": [p.tau for p in members],
                    "y": _plain(middle),
                    "error_y": {"type": "data", "array": _plain(high), "arrayminus": _plain(low), "thickness": 1.6},
                    "line": {"color": style.color, "width": 2, "dash": style.dash[0]},
                    "marker": {
                        "color": style.color,
                        "size": 9,
                        "symbol": style.marker[0] if constant else "diamond-open",
                    },
                    "text": [f"{escape(p.label)}<br>{escape(p.schedule)} tau" for p in members],
                    "hovertemplate": f"%{{text}}<br>{escape(name)}: %{{y:.3g}} at tau %{{x:.3g}}<extra></extra>",
                }
            )
    layout = _layout(plot.x, _axis(plot.y, 7), 340) | {"shapes": _reference(1.0)}
    return {"data": data, "layout": layout}


def _plain(values: Floats) -> list[float | None]:
    """Numbers for JSON, six significant digits; what is not finite becomes a gap."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
