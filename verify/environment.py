"""State where a verdict was reached: versions, processor, threads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from verify.emulation.emulator import Emulator
from verify.processor import instruction_sets

PACKAGES = ("torch", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy")


def environment(emulator: Emulator | None = None) -> dict[str, Any]:
    """Return what may change a figure: library versions, processor model and flags (int8 kernels depend on them).

    `emulator` is of the processor that the candidates are run on, if it is not this machine's.
    """
    model, flags = _processor() if emulator is None else (f"{emulator.name}, emulated: {emulator.version}", [])
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in PACKAGES},
        "processor": model,
        "processor_flags": flags,
        "instruction_sets": list(instruction_sets()) if emulator is None else [emulator.name],
        "cores": os.cpu_count(),
    }


def _processor() -> tuple[str, list[str]]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or "unknown", []
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    table = {key.strip(): value.strip() for key, value in fields.items()}
    interesting = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "bf16", "i8mm", "sve")
    flags = (table.get("flags") or table.get("Features") or "").split()
    return table.get("model name", "unknown"), sorted(f for f in flags if f.startswith(interesting))
