"""Time one product of onnxruntime, MatMulNBits, in the forms that a weight's codes may have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import OrtValue

from benchmarks.engine import Array
from model.session import open_session, options

DOMAIN = "com.microsoft"
WEIGHTS = 48_000_000  # bytes of codes that a sitting multiplies in turns: about a model's, more than caches hold
SPAN_S = 0.05  # how long one figure is measured,
LEAST = 2  # and how many runs of all products
BATCH = 8


@dataclass(frozen=True)
class ProductForm:
    """State how a weight is stored, and what its product rounds activations to (`level` 4: int8; 1: nothing)."""

    bits: int
    block: int
    zero_points: bool
    level: int

    @property
    def shown(self) -> str:
        """Its name in a table."""
        return f"{self.bits}/{self.block}{', zero points' if self.zero_points else ''}, level {self.level}"


FORMS = (
    *(ProductForm(*parts, level=4) for parts in product((2, 4, 8), (32, 64, 128, 256), (False, True))),
    ProductForm(4, 32, zero_points=False, level=1),
)


class ProductSessions:
    """Lives in a process of its own: holds one shape's sessions, each of as many products as WEIGHTS have room for."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._sessions: dict[ProductForm, tuple[Any, int]] = {}
        self._random = np.random.default_rng(0)

    def open(self, k: int, n: int, forms: Sequence[ProductForm]) -> None:
        """Make the sessions of a weight [k, n] in these forms; those of the shape before are closed."""
        self._sessions.clear()
        for form in forms:
            count = max(1, round(WEIGHTS * 8 / (k * n * form.bits)))
            chosen = options(threads=self._threads)
            self._sessions[form] = open_session(graph(k, n, form, count, self._random), chosen), count

    def seconds(self, form: ProductForm, rows: int) -> float:
        """Seconds of one product of float32 [rows, k]: all of the session's in turns, for SPAN_S, at least twice."""
        session, count = self._sessions[form]
        names = [port.name for port in session.get_outputs()]
        given = self._rows(session, rows)  # must outlive the OrtValue, which only points to it
        feeds = {"x": OrtValue.ortvalue_from_numpy(given)}
        session.run_with_ort_values(names, feeds)
        runs, begin = 0, time.perf_counter()
        while runs < LEAST or time.perf_counter() - begin < SPAN_S:
            session.run_with_ort_values(names, feeds)
            runs += 1
        return (time.perf_counter() - begin) / runs / count

    def alone(self, form: ProductForm) -> bool:
        """Return whether a row's bits are the same alone and in batches of 2 to 8."""
        session, _ = self._sessions[form]
        rows = self._rows(session, BATCH)
        single = [session.run(["y0"], {"x": rows[i : i + 1]})[0][0] for i in range(BATCH)]
        together = [session.run(["y0"], {"x": rows[:size]})[0] for size in range(2, BATCH + 1)]
        return all(np.array_equal(batch, single[: len(batch)]) for batch in together)

    def _rows(self, session: Any, rows: int) -> Array:
        return self._random.standard_normal((rows, session.get_inputs()[0].shape[1])).astype(np.float32)


def graph(k: int, n: int, form: ProductForm, count: int, random: np.random.Generator) -> bytes:
    """`count` products of one input [rows, k] with different weights [k, n]: a serialized model."""
    blocks, code_bytes = -(-k // form.block), form.block * form.bits // 8
    nodes, weights = [], []
    for i in range(count):
        given = {
            f"w{i}": random.integers(0, 256, (n, blocks, code_bytes), np.uint8),
            f"s{i}": random.uniform(0.001, 0.002, n * blocks).astype(np.float32),
        }
        if form.zero_points:
            given[f"z{i}"] = random.integers(0, 256, n * -(-blocks * form.bits // 8), np.uint8)
        weights += [numpy_helper.from_array(array, name) for name, array in given.items()]
        sizes: dict[str, Any] = {
            "K": k,
            "N": n,
            "bits": form.bits,
            "block_size": form.block,
            "accuracy_level": form.level,
        }
        nodes.append(helper.make_node("MatMulNBits", ["x", *given], [f"y{i}"], domain=DOMAIN, **sizes))
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", k])]
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["rows", n]) for i in range(count)]
    made = helper.make_graph(nodes, "products", ports, results, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    content: bytes = onnx.ModelProto.SerializeToString(helper.make_model(made, opset_imports=opsets, ir_version=8))
    return content
