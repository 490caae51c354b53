"""From build/<name>/fp32 to build/<name>/<variant>: plan every variant, then make those that are not up to date."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from model import external_data, genai_config, in_place, transformersjs_config
from model.contract import Dimensions
from pipeline.artifact import lineage
from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import Artifact, open_artifact, seal, staging, up_to_date
from pipeline.canonical import canonical_json, read_json, write_json
from pipeline.command import invocation, say
from pipeline.errors import ArtifactError, RecipeError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import Recipe
from pipeline.typed import build
from pipeline.variants import data_file, made_files, model_file, own_files
from quantize.calibration import SAMPLED, TOKENIZER, Calibration
from quantize.gradients import GradientSource
from quantize.rewrite.graph import clean, load, ports
from quantize.scheme import PLAN, Context, Step, needs_text, read_step, text_needed

KIND = "model"
BASE = "fp32"
TOOLS = ("numba", "numpy", "onnx", "onnx-ir", "onnxruntime", "scipy", "tokenizers", "torch", "transformers")
WORK = ".quantize"  # measurements that a later run continues from; no artifact


def make_variants(recipe: Recipe, names: Sequence[str], build_dir: Path) -> Iterator[Path]:
    """Make the named variants in order, skipping unchanged ones, and yield the path of each artifact.

    Every step of every variant is checked before any work is done, but for what depends on the graph: the names of
    weights in overrides, whether those need calibration text, and numbers of rows. Raises RecipeError for a recipe that
    cannot be, ArtifactError when the fp32 artifact is missing or broken, InputError when its graph cannot be quantized.
    """
    plans = {name: plan(recipe, name) for name in recipe.variants}
    base = _open_base(recipe, build_dir)
    dims = build(Dimensions, base.manifest.facts.get("dimensions"), where=f"{base.path}: facts", error=ArtifactError)
    graph, work = base.path / model_file(BASE), build_dir / recipe.name / WORK
    calibrated = any(step.scheme.CALIBRATED for name in names for step in plans[name])
    calibration = _calibration(recipe, base, dims, build_dir, calibrated=calibrated)
    context = Context(dims, graph, calibration, work, recipe.external_data_above, recipe.in_place)
    for name in tqdm(names, desc="quantize", unit="variant", file=sys.stderr, leave=False, disable=None):
        target = build_dir / recipe.name / name
        wanted = _manifest(recipe, name, base.manifest, base.digest)
        if up_to_date(target, wanted, results=[PLAN, SAMPLED]) is not None:
            say(f"{name}: unchanged, skipped")
        else:
            try:
                make_variant(plans[name], base, replace(context, facts={}), target, wanted)
            except RecipeError as error:  # of two variants with one scheme, this one's
                where = f"{recipe.path}: variants.{name}: {error.where}"
                raise RecipeError(error.what, where=where, hint=error.hint) from error
            size = sum(path.stat().st_size for file in own_files(name) if (path := target / file).is_file())
            say(f"{name}: {size:,} bytes, {size / dims.parameters:.3f} bytes per parameter")
        yield target


def plan(recipe: Recipe, name: str) -> tuple[Step, ...]:
    """The steps of a variant, options read and checked; RecipeError names the key that is wrong."""
    where, tables = f"{recipe.path}: variants.{name}.steps", recipe.variants[name].steps
    steps = tuple(read_step(table, f"{where}[{i}]") for i, table in enumerate(tables))
    for i, (step, table) in enumerate(zip(steps, tables, strict=True)):
        if needs_text(step.scheme) and recipe.calibration is None:
            raise text_needed(table["scheme"], f"{where}[{i}]")
    return steps


def make_variant(steps: Sequence[Step], base: Artifact, context: Context, target: Path, manifest: Manifest) -> Artifact:
    """Apply the steps to the fp32 graph and write the artifact, all other files copied; two of them name the graph.

    What the steps have to say (context.facts) goes into the manifest's facts.
    """
    source = model_file(BASE)
    model = load(base.path / source)
    before = ports(model)
    for step in steps:
        step.apply(model, context)
    if context.calibration is not None and any(step.scheme.CALIBRATED for step in steps):
        context.facts |= context.calibration.record
    clean(model)
    if ports(model) != before:
        raise RuntimeError(f"{target.name}: the graph's inputs or outputs have changed")
    with staging(target) as staged:
        graph = staged / model_file(target.name)
        graph.parent.mkdir()
        external_data.save(model, graph, context.external_data_above)
        for entry in base.manifest.files:
            if entry.path not in made_files(BASE):
                shutil.copyfile(base.path / entry.path, staged / entry.path)
        _rename(staged, target.name)
        if target.name in context.in_place:
            in_place.add(staged, target.name, context.dims)
        return seal(staged, target, manifest.with_facts(context.facts))


def _rename(staged: Path, name: str) -> None:
    """Name the variant's own graph in the files that the base's is named in."""
    genai, config = staged / genai_config.FILE, staged / transformersjs_config.FILE
    if genai.is_file():
        genai.write_bytes(canonical_json(genai_config.renamed(read_json(genai), name)) + b"\n")
    graph, told = staged / model_file(name), read_json(config)
    wanted = transformersjs_config.with_data(told, graph.name, beside=data_file(graph).exists())
    if wanted != told:
        write_json(config, wanted)


def _open_base(recipe: Recipe, build_dir: Path) -> Artifact:
    made_by = invocation("convert", recipe.path, build_dir)
    base = open_artifact(build_dir / recipe.name / BASE, made_by=made_by)
    kind = (base.manifest.kind, base.manifest.name, base.manifest.variant)
    if kind != (KIND, recipe.name, BASE):
        raise ArtifactError(f"not the fp32 model of {recipe.name}", where=base.path, hint=f"run: {made_by}")
    if model_file(BASE) not in {entry.path for entry in base.manifest.files}:
        raise ArtifactError(f"no {model_file(BASE)} in it", where=base.path, hint=f"run: {made_by}")
    return base


def _calibration(
    recipe: Recipe, base: Artifact, dims: Dimensions, build_dir: Path, *, calibrated: bool
) -> Calibration | None:
    """The recipe's calibration, if it has one; the text is read when a step first asks for it.

    ArtifactError where gradients are asked for, by a variant that is `calibrated`, and the source that they are of is
    missing, broken or another than the graph's.
    """
    table = recipe.calibration
    if table is None:
        return None
    graph, tokenizer = base.path / model_file(BASE), base.path / TOKENIZER
    paths, home, checkpoint = recipe.calibration_paths, build_dir / recipe.name, None
    if table.gradients and calibrated:
        source = lineage.open_source(home, recipe)
        if source.digest != base.manifest.parents.get("source"):
            hint = f"run: {invocation('convert', recipe.path, build_dir)}"
            raise ArtifactError("the fp32 model was made from another source", where=base.path, hint=hint)
        checkpoint = GradientSource(source.path, recipe.source.allow_pickle, table.seed)
    return Calibration(
        paths, graph, tokenizer, dims, table.chunk, table.chunks, table.sampled, table.seed, home / WORK, checkpoint
    )


def _manifest(recipe: Recipe, name: str, base: Manifest, base_digest: str) -> Manifest:
    return Manifest(
        kind=KIND,
        name=recipe.name,
        variant=name,
        source=base.source,
        recipe=recipe.variant_digest(name),
        code=code_of("quantize"),
        parents={BASE: base_digest},
        tools={tool: importlib.metadata.version(tool) for tool in TOOLS},
        facts=base.facts,
    )
