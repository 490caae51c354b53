"""The catalogue of planted faults: each changes what it is planted in, and its command tells caught from missed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from model import architecture
from model.contract import Dimensions
from pipeline.artifact.manifest import FILE_NAME
from pipeline.canonical import file_digest
from pipeline.typed import build as typed
from tests.conftest import EMBEDDED, ROOT, Stage
from verify.faults import explained
from verify.faults.__main__ import main
from verify.faults.bench import Ground
from verify.faults.fault import GRAPH, Fault, InapplicableError, catalogue

FAULTS = catalogue()
# What GPT-2 has nothing for; they are planted in another architecture (tests/model/test_second_architecture.py).
WITHOUT = {
    "turned_too_far",
    "turned_backwards",
    "slowest_pair_not_turned",
    "turned_as_the_next_pair",
    "gate_and_up_swapped",
}
# What heads have nothing for that are not centred; tests/verify/test_centred.py makes one.
WITHOUT |= {"centre_of_the_head", "offset_of_a_rare_token"}
# One of every way to be caught; `make faults` plants all.
DOZEN = [
    "one_scale_of_one_block",
    "mask_wrong_for_the_second_row",
    "wrong_beyond_half_the_context",
    "only_one_token",
    "only_at_enable_all",
    "only_several_tokens_after_a_long_past",
    "counted_from_the_mask",
    "activation_clipped_far_out",
    "rare_token_scaled",
    "padding_token_added",
    "file_of_the_other_variant",
    "of_another_source_commit",
]


@pytest.fixture(scope="module")
def ground(build: Path) -> Ground:
    manifest = json.loads((build / "embedded" / "fp32" / FILE_NAME).read_text())
    dims = typed(Dimensions, manifest["facts"]["dimensions"], where="facts")
    own = architecture.find("gpt2")
    at = own.landmarks.landmarks(json.loads((build / "embedded" / "source" / "config.json").read_text()))
    return Ground(build / "embedded", dims, (700, 701, 702, 703, 704, 705, 706, 707), own, at)


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): file_digest(path) for path in files}


@pytest.mark.parametrize("entry", FAULTS.values(), ids=lambda entry: entry.name)
def test_a_fault_changes_what_it_is_planted_in(entry: Fault, ground: Ground, tmp_path: Path) -> None:
    planted = 0
    for variant in entry.variants:
        try:
            path = ground.plant(entry, variant, None, tmp_path / variant)
        except InapplicableError:
            continue
        planted += 1
        if entry.place == GRAPH:
            assert file_digest(path) != file_digest(ground.clean(variant))
            onnx.checker.check_model(path)
            values = {name for node in onnx.load(path).graph.node for name in node.output}
            assert entry.named(ground.at) in values | {"logits", None}
        else:
            clean = contents(ground.home / variant)
            found = contents(tmp_path / variant)
            if (tmp_path / variant / "source").is_dir():
                names = dict.fromkeys(["source", "fp32", variant])
                clean = {
                    f"{name}/{key}": value for name in names for key, value in contents(ground.home / name).items()
                }
            else:
                clean.pop(FILE_NAME)
            assert found != clean
    assert planted or entry.name in WITHOUT


def test_a_smaller_magnitude_is_a_smaller_change(ground: Ground, tmp_path: Path) -> None:
    digests = {
        file_digest(ground.plant(FAULTS["one_bias"], "q4", magnitude, tmp_path / "p")) for magnitude in (1, 0.5, None)
    }
    assert len(digests) == 2  # 0.5 is the default


def test_the_catalogue_is_large_and_says_what_its_faults_do() -> None:
    assert len(FAULTS) >= 60
    assert all(entry.what.endswith((".", "it.")) and len(entry.what) > 20 for entry in FAULTS.values())
    assert set(DOZEN) <= FAULTS.keys()


def test_nothing_to_plant_in_is_said(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(InapplicableError, match="no initializer"):
        ground.plant(FAULTS["zero_point_off_by_one"], "q8", None, tmp_path / "p")


@pytest.mark.slow
def test_a_dozen_faults_are_caught(build: Path, stage: Stage, tmp_path: Path) -> None:
    own = Path(shutil.copytree(build, tmp_path / "build"))
    arguments = ["--build", own, "--variant", "q4", "--seeds", "0", "--only", *DOZEN]  # clean: by the faults' work
    result = stage("verify.faults", EMBEDDED, *arguments)
    assert result.stdout.endswith(f"{own / 'embedded' / 'faults'}\n")
    report = json.loads((own / "embedded" / "faults" / "faults.json").read_text())
    assert (report["verdict"], report["missed"], report["false_alarms"]) == ("passed", [], [])
    assert report["totals"]["q4"]["caught"] == len(DOZEN)
    copies = [entry["measures"] for entry in report["clean"] if entry["moved"]]
    assert len(copies) == 2
    assert all(0 < measures["twin.modules_error"] < 1e-6 for measures in copies)
    found = {entry["fault"]: entry for entry in report["findings"]}
    assert found["one_scale_of_one_block"]["smallest"] < 0.02
    assert set(found["of_another_source_commit"]["caught_by"]) == {"lineage"}
    assert "MISSED" not in (own / "embedded" / "faults" / "faults.md").read_text()
    assert not list((own / "embedded").glob(".faults-*"))


@pytest.mark.slow
def test_a_fault_that_no_check_can_see_is_missed(build: Path, stage: Stage, tmp_path: Path) -> None:
    own = Path(shutil.copytree(build, tmp_path / "build"))
    recipe, text = tmp_path / "recipe.toml", EMBEDDED.read_text()
    for old in ('path = "embedded"', 'text = "text/'):
        text = text.replace(old, old.replace('"', f'"{EMBEDDED.parent}/', 1))
    start = text.index("checks = [")
    recipe.write_text(text[:start] + 'checks = ["structure"]' + text[text.index("]", start) + 1 :])
    shutil.rmtree(own / "embedded")
    stage("convert", recipe, "--build", own)
    arguments = ["--build", own, "--variant", "fp32", "--seeds", "0", "--explain"]
    arguments += ["--only", "one_bias", "weight_not_a_number"]
    result = stage("verify.faults", recipe, *arguments, code=1)
    assert "| one_bias | fp32 | MISSED |" in result.stdout
    assert "| weight_not_a_number | fp32 | structure |" in result.stdout
    assert "all: exact 1, exact or neighbour 1, of 2 (50% and 50%)" in result.stdout
    assert "exact: transformer.wpe/Gather |" in result.stdout


@pytest.mark.slow
def test_findings_are_on_disk_before_they_are_explained(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Explaining takes as long again: who interrupts it keeps what was found."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    own = Path(shutil.copytree(build, tmp_path / "build"))
    monkeypatch.setattr(explained, "explain", interrupted)
    arguments = ["--build", str(own), "--variant", "fp32", "--seeds", "0", "--only", "weight_not_a_number", "--explain"]
    with pytest.raises(KeyboardInterrupt):
        main([str(EMBEDDED), *arguments])
    report = json.loads((own / "embedded" / "faults" / "faults.json").read_text())
    assert (report["totals"]["fp32"]["caught"], report["explained"]) == (1, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "one_bia"], "one_bias"),
        (["--variant", "int8"], "unknown name 'int8'"),
        (["--seeds", "-1"], "-1 seeds"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], message: str, stage: Stage, tmp_path: Path) -> None:
    assert message in stage("verify.faults", EMBEDDED, *arguments, "--build", tmp_path, code=2).stderr
    assert ROOT.is_dir()
