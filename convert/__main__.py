"""python -m convert RECIPE [--source DIR] [--commit HASH] [--build DIR]: the source exported to float32 ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.hub import COMMIT
from model import contract
from model.checkpoint import read_config
from model.contract import Dimensions
from pipeline import command, variants
from pipeline.artifact import store
from pipeline.artifact.manifest import Manifest
from pipeline.command import say
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    import onnx_ir

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "accelerate", "onnx", "onnx-ir", "tokenizers")


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the path of the float32 artifact."""
    parser = command.parser("convert", "Export a checkpoint to float32 ONNX with past key values.")
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint directory, instead of the recipe's")
    parser.add_argument("--commit", metavar="HASH", help="this commit of the source, not what the revision names now")
    arguments = parser.parse_args(argv)
    if arguments.commit is not None and not COMMIT.fullmatch(arguments.commit):
        hint = "write all 40 hexadecimal digits of a commit's hash"
        raise RecipeError(f"{arguments.commit!r} is no commit", where="--commit", hint=hint)
    recipe = read_recipe(arguments.recipe)
    home = arguments.build / recipe.name

    from convert import source  # after parsing, so that --help is instant

    origin = source.resolve(recipe, arguments.source, arguments.commit, home / "source")
    made = _model(recipe, origin, home / "fp32")
    print(made.path)
    return PASSED


def _model(recipe: Recipe, origin: store.Artifact, target: Path) -> store.Artifact:
    dims = Dimensions(**origin.manifest.facts["dimensions"])
    config = read_config(origin.path / "config.json")
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
    known = store.up_to_date(target, wanted)
    if known is not None:
        say("fp32: unchanged")
        return known
    say(f"fp32: writing the {form} graph (its libraries take some seconds to load)")

    import onnx_ir

    from convert import contract_check, repository
    from convert.source import architecture

    with store.staging(target) as staged:
        (staged / "onnx").mkdir()
        if form == "fused":
            model = _fused(recipe, origin.path, config, dims)
        else:
            model = _standard(recipe, origin.path, dims, staged / "traced.onnx")
        contract_check.finish(model, dims, origin.path)
        onnx_ir.save(model, staged / variants.model_file("fp32"))
        (staged / "traced.onnx").unlink(missing_ok=True)
        padded = recipe.source.padded_vocabulary
        complete = repository.with_defaults(architecture(recipe.architecture).complete(config), recipe.defaults)
        repository.write(origin.path, staged, complete, dims, allow_padded_vocabulary=padded)
        return store.seal(staged, target, wanted)


def _form(recipe: Recipe, config: Mapping[str, Any]) -> str:
    """The form of graph that the recipe asks for, or the standard one where a configuration has no other."""
    from convert.source import architecture

    reason = architecture(recipe.architecture, "fused").unsupported(config) if recipe.graph == "fused" else None
    if reason is None:
        return recipe.graph
    say(f"fp32: WARNING: the standard graph is written, slower than the fused one: {reason}")
    return "standard"


def _fused(recipe: Recipe, directory: Path, config: Mapping[str, Any], dims: Dimensions) -> onnx_ir.Model:
    from convert import weights
    from convert.source import architecture

    values = weights.read(directory, architecture(recipe.architecture), dims, allow_pickle=recipe.source.allow_pickle)
    model: onnx_ir.Model = architecture(recipe.architecture, "fused").build(config, values, dims)
    return model


def _standard(recipe: Recipe, directory: Path, dims: Dimensions, traced: Path) -> onnx_ir.Model:
    """`traced` is where the exporter may write its file, which the model returned still reads."""
    from convert import export
    from convert.source import architecture

    module = architecture(recipe.architecture, "standard")
    model = export.load(directory, module, allow_pickle=recipe.source.allow_pickle)
    export.export(model, module, traced, context=dims.context)
    return export.clean(traced)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
