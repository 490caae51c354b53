"""The model card: what the files are, how to use them, how far each is from the source, and how that was found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import yaml
from huggingface_hub import RepoCard

from model import releases
from pipeline.canonical import file_digest, parse_json
from pipeline.errors import InputError
from pipeline.recipe.publication import REPOSITORY
from pipeline.variants import FILES, in_place, model_file, read_files
from publish import converter, webgpu
from publish.loading import loading
from publish.markdown import without_html
from publish.speed import Timing, timing
from publish.tree import CARD, DOCUMENT, Publishable

TEMPLATE = "card.md.j2"
CHECK = "divergence"  # whose measures the table and the model index show


@dataclass(frozen=True)
class VariantRow:
    """One variant: bytes, bits per weight of the whole file, and what the report measured (None: it did not)."""

    variant: str
    file: str
    size: int
    bits: float
    mean_kld: float | None
    p999_kld: float | None
    same_top: float | None
    perplexity: float | None
    perplexity_ratio: float | None
    speed: float | None  # of decoding, as a multiple of fp32's

    @property
    def file_name(self) -> str:
        """The file's name without its folder."""
        return PurePosixPath(self.file).name


def render(published: Publishable) -> str:
    """README.md of the published repository; InputError when the source's own card cannot be read."""
    timed = timing(published.home, {entry.path: entry.sha256 for entry in published.files})
    rows = [_row(published, variant, timed) for variant in FILES if variant in published.variants]
    data, body = _source_card(published)
    report = published.report
    judged = webgpu.judged(report)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # Markdown; what others wrote passes through without_html or the YAML writer
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(TEMPLATE).render(
        front_matter=_yaml(_front_matter(published, data, rows)),
        name=published.recipe.name,
        repository=published.repository,
        source=published.source.source,
        link=_link(published.source.source["repository"] or published.recipe.name),
        converter=converter.converter(),
        converter_name=converter.NAME,
        rows=rows,
        shown={variant: _favourite(rows, variant) for variant in ("fp32", "q8", "q4")},
        in_place=[model_file(in_place(variant)) for variant in published.recipe.in_place],
        in_place_weights=model_file(next(iter(published.recipe.in_place), "fp32")),
        wasm=published.recipe.defaults.get("wasm"),
        webgpu=published.recipe.defaults.get("webgpu"),
        on_webgpu=[variant for variant in published.variants if variant in judged],
        timed=timed,
        loading=loading(published, releases.read()),
        dimensions=published.variants[rows[0].variant].facts["dimensions"],
        end_token=_config(published).get("eos_token_id"),
        compared=_measured(report, rows[0].variant, "mean_kld", "compared"),
        report=report,
        report_digest=next(entry.sha256 for entry in published.files if entry.path == DOCUMENT),
        recipe_digest=file_digest(published.recipe.path),
        checks=list(dict.fromkeys(result["check"] for result in report["results"])),
        packages=[f"{name} {version}" for name, version in sorted(report["environment"]["packages"].items())],
        source_card=without_html(body).strip(),
    )


def _row(published: Publishable, variant: str, timed: Timing | None) -> VariantRow:
    file = model_file(variant)
    sizes = {entry.path: entry.size for entry in published.files}
    size = sum(sizes[path] for path in read_files(variant, sizes))
    parameters = published.variants[variant].facts["dimensions"]["parameters"]
    found = {
        name: _measured(published.report, variant, name)
        for name in ("mean_kld", "p999_kld", "same_top", "perplexity", "reference_perplexity")
    }
    theirs = found.pop("reference_perplexity")
    ratio = None if found["perplexity"] is None or theirs is None else found["perplexity"] / theirs
    speed = None if timed is None else timed.speeds.get(variant)
    return VariantRow(variant, file, size, 8 * size / parameters, **found, perplexity_ratio=ratio, speed=speed)


def _measured(report: Mapping[str, Any], variant: str, name: str, key: str = "value") -> Any:
    """One measure's value (or another of its keys), the worst over what the check ran on; None when there is none."""
    found = [
        measure
        for result in report["results"]
        if result["check"] == CHECK and result["variant"] == variant
        for measure in result["measures"]
        if measure["name"] == name and measure["value"] is not None
    ]
    worst = max(found, key=lambda m: m["value"] if m["upper"] else -m["value"], default=None)
    return None if worst is None else worst[key]


def _front_matter(published: Publishable, data: Mapping[str, Any], rows: Sequence[VariantRow]) -> dict[str, Any]:
    """The source's own keys, but for its model index: those results were not measured on these files."""
    source = published.source.source
    license_name = data.get("license", source["license"])
    if license_name != source["license"]:
        hint = "read the card; run: python -m convert with this recipe, then the stages after it"
        what = f"the source's card says {license_name!r}, not the licence {source['license']!r} that was looked at"
        raise InputError(what, where=published.source_directory / CARD, hint=hint)
    kept = {key: value for key, value in data.items() if key != "model-index"}
    tags = data.get("tags") or []
    ours = {
        **({} if license_name is None else {"license": license_name}),
        "library_name": "transformers.js",
        "pipeline_tag": "text-generation",
        "base_model": [source["repository"]],
        "base_model_relation": "quantized",
        "tags": list(dict.fromkeys([*([tags] if isinstance(tags, str) else tags), "onnx"])),
    }
    metrics = [
        {"type": "perplexity", "name": f"Perplexity, {row.variant}", "value": float(f"{row.perplexity:.6g}")}
        for row in rows
        if row.perplexity is not None
    ]
    if not metrics:
        return kept | ours
    text = f"verification text, SHA-256 {published.report['text']['sha256'][:16]}"
    result = {
        "task": {"type": "text-generation", "name": "Text Generation"},
        "dataset": {"type": "text", "name": text},
        "metrics": metrics,
    }
    return kept | ours | {"model-index": [{"name": published.repository.rpartition("/")[2], "results": [result]}]}


def _config(published: Publishable) -> dict[str, Any]:
    config: dict[str, Any] = parse_json(published.source_file("config.json") or b"{}", "config.json of the source")
    return config


def _source_card(published: Publishable) -> tuple[dict[str, Any], str]:
    """The source card's front matter and its text."""
    path, content = published.source_directory / CARD, published.source_file(CARD)
    if content is None:
        return {}, ""
    try:
        card = RepoCard(content.decode("utf-8"))
    except (ValueError, yaml.YAMLError) as error:  # not UTF-8, not YAML, or not a table
        hint = "correct the lines between --- at the top of the source's README.md, then convert it again"
        raise InputError(f"the source's card cannot be read: {error}", where=path, hint=hint) from error
    data: dict[str, Any] = card.data.to_dict()
    return data, card.text


def _favourite(rows: Sequence[VariantRow], variant: str) -> VariantRow:
    return next((row for row in rows if row.variant == variant), rows[0])


def _link(repository: str) -> str:
    if "/" in repository and REPOSITORY.fullmatch(repository):
        return f"[{repository}](https://huggingface.co/{repository})"
    return f"`{repository.replace('`', ' ')}`"  # of a directory it may be any text, which is not to be Markdown


def _yaml(data: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=1000)
    return text.strip()


def _or_dash(form: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else form(value)


FILTERS = {
    "figure": _or_dash("{:.2g}".format),
    "percent": _or_dash(lambda value: f"{100 * value:.1f} %"),
    "ratio": _or_dash("{:.4f}".format),
    "times": _or_dash("{:.2f} x".format),
}
