"""Export a checked checkpoint with Optimum to float32 ONNX, then clean the graph and hold it to the contract."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from optimum.exporters.onnx.convert import export_pytorch
from transformers import AutoModelForCausalLM

from artifact import signature
from artifact.errors import InputError
from artifact.signature import Dimensions, Port

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(directory: Path, module: ModuleType, *, allow_pickle: bool) -> PreTrainedModel:
    """The source model in float32 (bfloat16 and float16 checkpoints upcast exactly), ready to be traced.

    Raises InputError for tensors that are missing, unexpected, of another shape, or not finite, and for a checkpoint
    that transformers cannot load.
    """
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=not allow_pickle or None,
            weights_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
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
    return model.eval()


def export(model: PreTrainedModel, module: ModuleType, path: Path) -> None:
    """Trace the model to `path`. Optimum's own validation is off: `verify` is the judge."""
    with warnings.catch_warnings():
        # The tracer warns about shape comparisons inside transformers; every branch it may have frozen (empty past,
        # length 1, batches) is run by the checks `logits` and `cache`.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        export_pytorch(model, module.export_config(model), opset=signature.OPSET, output=path, do_constant_folding=False)


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
            str(value.dtype).lower().replace("float", "float32") if value.dtype == ir.DataType.FLOAT else str(value.dtype).lower(),
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
    size = dims.vocabulary * dims.hidden
    copies = [
        str(name)
        for name, value in graph.initializers.items()
        if value.shape is not None and dims.vocabulary in value.shape.numpy() and value.const_value is not None
        and value.const_value.size == size
    ]
    if len(copies) != (1 if dims.tied else 2):
        hint = "install the pinned packages (make setup): without accelerate tied weights are stored twice"
        raise InputError(f"embedding stored as {', '.join(copies)}", where=where, hint=hint)
