"""Foreign files: each kind of refusal by its own words, from a child process with bounds, with nothing written."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.command import run
from pipeline.errors import BROKEN_INPUT, InputError
from tests.conftest import EMBEDDED, ROOT
from tests.support.hostile import DIMENSIONS, ENDLESS, ENORMOUS, Make, sound
from tests.support.hostile_refused import REFUSED
from tests.support.hostile_wrong import WRONG
from verify.__main__ import main
from verify.candidate.session import Candidate
from verify.candidate.untrusted.inspector import Inspector
from verify.check import Case
from verify.checks import structure
from verify.sandbox.worker import CandidateError, Worker


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    """One child for all the files that do not end it."""
    with Inspector() as one:
        yield one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the foreign file goes: a directory of its own."""
    (tmp_path / "foreign").mkdir()
    return tmp_path / "foreign" / "model.onnx"


def listing(directory: Path) -> dict[str, str]:
    """Everything below a directory, and a digest of what is in it."""
    found = {}
    for entry in sorted(directory.rglob("*")):
        plain = entry.is_file() and entry.stat().st_size < 2**24
        found[str(entry)] = hashlib.sha256(entry.read_bytes()).hexdigest() if plain else "no plain file"
    return found


def refusal(inspector: Inspector, path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        inspector.inspect(path)
    return caught.value


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_usable_model_is_refused_by_its_name(kind: str, inspector: Inspector, path: Path) -> None:
    make, words = REFUSED[kind]
    make(path)
    before = listing(path.parent)
    error = refusal(inspector, path)
    assert words in error.what
    assert (error.exit_code, error.where) == (BROKEN_INPUT, str(path))
    assert error.hint
    assert listing(path.parent) == before


@pytest.mark.parametrize("kind", WRONG)
def test_what_can_be_read_but_is_wrong_fails_the_structure_by_its_name(
    kind: str, inspector: Inspector, path: Path
) -> None:
    make, rule, words = WRONG[kind]
    make(path)
    inspector.inspect(path)
    violations = judged(path)
    assert any(words in text for text in violations[rule]), violations


def judged(path: Path) -> dict[str, list[str]]:
    case = Case("structure", facts={"dimensions": DIMENSIONS, "contract": "strict", "logits_on_demand": False})
    found: dict[str, list[str]] = structure.judge(Candidate(path, "enable_all"), case)["violations"]
    return found


def test_the_sound_model_is_neither(inspector: Inspector, path: Path) -> None:
    path.write_bytes(sound().SerializeToString())
    inspector.inspect(path)
    violations = judged(path)
    assert {rule for rule, found in violations.items() if found} == {"contract", "embedding"}  # it is no GPT-2


def test_tensors_in_typed_fields_of_every_width_are_accepted(inspector: Inspector, path: Path) -> None:
    for kind in ("FLOAT16", "BFLOAT16", "INT4", "UINT4", "FLOAT8E4M3FN", "BOOL", "COMPLEX64", "DOUBLE", "STRING"):
        number = onnx.TensorProto.DataType.Value(kind)
        values: Any = ["a", "b", "c"] if kind == "STRING" else [1, 0, 1]
        tensor = onnx.helper.make_tensor("t", number, [3], values)
        model = sound()
        model.graph.initializer.append(tensor)
        path.write_bytes(model.SerializeToString())
        inspector.inspect(path)


def test_an_inspection_that_hangs_eats_memory_or_dies_is_ended_and_the_next_one_works(path: Path) -> None:
    os.mkfifo(path)
    with Inspector(timeout_s=1.5) as inspector:
        assert "no answer within 1.5 s" in refusal(inspector, path).what  # a pipe that nobody writes to
        path.unlink()
        path.write_bytes(sound().SerializeToString())
        inspector._timeout_s = 60
        inspector.inspect(path)
        assert inspector._process is not None
        os.kill(inspector._process.pid, signal.SIGSEGV)
        inspector._process.wait()
        assert "its process died (exit code -11)" in refusal(inspector, path).what
        inspector.inspect(path)
    model = sound()
    model.graph.node.extend(onnx.NodeProto(op_type="Neg") for _ in range(10**6))  # 8 MB that become 100
    path.write_bytes(model.SerializeToString())
    with Inspector(spare=2**24) as inspector:
        refusal(inspector, path)


def test_a_large_sound_model_is_inspected_at_once(path: Path) -> None:
    model = sound()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2**26, np.float32), "large"))
    path.write_bytes(model.SerializeToString())
    with Inspector() as inspector:
        begin = time.process_time(), time.monotonic()
        inspector.inspect(path)
        assert time.process_time() - begin[0] < 0.1  # the parent only waits
        assert time.monotonic() - begin[1] < 10
    path.unlink()


