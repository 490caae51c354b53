"""The standard graph: trace a checked checkpoint with Optimum, then clean what the exporter wrote."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from optimum.exporters.onnx.convert import export_pytorch
from torch.onnx.errors import OnnxExporterError
from transformers import AutoModelForCausalLM

from model import checkpoint, contract
from model.builder import Builder
from pipeline.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRACED = 16  # length of the example that is traced, unless the model's context is shorter


def load(directory: Path, *, allow_pickle: bool) -> PreTrainedModel:
    """The source model in float32 (bfloat16 and float16 checkpoints upcast exactly).

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
    loaded: PreTrainedModel = model.eval()
    return loaded


def export(model: PreTrainedModel, exporter: Callable[[Any], Any], path: Path, *, context: int) -> None:
    """Trace the model to `path`. Optimum's own validation is off: `verify` is the judge.

    `exporter` makes the export config. InputError when the exporter has no translation for an operator of the model.
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
                exporter(model),
                opset=contract.OPSET,
                output=path,
                input_shapes={"sequence_length": min(TRACED, context)},
                do_constant_folding=False,
            )
        except OnnxExporterError as error:
            hint = "this configuration cannot be written at the pinned opset; see the lines above"
            raise InputError(f"cannot be exported: {str(error).splitlines()[0]}", where="model", hint=hint) from error


def clean(source: Path) -> ir.Model:
    """The exported graph without traces, duplicates and dead nodes, and with logits on demand."""
    model = ir.load(source)
    _offer_last_logits(model.graph, source)
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
    return steps(model).model


def _offer_last_logits(graph: ir.Graph, where: Path) -> None:
    """Let a caller ask for the last positions only: slice what the head multiplies, before it is multiplied."""
    logits = next((value for value in graph.outputs if value.name == "logits"), None)
    head = logits.producer() if logits is not None else None
    hidden = head.inputs[0] if head is not None else None
    if head is None or hidden is None or head.op_type != "MatMul":
        hint = "report this: the exporter and the pinned transformers disagree"
        raise InputError("logits are not the result of a MatMul", where=where, hint=hint)
    builder = Builder()
    keep = builder.constant(contract.LOGITS_TO_KEEP, np.array(0, np.int64))
    kept = builder.last(hidden, keep)
    builder.insert(graph, before=head)
    head.replace_input_with(0, kept)
    graph.inputs.append(keep)
