"""python -m benchmarks.releases RECIPE [--build DIR] [--cache DIR] [--only NAME ...] [--keep]: files by releases."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline import command
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import read_recipe


def main(argv: Sequence[str] | None) -> int:
    """Run what was built in every release; prints the path of the page."""
    parser = command.parser("benchmarks.releases", "Run what was built in the releases that users may have.")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where releases are installed and kept (BUILD/releases: 8 GB for all)"
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", help="only these, such as onnxruntime/1.22.1"
    )
    parser.add_argument("--keep", action="store_true", help="write docs/releases too, from which cards are made")
    arguments = parser.parse_args(argv)
    if arguments.keep and arguments.only:
        raise RecipeError(
            "a part of the releases is no table to keep", where="--keep", hint="leave out --only or --keep"
        )
    recipe = read_recipe(arguments.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"  # every file is here; a look-up would only wait

    from benchmarks import engine  # after parsing, so that --help is instant
    from benchmarks.engines import ours
    from benchmarks.releases import report
    from benchmarks.releases.catalogue import RELEASES
    from benchmarks.releases.environment import prepare
    from benchmarks.releases.loaders import loaders
    from benchmarks.releases.run import measure
    from model.form import digest_of, form_of
    from model.releases import File, Table
    from pipeline.canonical import file_digest
    from verify.environment import environment

    site = engine.open_site(recipe, arguments.build)
    lacking = [name for name in recipe.files if name not in ours.variants(site)]
    if arguments.keep and lacking:
        hint = command.invocation("quantize", recipe.path, arguments.build)
        raise RecipeError(f"not built: {', '.join(lacking)}", where="--keep", hint=f"run: {hint}")
    chosen = engine.choose([(release.group, release.version) for release in RELEASES], arguments.only)
    cache = (arguments.cache or arguments.build / "releases").resolve()
    releases = [release for release in RELEASES if (release.group, release.version) in chosen]
    entries = measure(recipe, site, [one for release in releases for one in loaders(release, prepare(release, cache))])
    files = {name: ours.place(site, name).path for name in ours.variants(site)}
    forms = {name: form_of(path) for name, path in files.items()}
    found = Table(
        name=recipe.name,
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(["python", "-m", "benchmarks.releases", f"recipes/{recipe.path.name}", "--keep"]),
        processor=environment()["processor"],
        files={name: File(digest_of(forms[name]), forms[name], file_digest(files[name])) for name in files},
        entries=tuple(entries),
    )
    print(report.write(found, site.directory, keep=arguments.keep))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
