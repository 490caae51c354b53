"""The report's figures as SVG that lies inside the page: its text and colours are the page's, light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

# Stand-ins that matplotlib can draw with, and the colours of the page that take their place in the SVG.
INK, LINE = "#0000f0", "#0000f1"
SERIES = tuple(f"#0000a{number}" for number in range(8))
COLOURS = {INK: "currentColor", LINE: "var(--line)", **{c: f"var(--series-{n})" for n, c in enumerate(SERIES)}}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # a colour is never the only difference
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "verify",  # ids without randomness: equal reports are equal files
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from files, and may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WIDTH = 5.0  # inches, 360 units of the SVG: as wide as a phone, so that its text is read there at its own size


@dataclass(frozen=True)
class Plot:
    """A figure for the page: a name for its ids, a title, what it says in words, a caption, the SVG's markup."""

    name: str
    title: str
    words: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Axes:
    """State what an axis says and whether it is logarithmic."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = True
    whole: bool = False  # x counts things


Curves = Mapping[str, tuple[Sequence[float], Sequence[float | None]]]


def draw(name: str, height: float, panels: Sequence[Callable[[Any], None]], *, columns: int = 4) -> str:
    """SVG of panels one above the other, each drawn by a function of its axes, with one legend below all."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height * len(panels) + 0.55))
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for panel, place in zip(panels, axes, strict=True):
            panel(place)
        handles, labels = axes[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        rows = -(-len(unique) // columns)
        total = height * len(panels) + 0.55
        bottom = (0.58 + 0.2 * rows) / total
        figure.subplots_adjust(left=0.155, right=0.975, top=1 - 0.3 / total, bottom=bottom, hspace=0.62)
        if unique:
            figure.legend(unique.values(), unique.keys(), loc="lower center", ncols=columns, frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), name)


def curves(axes: Any, lines: Curves, labels: Axes, order: Sequence[str], title: str = "") -> None:
    """One line with marks per variant; `order` gives each variant its colour and mark wherever it appears."""
    for variant, (xs, ys) in lines.items():
        place = order.index(variant) % len(SERIES)
        pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and not (labels.log_y and y <= 0)]
        if pairs:
            every = max(len(pairs) // 8, 1)
            style = {"color": SERIES[place], "marker": MARKS[place], "markevery": (place % every, every)}
            axes.plot(*zip(*pairs, strict=True), label=variant, **style)
    dress(axes, labels, title)


def dress(axes: Any, labels: Axes, title: str = "") -> None:
    """Scales, ticks, labels and grid of one panel."""
    axes.set_title(title, loc="left")
    axes.set_xlabel(labels.x)
    axes.set_ylabel(labels.y)
    for axis, logarithmic in ((axes.xaxis, labels.log_x), (axes.yaxis, labels.log_y)):
        if logarithmic:
            getattr(axes, f"set_{axis.axis_name}scale")("log")
            axis.set_major_locator(LogLocator(numticks=7, subs=_subs(axis.get_view_interval())))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        else:
            axis.set_major_locator(MaxNLocator(6, integer=labels.whole and axis is axes.xaxis))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.grid(visible=True, which="major", linewidth=0.6)
    axes.set_axisbelow(True)


def _subs(view: Sequence[float]) -> tuple[float, ...]:
    """Choose which multiples of powers of ten are labelled: a short axis needs more than one."""
    decades = math.log10(view[1] / view[0])
    return (1.0, 2.0, 3.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)


def number(value: float) -> str:
    """A number as a tick says it: 0.02, 300, 1e-6."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _inline(svg: str, name: str) -> str:
    """The svg element alone: the page's colours, ids of its own, nothing that names another place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:xlink)?|version|width|height)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
