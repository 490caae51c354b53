"""python -m verify.report DIR --form FORM: print a finished report as GitHub shows it.

stdout carries `summary` (the whole report for a job's page), `comment` (short, for a pull request) or `annotations`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import command
from pipeline.artifact.store import open_artifact
from pipeline.canonical import read_json
from pipeline.errors import PASSED, ArtifactError

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
    from verify.report.document import SCHEMA
    from verify.report.markdown import BIGGEST_SUMMARY, comment

    if arguments.form == "annotations":
        print("".join(f"{line}\n" for line in commands((home / FILES["junit"]).read_text("utf-8"))), end="")
        return PASSED
    document = read_json(home / FILES["json"])
    if document.get("schema") != SCHEMA:
        hint = "verify the files again with this version: python -m verify RECIPE"
        raise ArtifactError(f"a report of schema {document.get('schema')}, not {SCHEMA}", where=home, hint=hint)
    whole = (home / FILES["markdown"]).read_text(encoding="utf-8")
    short = arguments.form == "comment" or len(whole.encode("utf-8")) > BIGGEST_SUMMARY
    print(comment(document) if short else whole, end="")
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
