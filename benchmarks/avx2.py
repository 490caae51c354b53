"""Measure as on a processor without AVX-512, at this machine's speed: engines whose libraries do not see it.

A library chooses its kernels once, by what the processor (CPUID) and the system (XGETBV) say. numpy, torch and
CTranslate2 can be told otherwise by their environment, llama.cpp is compiled anew. onnxruntime cannot be told: engines
get a copy in which the system's answer is "it saves no registers of AVX-512". An emulator runs the same kernels, but
tells no speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.engine import installed
from benchmarks.remote import Remote, RemoteError
from model.session import open_session, options
from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import seal, staging, up_to_date
from pipeline.canonical import digest, file_digest
from pipeline.command import say
from pipeline.errors import InputError
from verify.processor import HOST, instruction_sets

NAME = "AVX2"
SETS = ("AVX2", "AVX", "SSE4.2")  # what such a processor has, in the words of verify/processor.py
XGETBV = bytes.fromhex("0f01d0")
# push 7; pop rax: the system saves the registers of x87, SSE and AVX, and no others. As long as what it replaces.
NO_AVX512 = bytes.fromhex("6a0758")
COPIED = {"onnxruntime": "onnxruntime", "onnxruntime_genai": "onnxruntime-genai"}  # package -> distribution
COMPILED = "llama-cpp-python"
SETTINGS = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "CT2_FORCE_CPU_ISA": "AVX2",
}
ANSWER_S = 120.0
LARGEST = (255, 127)  # of uint8 and int8: two such products together are more than int16 holds


@dataclass(frozen=True)
class WithoutAvx512:
    """This Python with those libraries before its own (`verify.sandbox.spawned.Python`)."""

    libraries: Path

    @property
    def command(self) -> Sequence[str]:
        """Return what runs it."""
        return ("env", *(f"{key}={value}" for key, value in SETTINGS.items()), sys.executable)

    @property
    def path(self) -> Sequence[str]:
        """Return where it looks for modules."""
        return (str(self.libraries), *sys.path)


class KernelsSeen:
    """Tell, in the process that is asked about, which kernels its libraries choose."""

    def instruction_sets(self) -> tuple[str, ...]:
        """Return what numpy sees, best first."""
        return instruction_sets()

    def saturates(self) -> bool:
        """Return whether onnxruntime's products of bytes saturate.

        AVX2 adds two products of bytes in int16, which overflows; VNNI, with AVX-512 and without, adds in int32.
        onnxruntime names no kernel, but this tells.
        """
        ones = np.ones((64, 16), np.int8)
        node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
        given = helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 64])
        found = helper.make_tensor_value_info("y", TensorProto.INT32, [1, 16])
        graph = helper.make_graph(
            [node], "probe", [given], [found], [numpy_helper.from_array(ones * np.int8(LARGEST[1]), "b")]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = open_session(onnx.ModelProto.SerializeToString(model), options(threads=1))
        (sums,) = session.run(None, {"a": np.full((1, 64), LARGEST[0], np.uint8)})
        return bool(sums[0, 0] < 64 * LARGEST[0] * LARGEST[1])


def without_avx512(build: Path) -> WithoutAvx512:
    """Return a Python without AVX-512, its libraries made in `build` if need be; InputError if it would have it."""
    if HOST != "x86_64":
        raise InputError(f"no such processor: this machine is {HOST}", where="--processor AVX2", hint="leave it out")
    python = WithoutAvx512(_libraries(build / "libraries" / NAME.lower()))
    log = build / "libraries" / f"{NAME.lower()}.txt"
    try:
        with Remote(log, KernelsSeen, python=python) as remote:
            sets = remote.call("instruction_sets", timeout_s=ANSWER_S)
            saturates = remote.call("saturates", timeout_s=ANSWER_S)
    except RemoteError as error:
        raise InputError(f"does not run: {error}", where=python.libraries, hint=f"see {log}") from error
    if tuple(sets) != SETS or not saturates:
        hint = "measure on a processor without AVX-VNNI, which cannot be hidden"
        raise InputError(
            f"the libraries still see more than AVX2 ({', '.join(sets)})", where=python.libraries, hint=hint
        )
    return python


def _libraries(target: Path) -> Path:
    """Return the directory of the libraries, made again when a version has changed."""
    tools = {name: found for name in (*COPIED.values(), COMPILED) if (found := installed(name)) is not None}
    wanted = Manifest(
        kind="libraries",
        name=NAME,
        variant=NAME,
        source={},
        recipe=digest([NAME]),
        code=file_digest(Path(__file__)),
        parents={},
        tools=tools,
    )
    if up_to_date(target, wanted) is None:
        with staging(target) as staged:
            for package, distribution in COPIED.items():
                if distribution in tools:
                    say(f"{distribution}: copying, without AVX-512")
                    _copy(package, staged)
            if COMPILED in tools:
                say(f"{COMPILED}: compiling, without AVX-512 (minutes)")
                _compile(f"{COMPILED}=={tools[COMPILED]}", staged)
            seal(staged, target, wanted)
    return target


def _copy(package: str, target: Path) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"{package} cannot be found", where=sys.prefix, hint="set up again: make setup")
    copy = target / package
    shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.so*"):
        content = path.read_bytes()
        if XGETBV in content:
            path.write_bytes(content.replace(XGETBV, NO_AVX512))


def _compile(requirement: str, target: Path) -> None:
    # Not from pip's cache: that one is compiled for this machine.
    arguments = [
        "install",
        "--no-deps",
        "--no-cache-dir",
        "--no-binary",
        COMPILED,
        "--target",
        str(target),
        requirement,
    ]
    environment = {**os.environ, "CMAKE_ARGS": "-DGGML_NATIVE=OFF"}  # whose defaults are AVX2, FMA and F16C
    command = [sys.executable, "-m", "pip", "--quiet", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = "see what pip says; it needs a C++ compiler and the package index"
        raise InputError(f"cannot be compiled: {done.stderr.strip()[-500:]}", where=requirement, hint=hint)
