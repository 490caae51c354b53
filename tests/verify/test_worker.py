"""Isolation: a candidate that hangs, dies, eats memory or is no model fails with its reason; the next still runs."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verify.check import Case
from verify.emulation.emulator import Emulator
from verify.processor import HOST
from verify.sandbox.worker import CandidateError, Worker


def save(path: Path, graph: onnx.GraphProto) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def port(name: str, kind: int, axes: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, axes)


def model(path: Path, *nodes: onnx.NodeProto, constants: dict[str, np.ndarray]) -> Path:
    """A graph from input_ids to logits that does what the nodes say."""
    inputs = [port("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    outputs = [port("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", "n"])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return save(path, helper.make_graph(list(nodes), "g", inputs, outputs, initializers))


def endless(path: Path) -> Path:
    """A Loop of 2^62 iterations."""
    state, count = port("x", TensorProto.FLOAT, [1, 1, 1]), port("i", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Neg", ["x"], ["y"])],
        "body",
        [count, port("c", TensorProto.BOOL, []), state],
        [port("c2", TensorProto.BOOL, []), port("y", TensorProto.FLOAT, [1, 1, 1])],
    )
    loop = helper.make_node("Loop", ["trips", "yes", "start"], ["logits"], body=body)
    start = {"trips": np.int64(2**62), "yes": np.bool_(True), "start": np.ones((1, 1, 1), np.float32)}
    return model(path, loop, constants={name: np.asarray(value) for name, value in start.items()})


def enormous(path: Path) -> Path:
    """2^36 float32 zeros."""
    fill = helper.make_node("ConstantOfShape", ["shape"], ["logits"])
    return model(path, fill, constants={"shape": np.array([1, 2**18, 2**18])})


@pytest.fixture
def case(tmp_path: Path) -> Path:
    ids = np.zeros((1, 1), np.int64)
    arrays: dict[str, np.ndarray] = {"ids": ids, "mask": ids + 1, "positions": ids}
    arrays["logits"] = np.zeros((1, 1, 3), np.float32)
    arrays |= {"ranked": np.zeros(1, np.int64), "order": np.arange(3)[None]}
    Case("tiny", arrays).save(tmp_path / "case")
    return tmp_path / "case"


def failure(
    path: Path, case: Path, *, timeout_s: float = 60, memory_gb: float = 8, emulator: Emulator | None = None
) -> str:
    with (
        Worker(path, "enable_all", timeout_s=timeout_s, memory_gb=memory_gb, emulator=emulator) as worker,
        pytest.raises(CandidateError) as caught,
    ):
        worker.judge("logits", case)
    return str(caught.value)


def test_a_hang_is_ended(tmp_path: Path, case: Path) -> None:
    assert "no answer within 2 s" in failure(endless(tmp_path / "m.onnx"), case, timeout_s=2)


def test_a_memory_hog_is_refused(tmp_path: Path, case: Path) -> None:
    text = failure(enormous(tmp_path / "m.onnx"), case, memory_gb=4)
    assert "no answer" not in text


@pytest.mark.slow
@pytest.mark.skipif(HOST != "x86_64", reason="the Python that runs the tests is no x86-64 program")
def test_an_emulated_process_has_bounds_too(tmp_path: Path, case: Path) -> None:
    emulator = Emulator("SSE4.2")
    if emulator.missing() is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed")
    text = failure(enormous(tmp_path / "hog.onnx"), case, memory_gb=4, emulator=emulator)
    assert "memory budget" in text
    assert "no answer within 10 s" in failure(endless(tmp_path / "m.onnx"), case, timeout_s=1, emulator=emulator)


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_model_fails_with_the_runtimes_words(tmp_path: Path, case: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert "m.onnx" in failure(path, case)


def test_a_worker_starts_anew_after_a_failure(tmp_path: Path, case: Path) -> None:
    answer = helper.make_node("ConstantOfShape", ["shape"], ["logits"])
    path = model(tmp_path / "m.onnx", answer, constants={"shape": np.array([1, 1, 3])})
    with Worker(path, "disable_all", timeout_s=60, memory_gb=8) as worker:
        with pytest.raises(CandidateError, match="No module named"):
            worker.judge("no_such_check", case)
        assert worker.judge("logits", case)["max_abs"] == 0
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(CandidateError, match="its process died"):
            worker.judge("logits", case)
        assert worker.judge("logits", case)["max_abs"] == 0


def test_another_file_at_the_same_path_is_another_candidate(tmp_path: Path, case: Path) -> None:
    path = tmp_path / "m.onnx"
    with Worker(path, "enable_all", timeout_s=60, memory_gb=8) as worker:
        for wrong in (0.0, 1.0):
            answer = helper.make_node("Identity", ["given"], ["logits"])
            model(path, answer, constants={"given": np.full((1, 1, 3), wrong, np.float32)})
            worker.aim(path, "enable_all")
            assert worker.judge("logits", case)["max_abs"] == wrong


def test_an_abandoned_worker_answers_at_once(tmp_path: Path, case: Path) -> None:
    with Worker(endless(tmp_path / "m.onnx"), "enable_all", timeout_s=60, memory_gb=8) as worker:
        timer = threading.Timer(3, worker.abandon)
        timer.start()
        for reason in ("its process died", "all was stopped"):
            with pytest.raises(CandidateError, match=reason):
                worker.judge("logits", case)
            worker.aim(worker.path, "enable_all")  # as for the next of a sweep's files, which nobody waits for
        timer.join()


def test_a_path_is_handed_to_an_older_python_as_text() -> None:
    handed = bytes(ForkingPickler.dumps([Path("a/b"), Path("/c")]))
    assert b"pathlib" not in handed  # Python 3.13 has it in pathlib._local, which the arm64 processor's 3.11 lacks
    assert pickle.loads(handed) == [Path("a/b"), Path("/c")]  # noqa: S301  # made above
