"""python -m verify.explain FILE.onnx --source DIR --input FILE.json [--baseline FILE.onnx]: show a fault again."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import command
from pipeline.errors import CHECK_FAILED, PASSED, InputError


def main(argv: Sequence[str] | None) -> int:
    """Run a minimised input again; prints the explanation as JSON. Exit code 1 while the measure is out of bounds."""
    parser = argparse.ArgumentParser(prog="python -m verify.explain", description="Show a fault again, on its input.")
    parser.add_argument("candidate", type=Path, metavar="FILE.onnx", help="the file that failed")
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="checkpoint it was judged against")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE.json", help="explain-input-*.json")
    parser.add_argument("--baseline", type=Path, metavar="FILE.onnx", help="the same variant as it should be")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for one answer (300)")
    parser.add_argument("--memory", type=float, default=16, metavar="GB", help="address space of the candidate (16)")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled weights of the source")
    arguments = parser.parse_args(argv)
    for path in (arguments.candidate, *([arguments.baseline] if arguments.baseline else [])):
        if not path.is_file():
            raise InputError("not a file", where=path, hint="name an ONNX file")
    os.environ["HF_HUB_OFFLINE"] = "1"

    from verify.candidate.input import HINT, Input, read_table

    table = read_table(arguments.input)
    criterion = table.get("criterion") if isinstance(table, dict) else None
    if not isinstance(criterion, dict):
        raise InputError("no criterion", where=arguments.input, hint=HINT)
    return _show_again(arguments, criterion, Input.of(table.get("input"), arguments.input))


def _show_again(arguments: argparse.Namespace, criterion: dict[str, Any], given: Any) -> int:
    from verify.explain.failure import Trial
    from verify.explain.locate import Folders, Limits, conclude
    from verify.explain.terminal import show
    from verify.reference.model import Reference
    from verify.sandbox.worker import Worker

    failure = _failure(criterion, given, arguments.input)
    reference = Reference(arguments.source, allow_pickle=arguments.allow_pickle)
    bounds = Limits(arguments.timeout, arguments.memory)
    with tempfile.TemporaryDirectory() as scratch:
        place = Folders(arguments.candidate, arguments.baseline, Path(scratch), bounds)
        with Worker(place.candidate, failure.level, timeout_s=bounds.timeout_s, memory_gb=bounds.memory_gb) as worker:
            trial = Trial(reference, worker, place.scratch)
            value = trial.value(failure, given)
            found = conclude(trial, place, failure, value, said=(), runs=1)
    show([found])
    json.dump(asdict(found), sys.stdout, indent=1, ensure_ascii=False)
    print()
    return CHECK_FAILED if (value > failure.bound if failure.upper else value < failure.bound) else PASSED


def _failure(criterion: dict[str, Any], given: Any, where: Path) -> Any:
    from pipeline import plugins
    from verify.candidate.input import HINT
    from verify.explain.failure import Failure, traceable

    try:
        names = ("variant", "check", "level", "figure", "bound", "upper", "case", "observed")
        table = {name: criterion[name] for name in names}
        if table["check"] not in plugins.names("verify/checks") or not traceable(table["check"]):
            raise InputError(f"no check {table['check']!r} to run again", where=where, hint=HINT)
        return Failure(input=given, **{**table, "bound": float(table["bound"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a criterion of verify.explain: {error}", where=where, hint=HINT) from error


if __name__ == "__main__":
    raise SystemExit(command.run(main))
