"""The recipe: what to convert, into which variants, and what a variant may deviate from the reference. Data only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.canonical import digest, file_digest
from pipeline.errors import RecipeError
from pipeline.recipe.calibration import CalibrationText, read_calibration, text_digest
from pipeline.recipe.publication import Publish, read_publish
from pipeline.recipe.runtimes import Runtimes, read_runtimes
from pipeline.recipe.steps import Variant, calibrated, read_in_place, read_variants
from pipeline.recipe.tolerances import Basis, Limit, Tolerance, read_basis, read_tolerances
from pipeline.typed import A_TABLE, build, convert, did_you_mean
from pipeline.variants import GRAPHS, base, in_place

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
LEVELS = ("disable_all", "enable_all")
LARGEST_FILE = 2_000_000_000  # bytes of weights: an ONNX file, names and nodes included, has at most 2^31 - 1
# What Transformers.js calls the devices that it runs on.
DEVICES = ("cpu", "cuda", "dml", "wasm", "webgpu", "webnn", "webnn-cpu", "webnn-gpu", "webnn-npu")


@dataclass(frozen=True)
class Expected:
    """State what the source must be; a source that differs in a stated field is refused."""

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    context: int | None = None
    vocabulary: int | None = None
    parameters: int | None = None
    tied: bool | None = None
    license: str | None = None


@dataclass(frozen=True)
class Source:
    """State where the checkpoint comes from: a Hub repository at a revision, or a directory beside the recipe."""

    repository: str
    revision: str = "main"
    path: str | None = None
    allow_pickle: bool = False
    padded_vocabulary: bool = False  # the embedding has more rows than the tokenizer has tokens, on purpose
    expect: Expected = Expected()


@dataclass(frozen=True)
class Verify:
    """State how variants are judged; a key named like a check holds that check's settings."""

    text: str
    checks: tuple[str, ...]
    seed: int = 0
    context: int | None = None  # positions of the longest texts, where the model's own are too many
    levels: tuple[str, ...] = LEVELS
    timeout_s: float = 300.0  # for one candidate and one case
    memory_gb: float = 8.0  # address space of one candidate's process
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runtimes: Runtimes = field(default_factory=Runtimes)


@dataclass(frozen=True)
class Recipe:
    """One model's recipe. `tolerances` is keyed by check, then figure.

    `defaults` names the variant that Transformers.js loads on a device when its user names none. Of a graph whose
    weights have more bytes than `external_data_above`, they are stored beside it, in FILE_data. Variants named by
    `in_place` get a second graph, whose cache may stay in place.
    """

    path: Path
    name: str
    architecture: str
    source: Source
    variants: Mapping[str, Variant]
    verify: Verify
    tolerances: Mapping[str, Mapping[str, Tolerance]]
    graph: str = GRAPHS[0]
    external_data_above: int = LARGEST_FILE
    calibration: CalibrationText | None = None
    publish: Publish | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    basis: Basis = field(default_factory=Basis)
    in_place: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all artifacts with ONNX files: fp32, and the variants in the recipe's order."""
        return ("fp32", *self.variants)

    def graphs(self, variant: str) -> tuple[str, ...]:
        """The names of the ONNX files of one variant: its own, and with a suffix its graph in place."""
        return (variant, in_place(variant)) if variant in self.in_place else (variant,)

    @property
    def text_path(self) -> Path:
        """The verification text, named relative to the recipe."""
        return self.path.parent / self.verify.text

    @property
    def calibration_paths(self) -> tuple[Path, ...]:
        """The calibration texts. RecipeError when the recipe names none or one is no file."""
        where = f"{self.path}: calibration"
        if self.calibration is None:
            raise RecipeError("no calibration text", where=where, hint='add [calibration] with text = "..."')
        return self.calibration.paths(self.path)

    @property
    def source_digest(self) -> str:
        """Digest of what decides the source artifact."""
        return digest({"source": asdict(self.source), "architecture": self.architecture})

    @property
    def model_digest(self) -> str:
        """Digest of what decides the fp32 artifact, given the source."""
        padded = self.source.padded_vocabulary
        own = {"architecture": self.architecture, "graph": self.graph, "padded_vocabulary": padded}
        beside = {"external_data_above": self.external_data_above}
        return digest({**own, **beside, **self._in_place("fp32"), "defaults": dict(self.defaults)})

    def variant_digest(self, name: str) -> str:
        """Digest of what decides a variant, given fp32: the calibration too, text included, where a scheme uses it."""
        steps, second = self.variants[name].steps, self._in_place(name)
        if self.calibration is None or not calibrated(steps):
            return digest({"steps": steps, **second} if second else steps)
        text = text_digest(self.calibration_paths)
        return digest({"steps": steps, **second, "calibration": self.calibration.decisive, "text": text})

    def _in_place(self, variant: str) -> dict[str, bool]:
        """Return what a digest says of a variant's graph in place: nothing where it has none."""
        return {"in_place": True} if variant in self.in_place else {}

    @property
    def verdict_digest(self) -> str:
        """Digest of what decides a verdict on given files: settings, tolerances, text. RecipeError without the text."""
        try:
            text = file_digest(self.text_path)
        except OSError as error:
            hint = "set verify.text to a UTF-8 text file, relative to the recipe"
            raise RecipeError(f"text cannot be read: {error.strerror}", where=self.text_path, hint=hint) from error
        return digest([repr(self.verify), repr(self.tolerances), repr(self.basis), text])

    def limit(self, check: str, figure: str, variant: str) -> Limit:
        """The limit of a figure, a graph in place's own or its variant's.

        RecipeError when the recipe sets none, because an unjudged figure passes nothing.
        """
        found = self.stated_limit(check, figure, variant)
        if found is None:
            where = f"{self.path}: tolerances.{check}.{figure}"
            hint = f"add {variant} = {{ max = ..., measured = ... }} and a reason"
            raise RecipeError(f"no tolerance for variant {variant!r}", where=where, hint=hint)
        return found

    def stated_limit(self, check: str, figure: str, variant: str) -> Limit | None:
        """The same, or None."""
        tolerance = self.tolerances.get(check, {}).get(figure)
        limits = {} if tolerance is None else tolerance.limits
        return limits.get(variant, limits.get(base(variant)))


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; RecipeError names the key for anything it does not know or that cannot be."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=path, hint="name a file in recipes/") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number or a nesting beyond tomllib's limits
        raise RecipeError(f"not TOML: {error}", where=path, hint="correct the line that it names") from error
    where = str(path)
    known = (
        "name",
        "architecture",
        "graph",
        "external_data_above",
        "source",
        "calibration",
        "variants",
        "in_place",
        "defaults",
        "verify",
        "tolerances",
        "publish",
    )
    for key in table:
        if key not in known:
            raise RecipeError(f"unknown key {key!r}", where=where, hint=did_you_mean(key, known))
    for key in ("name", "architecture", "source", "variants", "verify"):
        if key not in table:
            raise RecipeError(f"missing key {key!r}", where=where, hint=f"add {key}; see recipes/ for examples")
    name = convert(str, table["name"], where=f"{where}: name")
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} cannot name a directory", where=f"{where}: name", hint="use a-z 0-9 . _ -, at most 100"
        )
    architecture = convert(str, table["architecture"], where=f"{where}: architecture")
    plugins.require(plugins.ARCHITECTURES, architecture, where=f"{where}: architecture")
    graph = convert(str, table.get("graph", GRAPHS[0]), where=f"{where}: graph")
    if graph not in GRAPHS:
        raise RecipeError(f"no graph {graph!r}", where=f"{where}: graph", hint=did_you_mean(graph, GRAPHS))
    above = _above(table.get("external_data_above", LARGEST_FILE), f"{where}: external_data_above")
    source = build(Source, table["source"], where=f"{where}: source")
    variants = read_variants(table["variants"], f"{where}: variants")
    verify = _verify(table["verify"], f"{where}: verify")
    _check_context(verify.context, source.expect.context, f"{where}: verify.context")
    seconds = read_in_place(table.get("in_place", []), ("fp32", *variants), f"{where}: in_place")
    stated = table.get("tolerances", {})
    tolerances = read_tolerances(stated, (*variants, *map(in_place, seconds)), f"{where}: tolerances")
    basis = read_basis(stated, f"{where}: tolerances")
    calibration = read_calibration(table["calibration"], f"{where}: calibration") if "calibration" in table else None
    publish = read_publish(table["publish"], f"{where}: publish") if "publish" in table else None
    defaults = _defaults(table.get("defaults", {}), ("fp32", *variants), f"{where}: defaults")
    given = (path, name, architecture, source, variants, verify, tolerances, graph, above)
    return Recipe(*given, calibration, publish, defaults, basis, seconds)


