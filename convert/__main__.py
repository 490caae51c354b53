"""python -m convert RECIPE [--source DIR] [--build DIR]: resolve the source and export it to float32 ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from artifact import command, signature, store
from artifact.checkpoint import read_config
from artifact.command import say
from artifact.errors import PASSED
from artifact.manifest import Manifest
from artifact.recipe import Recipe, read_recipe
from artifact.signature import Dimensions

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "accelerate", "onnx", "onnx-ir", "tokenizers")


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the path of the float32 artifact."""
    parser = command.parser("convert", "Export a checkpoint to float32 ONNX with past key values.")
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint directory, instead of the recipe's")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    home = arguments.build / recipe.name

    from convert import source  # after parsing, so that --help is instant

    origin = source.resolve(recipe, arguments.source, home / "source")
    made = _model(recipe, origin, home / "fp32")
    print(made.path)
    return PASSED


def _model(recipe: Recipe, origin: store.Artifact, target: Path) -> store.Artifact:
    dims = Dimensions(**origin.manifest.facts["dimensions"])
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
            "inputs": [asdict(port) for port in signature.inputs(dims)],
            "outputs": [asdict(port) for port in signature.outputs(dims)],
        },
    )
    known = store.up_to_date(target, wanted)
    if known is not None:
        say("fp32: unchanged")
        return known
    say("fp32: exporting (torch and optimum take some seconds to load)")

    from convert import export, repository
    from convert.source import architecture

    module = architecture(recipe.architecture)
    model = export.load(origin.path, module, allow_pickle=recipe.source.allow_pickle)
    with store.staging(target) as staged:
        (staged / "onnx").mkdir()
        traced = staged / "traced.onnx"
        export.export(model, module, traced, context=dims.context)
        export.clean(traced, staged / signature.model_file("fp32"), dims)
        traced.unlink()
        padded = recipe.source.padded_vocabulary
        config = module.complete(read_config(origin.path / "config.json"))
        repository.write(origin.path, staged, config, dims, allow_padded_vocabulary=padded)
        return store.seal(staged, target, wanted)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
