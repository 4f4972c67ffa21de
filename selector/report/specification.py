"""A plot as a plain dict in Plotly's JSON form; the package ``plotly`` is not needed."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from selector.report.palette import Style, family
from selector.report.plots import (
    Axis,
    Curve,
    LinePlot,
    Standing,
    StripPlot,
    TauPlot,
    drawn,
    log_ticks,
    number,
    offsets_of,
)
from selector.report.statistics import Floats

Spec = dict[str, Any]

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_WRAP = 46  # characters of a label that fit a phone
_FAILED = "#b00020"


def specification(plot: LinePlot | StripPlot | TauPlot, styles: Mapping[str, Style]) -> Spec:
    """A plot in Plotly's JSON form: ``data`` and ``layout``."""
    if isinstance(plot, LinePlot):
        return _lines(plot, styles)
    if isinstance(plot, StripPlot):
        return _strip(plot, styles)
    return _tau(plot, styles)


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
