"""Choose which figures the report shows, from the series that the checks left in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from verify.report import layers
from verify.report.history import MAIN
from verify.report.plots import MARKS, SERIES, Axes, Curves, Plot, curves, draw, dress, number

Report = Mapping[str, Any]
LEAST = 1e-14  # nats: below it a divergence is rounding, and a logarithmic axis has no zero
KINDS = ("teacher-forced", "greedy", "sampling", "beam")


def figures(report: Report) -> list[Plot]:
    """Every figure for which the report has something to draw."""
    made = (
        make(report) for make in (frontier, by_position, by_rank, by_layer, by_module, divergence, near_ties, course)
    )
    return [plot for plot in made if plot is not None]


def frontier(report: Report) -> Plot | None:
    """File size against mean divergence."""
    order = variants(report)
    klds = {entry["variant"]: entry["value"] for entry in report["headroom"] if entry["measure"] == "mean_kld"}
    sizes = {candidate["variant"]: candidate["bytes"] / 1e6 for candidate in report["candidates"]}
    points = {v: (sizes[v], max(klds[v], LEAST)) for v in order if klds.get(v) is not None}
    if not points:
        return None

    def panel(axes: Any) -> None:
        best, steps = float("inf"), []
        for size, kld in sorted(points.values()):
            if kld < best:
                best = kld
                steps.append((size, kld))
        axes.step(*zip(*steps, strict=True), where="post", color=SERIES[0], alpha=0.35, linewidth=1.2)
        curves(axes, {v: ([x], [y]) for v, (x, y) in points.items()}, labels, order)

    labels = Axes("file, MB", "mean KL divergence, nat", log_x=True)
    said = "; ".join(f"{v} {x:.3g} MB, {number(y)} nat" for v, (x, y) in points.items())
    caption = "Lower left is better. The line joins the variants that no other beats in both."
    return Plot("frontier", "Size against divergence", said, caption, draw("frontier", 3.0, [panel]))


def by_position(report: Report) -> Plot | None:
    """Largest logit error by position in the text."""
    lines: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
    for variant, found in gathered(report, "logits", "by_position").items():
        width = found[0]["width"]
        worst = worst_of([series["max"] for series in found])
        lines[variant] = ([width * bucket for bucket in range(len(worst))], worst)
    labels = Axes("position", "largest |Δ logit|", whole=True)
    caption = "The largest error of any token's logit, teacher-forced without a cache; all cases and levels together."
    return _plot(report, "position", "Error by position", caption, [("", lines, labels)])


def by_rank(report: Report) -> Plot | None:
    """Largest and mean logit error by the token's rank in the reference's order."""
    panels = []
    for kind, title in (("max", "largest |Δ logit|"), ("mean", "mean |Δ logit|")):
        lines: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
        for variant, found in gathered(report, "logits", "by_rank").items():
            lines[variant] = (found[0]["ends"], worst_of([series[kind] for series in found]))
        panels.append(("", lines, Axes("rank in the reference's order, up to", title, log_x=True)))
    caption = (
        "Tokens that the reference finds likely are left, unlikely ones right. A bucket further right holds more, "
        "so its largest error is the largest of more; the mean has no such slope of its own."
    )
    return _plot(report, "rank", "Error by token rank", caption, panels)


def by_layer(report: Report) -> Plot | None:
    """Largest error of each layer's cache."""
    panels = []
    for part in ("key", "value"):
        lines: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
        for variant, found in gathered(report, "cache", "by_layer").items():
            worst = worst_of([series[part] for series in found])
            lines[variant] = (range(len(worst)), worst)
        panels.append((f"{part}s", lines, Axes("layer", "largest |Δ|", whole=True)))
    caption = "The cache that each layer returns against the reference's: where along the depth an error comes in."
    return _plot(report, "layer", "Cache error by layer", caption, panels)


