"""python -m benchmarks.conversions [--build DIR] [--only NAME ...]: a table of other programs' conversions, judged.

stdout carries the table in Markdown: each file's figures, its verdict without a recipe, and what failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import command
from pipeline.errors import CHECK_FAILED, PASSED, PipelineError, RecipeError
from pipeline.plugins import ROOT
from pipeline.typed import did_you_mean

MODELS = tuple(sorted(path.stem for path in (ROOT / "recipes").glob("embedded*.toml")))
HEAD = ("conversion", "judged as", "max Δlogit", "mean KLD", "same top", "verdict", "what failed (figure, bound)")
LONGEST = 150  # characters of a failure that is no figure
SHOWN = {("logits", "max_abs"): ".2g", ("divergence", "mean_kld"): ".2g", ("divergence", "same_top"): ".1%"}


def main(argv: Sequence[str] | None) -> int:
    """Make every conversion, judge it, print the table. Exit code 0 whatever the verdicts are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversions", description="Judge others' conversions.")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"only these models, of {', '.join(MODELS)}")
    arguments = parser.parse_args(argv)
    for name in arguments.only or ():
        if name not in MODELS:
            raise RecipeError(f"no model {name!r}", where="--only", hint=did_you_mean(name, MODELS))

    from benchmarks.conversions.makers import MAKERS  # after parsing, so that --help is instant

    home = (arguments.build / "conversions").resolve()
    home.mkdir(parents=True, exist_ok=True)
    asked = [(name, who) for name in arguments.only or MODELS for who in MAKERS]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name, who in tqdm(asked, unit=" conversions"):
        source, place = ROOT / "recipes" / name, home / f"{name}-{who}".replace(", ", "-").replace(" ", "-")
        graph = place / "model.onnx"
        try:
            if not graph.is_file():
                _make(MAKERS[who], source, place)
        except PipelineError as error:
            cells = [f"{name}: {who}", *["-"] * (len(HEAD) - 3), "not made", _shortened(error.what)]
        else:
            cells = [*row(f"{name}: {who}", _report(graph, source, home / "judged"))]
        print(f"| {' | '.join(cells)} |", flush=True)
    return PASSED


def _make(maker: Callable[[Path, Path], None], source: Path, place: Path) -> None:
    """Make a conversion whole or not at all: one that is there is not made again."""
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        made = Path(scratch, place.name)
        maker(source, made)
        made.rename(place)


def _report(graph: Path, source: Path, build: Path) -> Mapping[str, Any]:
    """The report of `python -m verify --candidate GRAPH --source SOURCE`."""
    words = ["--candidate", graph, "--source", source, "--build", build, "--format", "json"]
    told = subprocess.run(
        [sys.executable, "-m", "verify", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if told.returncode not in (PASSED, CHECK_FAILED):
        raise RecipeError("verify could not judge it", where=graph, hint="see what it says above")
    report: Mapping[str, Any] = json.loads(told.stdout)
    return report


def row(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cells of a conversion's row, by HEAD."""
    variant = report["candidates"][0]["variant"]
    figures = {(r["check"], m["name"]): m["value"] for r in report["results"] for m in r["measures"]}
    yield from (name, variant)
    for key, form in SHOWN.items():
        value = figures.get(key)
        yield "not measured" if value is None else format(value, form)
    yield report["verdict"]
    yield "; ".join(dict.fromkeys(_failures(report)))


def _failures(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what failed: each figure once, at the first level where it did."""
    seen = set()
    for result in report["results"]:
        if result["failure"] is not None:
            yield _shortened(f"{result['check']}: {result['failure']}")
        for measure in result["measures"]:
            key = (result["check"], measure["name"])
            if not measure["passed"] and key not in seen:
                seen.add(key)
                value = "not finite" if measure["value"] is None else f"{measure['value']:.2g}"
                bound = "no bound" if measure["bound"] is None else f"{measure['bound']:.2g}"
                yield f"`{'.'.join(key)}` {value} ({bound})"


def _shortened(text: str) -> str:
    return textwrap.shorten(text, LONGEST, placeholder=" ...").replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(command.run(main))
