"""python -m publish RECIPE [--push | --pr | --offline] [--build DIR]; python -m publish --check REPO[@REV]."""

from __future__ import annotations

import argparse
import hashlib
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from model import hub_environment
from pipeline import command
from pipeline.errors import PASSED, RecipeError, UnavailableError
from pipeline.recipe.publication import REPOSITORY, Publish
from pipeline.recipe.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from publish.hub import Head, Hub
    from publish.push import Publication


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints build/<name>/repo, or REPOSITORY@COMMIT (@refs/pr/N) once that is on the Hub."""
    arguments = _arguments(argv)
    hub_environment.check()

    from publish import check
    from publish.hub import Hub

    api = Hub(offline=arguments.offline)
    if arguments.check is not None:
        return check.check(api, arguments.check, arguments.public_key)
    recipe = read_recipe(arguments.recipe)
    target = arguments.build / recipe.name / "repo"
    print(_publish(arguments, _order(recipe, arguments, target, api), api) or target)
    return PASSED


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(prog="python -m publish", description="Publish what was verified to the Hub.")
    parser.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE", help="recipe file, with a table [publish]")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    parser.add_argument("--repository", metavar="OWNER/NAME", help="publish there, not where the recipe says")
    parser.add_argument("--own-prompts", action="store_true", help="publish the prompts of verify --prompts too")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--push", action="store_true", help="publish (without it, only the plan is shown)")
    how.add_argument("--pr", action="store_true", help="open a pull request with the same files")
    how.add_argument("--offline", action="store_true", help="plan without asking the Hub, as if nothing were there")
    how.add_argument("--check", metavar="REPO[@REV]", help="download a published repository and prove it")
    parser.add_argument("--public-key", type=Path, metavar="KEY", help="with --check: who must have signed it")
    arguments = parser.parse_args(argv)
    if (arguments.recipe is None) == (arguments.check is None):
        parser.error("name a RECIPE, or a repository with --check")
    if arguments.public_key is not None and arguments.check is None:
        parser.error("--public-key goes with --check")
    return arguments


def _order(recipe: Recipe, arguments: Namespace, target: Path, api: Hub) -> Publication:
    """Assemble the tree, sign it if asked to, and say where it goes."""
    from pipeline.artifact.manifest import FILE_NAME as MANIFEST
    from pipeline.canonical import canonical_json
    from publish import assemble, evidence, plan, signing
    from publish.push import Publication
    from publish.tree import SIGNATURE, changed

    repository = _repository(recipe, arguments, api)
    found = evidence.gather(recipe, target.parent, repository, own_prompts=arguments.own_prompts)
    tree = assemble.assemble(found, target, api.token)
    places = {path: tree.path / path for path in (*(entry.path for entry in tree.manifest.files), MANIFEST)}
    digests = {entry.path: entry.sha256 for entry in tree.manifest.files}
    digests[MANIFEST] = hashlib.sha256(canonical_json(asdict(tree.manifest)) + b"\n").hexdigest()
    settings = recipe.publish or Publish(repository)  # --repository alone: published in the default manner
    tag = f"{settings.tag}{tree.digest[:12]}"
    key = signing.configured_key()
    if key is not None:
        places[SIGNATURE] = target.with_name(f"repo.{SIGNATURE}")  # beside the artifact, whose manifest it signs
        published = None if arguments.offline else api.read(repository, SIGNATURE)
        kept = places[SIGNATURE].read_bytes() if places[SIGNATURE].is_file() else None
        known = [content for content in (published, kept) if content is not None]
        signature = signing.signature(tree.path, key, known)
        places[SIGNATURE].write_bytes(signature)
        digests[SIGNATURE] = hashlib.sha256(signature).hexdigest()
        tag += f"-{digests[SIGNATURE][:8]}"  # the manifest knows nothing of it, and a tag names one tree
    files = {path: plan.local(place) for path, place in sorted(places.items())}
    for path, file in files.items():
        if file.sha256 != digests[path]:
            raise changed(file.place)
    return Publication(
        files=files,
        repository=repository,
        private=settings.private,
        tag=tag,
        title=f"Publish {recipe.name} {tag}",
    )


def _repository(recipe: Recipe, arguments: Namespace, api: Hub) -> str:
    """OWNER/NAME: as the command line or the recipe says, in the token's namespace where they name no owner."""
    name = arguments.repository or (recipe.publish.repository if recipe.publish else None)
    if name is None:
        hint = 'add [publish] with repository = "NAME", or --repository OWNER/NAME'
        raise RecipeError("the recipe does not say where to publish", where=recipe.path, hint=hint)
    if not REPOSITORY.fullmatch(name):
        raise RecipeError(
            f"{name!r} is no repository", where="--repository", hint="write OWNER/NAME: letters, digits, . _ -"
        )
    if "/" in name:
        return str(name)
    if arguments.offline:
        hint = "add --repository OWNER/NAME: whose namespace it is, only the Hub knows"
        raise RecipeError(f"{name!r} names no owner", where="--offline", hint=hint)
    return f"{api.namespace()}/{name}"


def _publish(arguments: Namespace, order: Publication, api: Hub) -> str | None:
    """Show the plan, and do it if asked to; REPOSITORY@REVISION of what is on the Hub then, None for a dry run."""
    from publish import push
    from publish.terminal import show

    if arguments.push or arguments.pr:
        api.namespace()  # a token that has expired is said so before anything is sent
    head = None if arguments.offline else _head(order, api)
    new = " (the Hub was not asked)" if arguments.offline else "" if head else " (a new repository)"
    command.say(f"Hub: {api.redact(api.endpoint)}")  # HF_ENDPOINT may lead elsewhere than one thinks
    show(push.planned(order, head), order.files, head, f"{order.repository}{new}")
    if arguments.push:
        return f"{order.repository}@{push.push(api, order)}"
    if arguments.pr:
        return f"{order.repository}@{push.propose(api, order)}"
    command.say("dry run: nothing was sent; --push publishes, --pr proposes")
    return None


def _head(order: Publication, api: Hub) -> Head | None:
    from publish.hub_errors import UnreachableError

    try:
        return api.head(order.repository)
    except UnreachableError as error:
        hint = "restore the network, or add --offline to plan as if nothing were there"
        raise UnavailableError(error.what, where=error.where, hint=hint) from error


if __name__ == "__main__":
    raise SystemExit(command.run(main))
