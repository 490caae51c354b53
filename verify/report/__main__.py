"""python -m verify.report DIR --form FORM: print a finished report as GitHub shows it.

stdout carries `summary` (the whole report for a job's page), `comment` (short, for a pull request) or `annotations`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import command
from pipeline.artifact.store import open_artifact
from pipeline.canonical import read_json
from pipeline.errors import PASSED, InputError

FORMS = ("summary", "comment", "annotations")


def main(argv: Sequence[str] | None) -> int:
    """Read the report, whose files must be those that `verify` wrote, and print it."""
    parser = argparse.ArgumentParser(prog="python -m verify.report", description="Print a report for GitHub.")
    parser.add_argument("report", type=Path, metavar="DIR", help="what `verify` wrote, such as build/NAME/report")
    parser.add_argument("--form", choices=FORMS, required=True, help="the page of a job, a comment, or annotations")
    arguments = parser.parse_args(argv)
    home: Path = arguments.report
    open_artifact(home, made_by="python -m verify RECIPE")

    from verify.report import FILES
    from verify.report.annotations import commands
    from verify.report.markdown import BIGGEST_SUMMARY, comment

    if arguments.form == "annotations":
        print("".join(f"{line}\n" for line in commands((home / FILES["junit"]).read_text("utf-8"))), end="")
        return PASSED
    whole = (home / FILES["markdown"]).read_text(encoding="utf-8")
    short = arguments.form == "comment" or len(whole.encode("utf-8")) > BIGGEST_SUMMARY
    print(comment(_document(home / FILES["json"])) if short else whole, end="")
    return PASSED


def _document(path: Path) -> Any:
    """The report's document; InputError if another version of the project wrote it in another form."""
    from verify.report.document import SCHEMA

    report = read_json(path)
    if report["schema"] != SCHEMA:
        what = f"a report of schema {report['schema']}, this version reads {SCHEMA}"
        raise InputError(what, where=path, hint="verify again, or use the version that wrote it")
    return report


if __name__ == "__main__":
    raise SystemExit(command.run(main))
