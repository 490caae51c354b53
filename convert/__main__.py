"""python -m convert RECIPE [--source DIR] [--commit HASH] [--build DIR]: the source exported to float32 ONNX.

python -m convert --init SOURCE: a recipe for a checkpoint that has none, on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from convert.hub import COMMIT
from model import architecture, contract
from model.architecture import Architecture
from model.checkpoint import read_config
from model.contract import Dimensions
from pipeline import command, variants
from pipeline.artifact import store
from pipeline.artifact.manifest import WARNINGS, Manifest
from pipeline.command import say
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.warned import gathering, warn

TOOLS = ("torch", "transformers", "onnx", "onnx-ir", "tokenizers")


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the path of the float32 artifact."""
    parser = command.parser("convert", "Export a checkpoint to float32 ONNX with past key values.")
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint directory, instead of the recipe's")
    parser.add_argument("--commit", metavar="HASH", help="this commit of the source, not what the revision names now")
    parser.add_argument(
        "--init",
        action=_Init,
        metavar="SOURCE",
        help="print a recipe for a checkpoint's directory, or for a repository of the Hub, and do nothing else",
    )
    arguments = parser.parse_args(argv)
    if arguments.commit is not None and not COMMIT.fullmatch(arguments.commit):
        hint = "write all 40 hexadecimal digits of a commit's hash"
        raise RecipeError(f"{arguments.commit!r} is no commit", where="--commit", hint=hint)
    recipe = read_recipe(arguments.recipe)
    home = arguments.build / recipe.name

    from convert import source  # after parsing, so that --help is instant

    origin = source.resolve(recipe, arguments.source, arguments.commit, home / "source")
    place = source.place_of(recipe, arguments.source, origin.manifest.source["commit"])
    with source.named(origin.path, place), gathering() as warnings:
        made = _model(recipe, origin, home / "fp32", warnings)
    print(made.path)
    return PASSED


class _Init(argparse.Action):
    """Print a recipe and end, as --help does: there is no recipe to name yet."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        from convert.init import recipe_of

        _, source, _ = given
        print(recipe_of(source), end="")
        parser.exit()


def _model(recipe: Recipe, origin: store.Artifact, target: Path, warnings: list[str]) -> store.Artifact:
    dims = Dimensions(**origin.manifest.facts["dimensions"])
    own = architecture.find(recipe.architecture)
    config = _as_stored(read_config(origin.path / "config.json"), dims, own)
    _warn_if_newer(config)
    form = _form(recipe, config)
    wanted = Manifest(
        kind="model",
        name=recipe.name,
        variant="fp32",
        source=origin.manifest.source,
        recipe=recipe.model_digest,
        code=origin.manifest.code,
        parents={"source": origin.digest},
        tools={name: version(name) for name in TOOLS},
        facts={
            **origin.manifest.facts,
            "graph": form,
            "inputs": [asdict(port) for port in contract.inputs(dims)],
            "optional_inputs": [asdict(port) for port in contract.optional_inputs()],
            "outputs": [asdict(port) for port in contract.outputs(dims)],
        },
    )
    known = store.up_to_date(target, wanted, results=[WARNINGS])
    if known is not None:
        say("fp32: unchanged")
        return known
    say(f"fp32: writing the {form} graph (its libraries take some seconds to load)")

    from convert import contract_check, generation, repository
    from convert.graph_source import CheckedSource
    from model import external_data, in_place, transformersjs_config
    from model.settings import configuration

    pickled, padded = recipe.source.allow_pickle, recipe.source.padded_vocabulary
    generation.warn_of_ignored(origin.path)
    configuration(config, origin.path / "config.json")
    with store.staging(target) as staged:
        (staged / "onnx").mkdir()
        checked = CheckedSource(origin.path, own, config, dims, pickled)
        writer = own.fused if form == "fused" and own.fused is not None else own.standard
        model = writer.build(checked)
        contract_check.finish(model, dims, origin.path)
        graph = staged / variants.model_file("fp32")
        external_data.save(model, graph, recipe.external_data_above)
        complete = transformersjs_config.with_defaults(own.config.complete(config), recipe.defaults)
        beside = variants.data_file(graph).exists()
        complete = transformersjs_config.with_data(complete, graph.name, beside=beside)
        repository.write(origin.path, staged, complete, dims, allow_padded_vocabulary=padded)
        if "fp32" in recipe.in_place:
            in_place.add(staged, "fp32", dims)
        return store.seal(staged, target, wanted.with_facts({WARNINGS: [*warnings]} if warnings else {}))


def _as_stored(config: Mapping[str, Any], dims: Dimensions, own: Architecture) -> Mapping[str, Any]:
    """The config with its embeddings tied as `convert.stored` found the source's tensors."""
    if own.config.dimensions(config, "config.json").tied == dims.tied:
        return config
    warn("config.json ties the embeddings, and the file holds a head with other values: the head is kept, as "
        "transformers 5 does (4 drops it), and config.json is written with tie_word_embeddings: false. Set that in the "
        "source if it is meant, or remove the head from the file")  # fmt: skip
    return {**config, "tie_word_embeddings": dims.tied}


def _warn_if_newer(config: Mapping[str, Any]) -> None:
    """Say so when a newer transformers than this one wrote the checkpoint: it may mean something else by it."""
    try:
        written = Version(str(config["transformers_version"]))
    except (KeyError, InvalidVersion):
        return
    own = version("transformers")
    if written.release > Version(own).release:
        warn(f"transformers {written} wrote this checkpoint; {own} reads it here, and verify judges by that")


def _form(recipe: Recipe, config: Mapping[str, Any]) -> str:
    """The form of graph that the recipe asks for, or the standard one where a configuration has no other."""
    fused = architecture.find(recipe.architecture).fused
    reason = "no fused graph is written for this architecture" if fused is None else fused.unsupported(config)
    if recipe.graph != "fused" or reason is None:
        return recipe.graph
    warn(f"the standard graph is written, slower than the fused one: {reason}")
    return "standard"


if __name__ == "__main__":
    raise SystemExit(command.run(main))
