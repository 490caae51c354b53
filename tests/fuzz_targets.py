"""Say what is fuzzed: for each kind of file its seeds and what reads it. Anything raised but a refusal is a finding."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st

from convert import repository
from model import checkpoint, generation
from model.architectures.gpt2 import config as gpt2
from model.contract import Dimensions
from pipeline.artifact.manifest import parse_manifest
from pipeline.errors import ArtifactError, PipelineError
from pipeline.recipe.recipe import read_recipe
from pipeline.typed import build
from quantize.stage import plan as quantize_plan
from tests.conftest import EMBEDDED
from tests.support.hostile import DIMENSIONS, sound
from tests.support.hostile_refused import REFUSED
from tests.support.hostile_wrong import WRONG
from verify import run_checks, verdict
from verify.candidate.session import Candidate
from verify.candidate.untrusted import inspector
from verify.check import Case
from verify.checks import tokenizer
from verify.reference.corpus import read_text
from verify.sandbox.worker import Worker

Read = Callable[[bytes, Path], None]  # reads a file's content in a directory that it may write below
WEIGHTS = {"onnx": 5, "manifest": 2, "recipe": 2, "safetensors": 2}  # share of the files; 1 for the others
FILES = EMBEDDED.parent / "embedded"
BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
COPIED = (*BESIDE, "vocab.json", "merges.txt", "special_tokens_map.json")
EDIT = st.tuples(st.integers(0, 2**31), st.integers(0, 6), st.integers(0, 255), st.binary(max_size=8))
STATED: dict[str, Any] = {  # of a source, to compare with
    "vocabulary": {"!": 0}, "merges": [], "scores": [], "added": {}, "normalizer": None, "prefix": False, "adds": {},
    "settings": {}, "class": "GPT2Tokenizer",
    "tokens": {}, "template": None, "clean_up": False, "defaults": {},
}  # fmt: skip
BLOCK = 64  # longest run of bytes that one edit removes or repeats


def mutated(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """A seed with up to eight edits: bytes set, flipped, inserted, removed, repeated, a large number, or cut off."""
    return st.builds(_edited, st.sampled_from(seeds), st.lists(EDIT, min_size=1, max_size=8))


def _edited(content: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    data = bytearray(content)
    for place, kind, value, new in edits:
        at = place % (len(data) + 1)
        if kind == 0:
            data[at : at + 1] = bytes([value])
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << value % 8
        elif kind == 2:
            data[at:at] = new
        elif kind == 3:
            del data[at : at + value % BLOCK]
        elif kind == 4:
            data[at:at] = data[at : at + value % BLOCK]
        elif kind == 5:
            data[at : at + 9] = b"\xff" * (value % 9) + b"\x7f"
        elif value < 32:  # seldom, because everything behind is lost
            del data[at:]
    return bytes(data)


def seeds(models: tuple[Path, ...], home: Path) -> dict[str, tuple[bytes, ...]]:
    """Real files for every target; `models` are converted models in their artifacts, `home` a directory for more."""
    graphs = [sound().SerializeToString(), *(path.read_bytes() for path in models)]
    makes = [make for make, _ in REFUSED.values()] + [make for make, _, _ in WRONG.values()]
    for number, make in enumerate(makes):
        path = home / f"seed-{number}" / "model.onnx"
        path.parent.mkdir()
        make(path)
        if 0 < path.stat().st_size < 2**20:
            graphs.append(path.read_bytes())
    small = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = (FILES / "model.safetensors").read_bytes()
    whole = weights[: 8 + int.from_bytes(weights[:8], "little")]
    return {
        "onnx": tuple(graphs),
        "manifest": tuple(path.parent.parent.joinpath("manifest.json").read_bytes() for path in models),
        "recipe": (EMBEDDED.read_bytes(), (EMBEDDED.parent / "gpt-2-70m.toml").read_bytes()),
        "safetensors": (whole, struct.pack("<Q", len(small)) + small + bytes(8)),
        **{name: ((FILES / name).read_bytes(),) for name in COPIED},
    }


def readers() -> dict[str, Read]:
    """Return what reads each target's files."""
    made: dict[str, Read] = {
        "onnx": OnnxReader(),
        "manifest": _manifest,
        "recipe": _recipe,
        "safetensors": _safetensors,
    }
    return {**made, **{name: BesideReader(name) for name in COPIED}}