def case(directory: Path) -> Path:
    ids = np.zeros((1, 1), np.int64)
    arrays: dict[str, np.ndarray] = {"ids": ids, "mask": ids + 1, "positions": ids}
    Case("tiny", {**arrays, "logits": np.zeros((1, 1, 4), np.float32)}).save(directory)
    return directory


def test_an_endless_loop_is_killed_once(path: Path, tmp_path: Path) -> None:
    ENDLESS(path)
    with Worker(path, "enable_all", timeout_s=3, memory_gb=8) as worker:
        for words in (
            "no answer within 3 s: its process was killed",
            "not run, because an earlier check had no answer",
        ):
            with pytest.raises(CandidateError, match=words):
                worker.judge("logits", tmp_path / "case" if (tmp_path / "case").exists() else case(tmp_path / "case"))


def test_a_constant_of_2_to_the_36_elements_is_beyond_the_memory_budget(path: Path, tmp_path: Path) -> None:
    ENORMOUS(path)
    with (
        Worker(path, "disable_all", timeout_s=60, memory_gb=4) as worker,
        pytest.raises(CandidateError, match="beyond its memory budget of 4 GB"),
    ):
        worker.judge("logits", case(tmp_path / "case"))


COMMAND = {**{kind: (REFUSED[kind][0], 3) for kind in ("LFS pointer", "cut in the middle", "absolute")}}


@pytest.mark.parametrize("kind", COMMAND)
def test_the_command_refuses_without_traceback_and_writes_nothing(
    kind: str, path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, code = COMMAND[kind]
    make(path)
    before = listing(tmp_path)
    assert command(path, tmp_path) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert f"where: {path}" in err
    assert "Traceback" not in err
    assert listing(tmp_path) == before


def command(path: Path, home: Path, recipe: Path = EMBEDDED) -> int:
    source = str(ROOT / "recipes" / "embedded")
    arguments = ["--candidate", str(path), "--variant", "fp32", "--source", source, "--build", str(home / "build")]
    return run(main, [str(recipe), *arguments])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (ENDLESS, "no answer within 5 s: its process was killed"),
        (WRONG["cycle"][0], "cycle: a"),
    ],
    ids=["endless loop", "cycle"],
)
def test_the_command_fails_what_is_wrong_and_writes_only_below_the_build_directory(
    make: Make, words: str, path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(path)
    recipe = quick_recipe(tmp_path)
    before = listing(tmp_path)
    assert command(path, tmp_path, recipe) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    report = tmp_path / "build" / "embedded" / "candidate-report"
    assert words in (report / "report.md").read_text()
    after = listing(tmp_path)
    assert {name: text for name, text in after.items() if not name.startswith(str(tmp_path / "build"))} == before


def quick_recipe(home: Path) -> Path:
    """The embedded recipe with two checks, one level and five seconds."""
    text = EMBEDDED.read_text()
    for old, new in {
        'path = "embedded"': f'path = "{ROOT}/recipes/embedded"',
        'text = "text/': f'text = "{EMBEDDED.parent}/text/',
        '"tokenizer", "weights", "logits", "cache", "generation", "divergence", "twin"': '"logits"',
        '"disable_all", "enable_all"': '"enable_all"',
        "timeout_s = 120": "timeout_s = 5",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = home / "recipe.toml"
    path.write_text(text)
    return path


def test_a_path_that_is_not_utf_8_is_refused_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff.onnx")))  # noqa: PTH118  # bytes, not a path
    path.write_bytes(sound().SerializeToString())
    assert command(path, tmp_path) == 3
    assert "the path is not UTF-8" in capfd.readouterr().err
