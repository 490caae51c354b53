"""The stock export and the stock Transformers.js recipe's variants, by the calls that its scripts make.

But for onnxslim, which the recipe runs first: behind it (0.1.98) the dynamic int8 keeps the embedding in float32 beside
the quantized one, 168 MB instead of 65 for 64 million parameters. The comparison is with the better of the two.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from verify.runtimes.optimum import environment

EXPORTERS = ("optimum", "optimum-onnx", "transformers", "torch", "accelerate", "onnx", "onnxruntime")
BASE: str | None = "fp32"
TOOLS = ("onnx", "onnxruntime")
EXPORT = Path(__file__).with_name("export.py")
PROGRAMS = (EXPORT,)


def elsewhere() -> dict[str, str]:
    """Return the versions of what decides the result in Optimum's environment."""
    return {f"{name} (optimum)": version for name, version in environment.versions(*EXPORTERS).items()}


def make(name: str, source: Path, base: Path, target: Path) -> None:
    """Write `model.onnx`: the export of `source`, or a variant of the export in `base`."""
    logging.disable(logging.INFO)  # a line for every node that is left alone says nothing
    if name == "fp32":
        _export(source, target)
    else:
        VARIANTS[name](base / "model.onnx", target / "model.onnx")


def _export(source: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        command = [environment.program("python"), EXPORT, source, Path(scratch)]
        told = subprocess.run(command, env=environment.variables(), capture_output=True, text=True, check=False)
        if told.returncode != 0:
            raise InputError(
                f"Optimum cannot export it: {(told.stderr.strip() or 'it said nothing')[-500:]}",
                where=source,
                hint="mend what it names, or leave this engine out with --only",
            )
        for path in Path(scratch).glob("model.onnx*"):
            path.rename(target / path.name)


def _fp16(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _q8(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options: dict[str, Any] = {"EnableSubgraph": True, "MatMulConstBOnly": True}
    quantize_dynamic(source, target, per_channel=False, weight_type=QuantType.QInt8, extra_options=options)


def _q4(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=4, block_size=32, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model, target)


VARIANTS: dict[str, Callable[[Path, Path], None]] = {"fp16": _fp16, "q8": _q8, "q4": _q4}