class OnnxReader:
    """The inspection in this process, then, for what it accepts, the check `structure` in its worker."""

    worker: Worker | None = None

    def __call__(self, content: bytes, place: Path) -> None:
        path = place / "model.onnx"
        path.write_bytes(content)
        inspector.read(path)
        case = Case("structure", facts={"dimensions": DIMENSIONS, "contract": "strict", "logits_on_demand": True})
        if not (place / "case").exists():
            case.save(place / "case")
        if self.worker is None or self.worker.path != path:
            self.close()
            self.worker = Worker(path, "enable_all", timeout_s=30, memory_gb=8)
        self.worker.judge("structure", place / "case")  # CandidateError, a crash included, is a finding

    def close(self) -> None:
        """End the worker's process."""
        if self.worker is not None:
            self.worker.stop()


@dataclass(frozen=True)
class BesideReader:
    """One of the files beside a graph, the others being right: as convert reads it, and as the check tokenizer does."""

    name: str

    def __call__(self, content: bytes, place: Path) -> None:
        source, onnx, target = place / "source", place / "files" / "onnx", place / "target"
        if not source.exists():
            onnx.mkdir(parents=True)
            target.mkdir()
            shutil.copytree(FILES, source)
            for name in BESIDE:
                shutil.copyfile(FILES / name, onnx.parent / name)
        (source / self.name).write_bytes(content)
        (onnx.parent / self.name).write_bytes(content)
        with contextlib.suppress(PipelineError):  # refused by convert; verify may meet the files all the same
            config = checkpoint.read_config(source / "config.json")
            dims = gpt2.dimensions(config, source / "config.json")
            repository.write(source, target, config, dims, allow_padded_vocabulary=True)
        strings = ["", "a text", "\u00e9\u0000 <|endoftext|>"]
        facts = {
            "strings": strings,
            "ids": [[0]] * len(strings),
            "known": [0],
            "texts": [""] * (len(strings) + 1),
            "end": 0,
        }
        facts |= {
            "config": {"model_type": "gpt2"},
            "generation": {
                "kept": {},
                "vocabulary": 9,
                "ends": [0],
                "bos_token_id": [0],
                "pad_token_id": [0],
                "model": {},
            },
            "tokenizer_config.json": {},
            "context": 9,
            "stated": STATED,
        }
        partial = tokenizer.judge(Candidate(onnx / "model.onnx", "enable_all"), Case("tokenizer", facts=facts))
        generation.refusal(partial["generation"] or {})  # as `summarize` asks


def _manifest(content: bytes, place: Path) -> None:
    manifest = parse_manifest(content, place / "manifest.json")
    assert manifest.digest
    build(Dimensions, manifest.facts.get("dimensions"), where="facts", error=ArtifactError)


def _recipe(content: bytes, place: Path) -> None:
    path = place / "recipe.toml"
    path.write_bytes(content)
    recipe = read_recipe(path)
    for variant in recipe.variants:
        quantize_plan(recipe, variant)
        assert recipe.variant_digest(variant)
    modules = run_checks.plan(recipe, recipe.verify.checks)
    for name, table in run_checks.settings_of(recipe, modules).items():
        table.check(name, 256)
    verdict.require_tolerances(recipe, modules, recipe.files)
    read_text(recipe.text_path)


def _safetensors(content: bytes, place: Path) -> None:
    path = place / "model.safetensors"
    path.write_bytes(content)
    checkpoint.read_header(path)
