"""One colour, line and marker per label, the same in every figure of a report."""

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours, which people with any colour blindness can tell apart; its yellow is too pale for a line.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
# (Plotly's name, matplotlib's): colour is never the only thing that tells two labels apart.
_DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
_MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("triangle-up", "^"),
    ("pentagon", "p"),
    ("star", "*"),
    ("triangle-down", "v"),
    ("hexagon", "h"),
)
# Probabilities from 0 over .5 to 1, light enough for black text on any of them.
DIVERGING = ("#e8a06f", "#ffffff", "#7db6de")


@dataclass(frozen=True)
class Style:
    """How a label is drawn: a colour as #rrggbb, and (Plotly's, matplotlib's) names of line and marker."""

    color: str
    dash: tuple[str, str]
    marker: tuple[str, str]

    @property
    def band(self) -> str:
        """The colour of its band, for css and Plotly."""
        r, g, b = _rgb(self.color)
        return f"rgba({round(255 * r)},{round(255 * g)},{round(255 * b)},0.16)"


def assign(labels: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """A style for every (label, strategy).

    A strategy has one hue; several labels of one strategy differ in lightness, line and marker. Where only one
    strategy is compared with itself, every label has a hue of its own.
    """
    strategy_of = dict(labels)
    variants: dict[str, list[str]] = {}
    for label, strategy in strategy_of.items():
        variants.setdefault(strategy, []).append(label)
    if len(variants) == 1:
        variants = {label: [label] for label in strategy_of}
    styles = {}
    for i, name in enumerate(sorted(variants)):
        base, again = _COLORS[i % len(_COLORS)], i // len(_COLORS)
        members = variants[name]
        for j, label in enumerate(members):
            # From darker than the hue to lighter, but never too pale for white paper.
            shade = 0.0 if len(members) == 1 else 0.45 - 0.95 * j / (len(members) - 1)
            line = _DASHES[(again + j) % len(_DASHES)]
            styles[label] = Style(_shaded(base, shade), line, _MARKERS[(i + again + j) % len(_MARKERS)])
    return styles


def family(index: int, style: Style) -> Style:
    """How the ``index``-th family of labels is drawn, whose labels have ``style``: the colour stays."""
    return Style(style.color, _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)])


def diverging(p: float) -> str:
    """The colour of a probability, as #rrggbb."""
    half = 2 * abs(p - 0.5)
    end, middle = _rgb(DIVERGING[2] if p > 0.5 else DIVERGING[0]), _rgb(DIVERGING[1])
    return _hex((m + half * (e - m) for e, m in zip(end, middle, strict=True)))


def _hex(channels: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in channels)


def _rgb(color: str) -> tuple[float, float, float]:
    r, g, b = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return r, g, b


def _shaded(color: str, shade: float) -> str:
    """Mixed with black for ``shade`` > 0 (1 is black), with white below (-1 is white)."""
    end = 0.0 if shade > 0 else 1.0
    return _hex(c + abs(shade) * (end - c) for c in _rgb(color))