def by_module(report: Report) -> Plot | None:
    """Return how far what each module makes is from the reference's: gathered, and its own."""
    order = variants(report)
    found = list(layers.curves(report))
    if not any(value for _, error, own in found for value in (*error.values(), *own.values())):
        return None
    names = list(found[0][1])
    gathered_up = {variant: (range(len(names)), list(error.values())) for variant, error, _ in found}
    own_errors = {variant: (range(len(names)), list(own.values())) for variant, _, own in found}

    def panel(axes: Any, lines: Curves, title: str) -> None:
        curves(axes, lines, Axes("", "share of the norm", whole=True), order, title)
        begins = [at for at, name in enumerate(names) if name.endswith("attention")]
        shown = begins[:: max(-(-len(begins) // 8), 1)]
        ticks = [0, *shown, len(names) - 1]
        axes.set_xticks(ticks, ["emb.", *(names[at].split()[1] for at in shown), "head"])

    panels = [partial(panel, lines=gathered_up, title="gathered"), partial(panel, lines=own_errors, title="its own")]
    said = "; ".join(_said(own_errors))
    caption = (
        "Embedding, then attention and MLP of each layer (numbers), final norm, head. Where a line steps up, an "
        "error comes in. What is exactly right has no mark. For reading: no bound is held to it."
    )
    return Plot("modules", "Gap by layer", f"own errors: {said}", caption, draw("modules", 2.1, panels))


def divergence(report: Report) -> Plot | None:
    """Histogram of the divergence of single tokens, and its tail."""
    bars: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
    tails: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
    for variant, found in gathered(report, "divergence", "histogram").items():
        edges, counts = found[0]["edges"], found[0]["counts"]
        total = sum(counts) + found[0]["not_finite"]
        used = [i for i, count in enumerate(counts) if count]
        if not used:
            continue
        shown = range(used[0], used[-1] + 1)
        bars[variant] = ([(edges[i] * edges[i + 1]) ** 0.5 for i in shown], [100 * counts[i] / total for i in shown])
        above = [sum(counts[i:]) / total for i in shown]
        tails[variant] = ([edges[i] for i in shown], [100 * share for share in above])
    caption = (
        "Every scored token of the held-out text. Above: how many lie near a divergence; below: how many exceed it."
    )
    first = ("", bars, Axes("KL divergence of a token, nat", "% of tokens", log_x=True, log_y=False))
    second = ("", tails, Axes("KL divergence exceeded, nat", "% of tokens", log_x=True))
    return _plot(report, "divergence", "Divergence of single tokens", caption, [first, second])


def near_ties(report: Report) -> Plot | None:
    """Choices that differ from the reference's, with the margin by which it preferred its own."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for check in ("logits", "generation"):
        for variant, tables in gathered(report, check, "near_ties").items():
            found.setdefault(variant, []).extend(tables)
    rows = [v for v in variants(report) if any(table["choices"] for table in found.get(v, ()))]
    if not rows:
        return None

    def panel(axes: Any) -> None:
        for place, kind in enumerate(KINDS):
            points = {
                (choice["margin"], row)
                for row, variant in enumerate(rows)
                for table in found[variant]
                for choice in table["choices"]
                if choice["kind"] == kind and choice["margin"] is not None
            }
            if points:
                xs, ys = zip(*sorted(points), strict=True)
                spread = [y + 0.15 * (place - 1.5) for y in ys]
                axes.plot(xs, spread, MARKS[place], color=SERIES[place], label=kind, fillstyle="none")
        for row, variant in enumerate(rows):
            limit = max((table["limit"] for table in found[variant] if table["limit"] is not None), default=None)
            if limit is not None:
                axes.plot([limit, limit], [row - 0.35, row + 0.35], color=SERIES[7], label="largest error seen")
        dress(axes, Axes("margin of the reference's choice, logit", "", log_y=False))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=-0.02 * axes.get_xlim()[1])  # a margin of almost nothing is drawn whole

    counts = {v: sum(len(table["choices"]) for table in found[v]) for v in rows}
    said = "; ".join(f"{v} {count}" for v, count in counts.items())
    caption = (
        "Each mark is a choice of token that differs from the reference's. Left of the bar the reference was undecided "
        "within the error seen: a near tie. Right of it the choice is a mismatch, and none is allowed."
    )
    svg = draw("ties", 0.9 + 0.33 * len(rows), [panel], columns=3)
    return Plot("ties", "Near ties and their margins", f"choices that differ, each level apart: {said}", caption, svg)


def course(report: Report) -> Plot | None:
    """The main figures over the recipe's runs, the last one being this report's."""
    runs = report["history"]["runs"] if report["history"] else []
    if not runs:
        return None
    now = {(e["variant"], e["check"], e["measure"]): e["value"] for e in report["headroom"]}
    panels = []
    for check, measure in MAIN:
        lines: dict[str, tuple[Sequence[float], Sequence[float | None]]] = {}
        for variant in variants(report):
            values = [_past(run["figures"], variant, check, measure) for run in runs]
            lines[variant] = (range(-len(runs), 1), [*values, now.get((variant, check, measure))])
        panels.append((f"{check}.{measure}", lines, Axes("runs ago" if measure == MAIN[-1][1] else "", "", whole=True)))
    caption = "Runs of this recipe in this build directory, oldest left; 0 is this report."
    return _plot(report, "history", "History", caption, panels)


def variants(report: Report) -> list[str]:
    """The judged variants in their order, which gives each its colour and mark in every figure."""
    return [candidate["variant"] for candidate in report["candidates"]]


def gathered(report: Report, check: str, name: str) -> dict[str, list[Any]]:
    """One series of one check by variant, a list over levels (and runtimes)."""
    found: dict[str, list[Any]] = {}
    for result in report["results"]:
        if result["check"] == check and name in result["series"]:
            found.setdefault(result["variant"], []).append(result["series"][name])
    return found


def worst_of(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The largest value in each place; None where no row has one."""
    return [max((v for v in column if v is not None), default=None) for column in zip(*rows, strict=True)]


def _past(figures: Mapping[str, float], variant: str, check: str, measure: str) -> float | None:
    found = [
        value for key, value in figures.items() if (key.split("/")[0], *key.split("/")[3:]) == (variant, check, measure)
    ]
    return max(found, default=None)


def _plot(
    report: Report, name: str, title: str, caption: str, panels: Sequence[tuple[str, Curves, Axes]]
) -> Plot | None:
    """A figure of curves, unless there are none; in words it is the range of each curve of the first panel."""
    if not any(lines for _, lines, _ in panels):
        return None
    order = variants(report)
    drawn: list[Callable[[Any], None]] = [
        partial(curves, lines=lines, labels=labels, order=order, title=heading) for heading, lines, labels in panels
    ]
    height = 3.1 if len(panels) == 1 else 2.1
    return Plot(name, title, "; ".join(_said(panels[0][1])), caption, draw(name, height, drawn))


def _said(lines: Curves) -> Iterator[str]:
    for variant, (_, values) in lines.items():
        finite = [value for value in values if value is not None]
        if finite:
            yield f"{variant} from {number(min(finite))} to {number(max(finite))}"
