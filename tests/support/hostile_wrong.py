"""ONNX models that can be read, but are wrong: what `verify --candidate` judges and fails."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support.hostile import PLAIN, Make, changed, external, nodes, port, weight


def opset(version: int, domain: str = "") -> Make:
    def change(model: onnx.ModelProto) -> None:
        entry = next((e for e in model.opset_import if e.domain == domain), None) or model.opset_import.add()
        entry.domain, entry.version = domain, version

    return changed(change)


def claim(model: onnx.ModelProto) -> None:
    """A value between two nodes is said to be of another type than it is."""
    model.graph.node[0].output[0] = "between"
    model.graph.node.append(helper.make_node("Identity", ["between"], ["logits"]))
    model.graph.value_info.append(port("between", TensorProto.INT64, ["batch_size", "sequence_length", 4]))


def claim_shape(model: onnx.ModelProto) -> None:
    claim(model)
    model.graph.ClearField("value_info")
    model.graph.value_info.append(port("between", TensorProto.FLOAT, ["batch_size", "sequence_length", 5]))


def poisoned(value: float) -> Make:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    array[1, 2] = value
    return weight(raw_data=array.tobytes())


# Exit code 1, by this rule of the check `structure`, with these words.
WRONG: dict[str, tuple[Make, str, str]] = {
    "unknown operator": (
        nodes(helper.make_node("Frobnicate", ["input_ids"], ["f"])),
        "operators",
        "operator Frobnicate does not exist in domain 'ai.onnx'; supported: ai.onnx up to opset 21, com.microsoft",
    ),
    "unknown operator of onnxruntime": (
        nodes(helper.make_node("Frobnicate", ["input_ids"], ["f"], domain="com.microsoft")),
        "operators",
        "operator Frobnicate does not exist in domain 'com.microsoft'",
    ),
    "operator of a later opset": (
        nodes(helper.make_node("Gelu", ["w"], ["f"])),
        "operators",
        "operator Gelu exists from opset 20; the model imports 18",
    ),
    "unknown domain": (opset(1, "org.example"), "versions", "'ai.onnx', 'com.microsoft' (no operator is of it"),
    "opset too new": (opset(999), "versions", "opset 999; supported: 1 to 21"),
    "opset of none": (opset(0), "versions", "opset 0; supported: 1 to 21"),
    "IR of the future": (
        changed(lambda m: setattr(m, "ir_version", 4096)), "versions", "IR version 4096; supported: 1 to 10",
    ),
    "cycle": (
        nodes(helper.make_node("Neg", ["b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])), "wiring", "cycle: ",
    ),
    "undefined input": (
        nodes(helper.make_node("Neg", ["nothing"], ["a"], name="n")), "wiring", "node n reads nothing, which is undef",
    ),
    "wrong order": (
        nodes(helper.make_node("Neg", ["b"], ["a"], name="n"), helper.make_node("Neg", ["w"], ["b"])),
        "wiring",
        "node n reads b before it is made",
    ),
    "undefined output": (nodes(keep=False), "wiring", "output logits is undefined"),
    "output made twice": (
        nodes(helper.make_node("Gather", ["w", "input_ids"], ["logits"])), "wiring", "value logits is made twice",
    ),
    "initializer twice": (
        changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "wiring", "initializer w is stored tw",
    ),
    "output twice": (
        changed(lambda m: m.graph.output.append(m.graph.output[0])), "wiring", "output logits is declared twice",
    ),
    "NaN": (poisoned(float("nan")), "finite", "w holds NaN or infinity"),
    "infinity": (poisoned(float("inf")), "finite", "w holds NaN or infinity"),
    "type that lies": (changed(claim), "checker", "Inferred elem type differs from existing elem type"),
    "shape that lies between nodes": (changed(claim_shape), "checker", "Inferred shape and existing shape differ"),
    "external data, all in order": (external(PLAIN, ("length", "48")), "external_data", "weights lie in w.bin"),
}  # fmt: skip
