"""Write a graph in one file, or, where that would be too large, with its weights in a second file beside it.

An ONNX file holds less than 2 GiB. Beyond, the weights lie beside it in FILE_data, which is the one name that
onnxruntime, Optimum and Transformers.js all find: Optimum downloads FILE_data with FILE, Transformers.js does so where
config.json says that it is there (model/transformersjs_config.py).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from model.session import open_session
from pipeline.canonical import file_digest
from pipeline.recipe.recipe import LARGEST_FILE
from pipeline.variants import data_file

SMALLEST = 1024  # bytes of a tensor that is worth a place beside the file


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of all stored tensors."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)


def save(model: ir.Model, path: Path, above: int) -> None:
    """Write a model to `path`; its weights beside it where they have more than `above` bytes.

    One tensor is in memory at a time where they lie beside, and the whole model where they do not.
    """
    if weight_bytes(model) > above:
        ir.save(model, path, external_data=data_file(path).name, size_threshold_bytes=SMALLEST)
        return
    ir.external_data.load_to_model(model)  # a tensor that was read from beside another file
    ir.save(model, path)


def size(model: ir.Model) -> int:
    """Return the bytes of a model's file, with what lies beside it."""
    values = model.graph.initializers.values()
    beside = (value.const_value.nbytes for value in values if isinstance(value.const_value, ir.ExternalTensor))
    return int(ir.to_proto(model).ByteSize()) + sum(beside)


def digests(graph: Path) -> list[str]:
    """Return the digests of a graph's file and of what lies beside it."""
    return [file_digest(path) for path in (graph, data_file(graph)) if path.is_file()]


def open_model(model: ir.Model) -> onnxruntime.InferenceSession:
    """Open a session of a model that lies in memory, by way of the disk: from bytes, it would hold them, too."""
    with tempfile.TemporaryDirectory() as place:  # the session keeps open what it has mapped
        save(model, path := Path(place, "model.onnx"), LARGEST_FILE)
        return open_session(path)
