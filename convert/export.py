"""Export a checked checkpoint with Optimum to float32 ONNX, then clean the graph and hold it to the contract."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from optimum.exporters.onnx.convert import export_pytorch
from torch.onnx.errors import OnnxExporterError
from transformers import AutoModelForCausalLM

from artifact import checkpoint, signature
from artifact.errors import InputError
from artifact.signature import Dimensions, Port

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES: dict[ir.DataType | None, str] = {ir.DataType.FLOAT: "float32", ir.DataType.INT64: "int64"}
TRACED = 16  # length of the example that is traced, unless the model's context is shorter


def load(directory: Path, module: ModuleType, *, allow_pickle: bool) -> PreTrainedModel:
    """The source model in float32 (bfloat16 and float16 checkpoints upcast exactly), ready to be traced.

    Raises InputError for tensors that are missing, unexpected, of another shape, or not finite, and for a checkpoint
    that transformers cannot load.
    """
    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            directory, dtype=torch.float32, **checkpoint.loading(allow_pickle=allow_pickle)
        )
    except Exception as error:  # a foreign config and foreign weights: transformers raises what its parsers raise
        hint = "check config.json and the weights against each other"
        raise InputError(f"transformers cannot load it: {error}", where=directory, hint=hint) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            what = f"{problem.replace('_', ' ')}: {', '.join(sorted(map(str, info[problem])))}"
            raise InputError(what, where=directory, hint="fetch the checkpoint again; none may be made up or dropped")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise InputError(f"tensor {name} holds NaN or Inf", where=directory, hint="fetch the checkpoint again")
    module.prepare(model)
    model.eval()
    prepared: PreTrainedModel = model
    return prepared


def export(model: PreTrainedModel, module: ModuleType, path: Path, *, context: int) -> None:
    """Trace the model to `path`. Optimum's own validation is off: `verify` is the judge.

    Raises InputError when the exporter has no translation for an operator of the model.
    """
    # The exporter prints the graph that it fails on; stdout is for the result.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        # The tracer warns about shape comparisons inside transformers; every branch it may have frozen (empty past,
        # length 1, batches) is run by the checks `logits` and `cache`.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            export_pytorch(
                model,
                module.export_config(model),
                opset=signature.OPSET,
                output=path,
                input_shapes={"sequence_length": min(TRACED, context)},
                do_constant_folding=False,
            )
        except OnnxExporterError as error:
            hint = "this configuration cannot be written at the pinned opset; see the lines above"
            raise InputError(f"cannot be exported: {str(error).splitlines()[0]}", where="model", hint=hint) from error


def clean(source: Path, target: Path, dims: Dimensions) -> None:
    """Write the exported graph without traces, duplicates and dead nodes, at the pinned versions.

    Raises InputError if the result breaks the contract: that is a fault of the exporter or of the architecture file,
    found here because nothing downstream could mend it.
    """
    model = ir.load(source)
    steps = ir.passes.Sequential(
        passes.ClearMetadataAndDocStringPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateHashedInitializersPass(size_limit=2**31),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.TopologicalSortPass(),
    )
    model = steps(model).model
    graph = model.graph
    graph.name = "main"
    graph.doc_string = None
    model.ir_version = signature.IR_VERSION
    model.opset_imports[""] = signature.OPSET
    model.producer_name, model.producer_version = "onnx-conversion-pipeline", None
    model.domain, model.model_version, model.doc_string = None, None, None
    order = {port.name: place for place, port in enumerate(signature.inputs(dims))}
    inputs = sorted(graph.inputs, key=lambda value: order.get(str(value.name), len(order)))
    graph.inputs.clear()
    graph.inputs.extend(inputs)
    _require_ports(graph.inputs, signature.inputs(dims), source)
    _require_ports(graph.outputs, signature.outputs(dims), source)
    _require_single_embedding(graph, dims, source)
    ir.save(model, target)


def _require_ports(values: Iterable[ir.Value], wanted: tuple[Port, ...], where: Path) -> None:
    hint = "report this: the exporter and the architecture file disagree"
    found = tuple(
        Port(
            str(value.name),
            str(DTYPES.get(value.dtype, value.dtype)),
            tuple(axis if isinstance(axis, int) else str(axis.value) for axis in value.shape or ()),
        )
        for value in values
    )
    for have, want in zip(found, wanted, strict=False):
        if have != want:
            raise InputError(f"graph has {have}, the contract says {want}", where=where, hint=hint)
    if len(found) != len(wanted):
        raise InputError(f"graph has {len(found)} ports, the contract says {len(wanted)}", where=where, hint=hint)


def _require_single_embedding(graph: ir.Graph, dims: Dimensions, where: Path) -> None:
    """A tied embedding must not be there a second time as the transposed head."""
    shapes = ((dims.vocabulary, dims.hidden), (dims.hidden, dims.vocabulary))
    tables = {
        str(name): value.const_value.numpy()
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.shape.numpy() in shapes
    }
    for (name, table), (copy, other) in itertools.combinations(tables.items() if dims.tied else (), 2):
        if np.array_equal(table, other.T):
            hint = "install the pinned packages (make setup): without accelerate tied weights are stored twice"
            raise InputError(f"embedding stored twice, as {name} and as {copy}", where=where, hint=hint)
