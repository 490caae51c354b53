"""A graph's inputs and outputs, held to the contract: to the letter, or to what loaders need of it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from model import contract
from model.contract import Dimensions, Port

STRICT: Final = "strict"
USABLE: Final = "usable"
MAY_BE_MISSING = ("position_ids",)  # loaders feed what a session asks for
WIDTHS = {"float32", "float16"}  # of logits and cache: loaders read the type from the session


def violations(graph: Any, dims: Dimensions, kind: str) -> list[str]:
    """Return how inputs and outputs of an onnx graph differ from the contract, as texts.

    USABLE lets names of axes differ, but for the batch's of the cache, which Transformers.js goes by; logits and cache
    be float16; positions be made inside the graph; and further outputs be there.
    """
    initialized = {tensor.name for tensor in graph.initializer}  # an input with a default is optional
    inputs = {port.name: port for port in map(read, graph.input) if port.name not in initialized}
    outputs = {port.name: port for port in map(read, graph.output)}
    needed, made = contract.inputs(dims), contract.outputs(dims)
    if kind == STRICT:
        return _compared("input", inputs, needed, operator.eq) + _compared("output", outputs, made, operator.eq)
    needed = tuple(port for port in needed if port.name in inputs or port.name not in MAY_BE_MISSING)
    read_by_loaders = {port.name: outputs[port.name] for port in made if port.name in outputs}
    return _compared("input", inputs, needed, _serves) + _compared("output", read_by_loaders, made, _serves)


def read(value: Any) -> Port:
    """Return an onnx value as a port."""
    import onnx

    tensor = value.type.tensor_type
    axes = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in tensor.shape.dim)
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = f"type {tensor.elem_type}"
    return Port(value.name, dtype, axes)


def _compared(
    kind: str, found: Mapping[str, Port], wanted: Sequence[Port], fits: Callable[[Port, Port], bool]
) -> list[str]:
    """Return what is there and not wanted, missing, or does not fit (what is there, what is wanted)."""
    names = {port.name for port in wanted}
    problems = [f"required {kind} {name} is not in the contract" for name in found.keys() - names]
    for port in wanted:
        have = found.get(port.name)
        if have is None:
            problems.append(f"{kind} {port.name} is missing")
        elif not fits(have, port):
            about = f"{have.dtype} {list(have.axes)}, not {port.dtype} {list(port.axes)}"
            problems.append(f"{kind} {port.name} is {about}")
    return sorted(problems)


def _serves(have: Port, port: Port) -> bool:
    """Return whether what loaders feed to a port, or read from it, fits. A size may be left open, never fixed."""
    if have.dtype != port.dtype and not {have.dtype, port.dtype} <= WIDTHS:
        return False
    if port.name.startswith(contract.CACHE_IN) and have.axes[:1] != (contract.BATCH,):
        return False
    return len(have.axes) == len(port.axes) and all(
        isinstance(own, str) or own == stated for own, stated in zip(have.axes, port.axes, strict=True)
    )
