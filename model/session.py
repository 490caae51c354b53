"""Sessions of onnxruntime on the processor, and the options that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnxruntime
from onnxruntime import OrtValue
from onnxruntime.capi.onnxruntime_pybind11_state import OrtValueVector

from model.contract import IN_PLACE

ERRORS = 3  # onnxruntime warns of inputs that have defaults and of kernels that it does not choose: both are meant
# Waiting threads would burn the cores that others are measured on.
NO_SPINNING = ("session.intra_op.allow_spinning", "0")


def data_in(directory: Path) -> tuple[str, str]:
    """Return the option that says where a serialized model's external data lies; a file's is in its own directory."""
    return "session.model_external_initializers_file_folder_path", str(directory)


def options(level: str | None = None, threads: int | None = None) -> onnxruntime.SessionOptions:
    """Return options that log errors only.

    `level` of graph optimizations is named as the recipe names it ("disable_all" to "enable_all"; onnxruntime's
    default: all), `threads` are those within an operator (onnxruntime's default: all cores).
    """
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = ERRORS
    if level is not None:
        chosen.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level.upper()}")
    if threads is not None:
        chosen.intra_op_num_threads = threads
    return chosen


def open_session(model: Path | bytes, chosen: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """Open a file or a serialized model; raises what onnxruntime raises for one that it cannot load."""
    return onnxruntime.InferenceSession(model, chosen or options(), providers=["CPUExecutionProvider"])


def stays_in_place(session: onnxruntime.InferenceSession) -> bool:
    """Return whether the graph's file says that its cache may, as model/in_place.py writes it."""
    told = session.get_modelmeta().custom_metadata_map
    return all(told.get(key) == value for key, value in IN_PLACE.items())


def run_into(
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, OrtValue],
    results: Mapping[str, OrtValue],
    how: onnxruntime.RunOptions | None = None,
) -> None:
    """Run a session that writes results, by the outputs' names, into these values; one may be an input too.

    Not an IOBinding: it takes no input that has a default. Raises what onnxruntime raises.
    """
    device = onnxruntime.OrtDevice.make("cpu", 0)._get_c_device()  # noqa: SLF001  # this call takes what they wrap
    given, made = (_vector(values.values()) for values in (feeds, results))
    names, devices = list(results), [device] * len(results)
    session.run_with_ortvaluevector(how or onnxruntime.RunOptions(), list(feeds), given, names, made, devices)


def _vector(values: Iterable[OrtValue]) -> OrtValueVector:
    found = OrtValueVector()
    for value in values:
        found.push_back(value._ortvalue)  # noqa: SLF001
    return found
