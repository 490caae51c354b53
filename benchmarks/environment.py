"""State where figures come from: processor, versions, and how llama.cpp was built."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.engine import installed
from verify.environment import environment as of_verify
from verify.runtimes.optimum.environment import versions

LIBRARIES = ("ctranslate2", "llama-cpp-python", "gguf", "onnxruntime-genai")


def environment(threads: int) -> dict[str, Any]:
    """Verify's environment, the peers' versions, the number of threads, and how busy the machine was of late."""
    peers = {name: installed(name) or "absent" for name in LIBRARIES} | versions("optimum", "optimum-onnx")
    base = of_verify()
    return {**base, "packages": {**base["packages"], **peers}, "threads": threads, "load_average": os.getloadavg()}