def _above(value: object, where: str) -> int:
    above: int = convert(int, value, where=where)
    if not 0 <= above <= LARGEST_FILE:
        hint = f"write 0 (always beside the graph) to {LARGEST_FILE} (where one file cannot hold them)"
        raise RecipeError(f"{above} bytes are no limit of a file", where=where, hint=hint)
    return above


def _check_context(judged: int | None, whole: int | None, where: str) -> None:
    """RecipeError for texts of no token, or of more than the model has positions."""
    if judged is not None and not 0 < judged <= (judged if whole is None else whole):
        known = "" if whole is None else f", at most {whole}, or leave it out"
        raise RecipeError(f"{judged} positions cannot be judged", where=where, hint=f"write a positive number{known}")


def _defaults(table: object, variants: Sequence[str], where: str) -> Mapping[str, str]:
    defaults: Mapping[str, str] = convert(Mapping[str, str], table, where=where)
    for device, variant in defaults.items():
        if device not in DEVICES:
            raise RecipeError(f"no device {device!r}", where=where, hint=did_you_mean(device, DEVICES))
        if variant not in variants:
            hint = did_you_mean(variant, variants)
            raise RecipeError(f"{variant!r} is not made by this recipe", where=f"{where}.{device}", hint=hint)
    return defaults


def _verify(table: object, where: str) -> Verify:
    if not isinstance(table, Mapping):
        raise RecipeError("expected a table", where=where, hint=A_TABLE)
    known = plugins.names("verify/checks")
    if "settings" in table:
        raise RecipeError("unknown key 'settings'", where=where, hint=f"name the check itself: {', '.join(known)}")
    settings = {key: value for key, value in table.items() if key in known}
    rest = {key: value for key, value in table.items() if key not in known and key != "runtimes"}
    verify = build(Verify, {**rest, "settings": settings}, where=where)
    verify = replace(verify, runtimes=read_runtimes(table.get("runtimes", {}), f"{where}.runtimes"))
    for check in verify.checks:
        plugins.require("verify/checks", check, where=f"{where}: checks")
    for level in verify.levels:
        if level not in LEVELS:
            raise RecipeError(f"unknown level {level!r}", where=f"{where}: levels", hint=did_you_mean(level, LEVELS))
    if not verify.checks or not verify.levels:
        raise RecipeError("nothing would be checked", where=where, hint="name at least one check and one level")
    if verify.seed < 0:
        raise RecipeError(f"negative seed {verify.seed}", where=f"{where}: seed", hint="write 0 or more")
    if verify.timeout_s <= 0 or verify.memory_gb <= 0:
        raise RecipeError("timeout_s and memory_gb must be positive", where=where, hint="write positive numbers")
    return verify
