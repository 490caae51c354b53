"""The instruction sets that a process sees: its own, and in an emulator the emulated ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from verify import processor
from verify.emulation.emulator import KERNELS
from verify.processor import instruction_sets

ASK = "from verify.processor import instruction_sets; print(*instruction_sets())"
ON_X86_64 = processor.HOST == "x86_64"


def test_they_are_those_of_the_machine() -> None:
    found = instruction_sets()
    assert found
    assert len(set(found)) == len(found)
    cpuinfo = Path("/proc/cpuinfo")
    if ON_X86_64 and cpuinfo.is_file():
        flags = set(cpuinfo.read_text().split())
        kernels_name = {
            "AMX-INT8": "amx_int8",
            "AVX512-VNNI": "avx512_vnni",
            "AVX512": "avx512bw",
            "AVX-VNNI": "avx_vnni",
            "AVX2": "avx2",
            "AVX": "avx",
            "SSE4.2": "sse4_2",
        }
        assert list(found) == [name for name, flag in kernels_name.items() if flag in flags]


@pytest.mark.skipif(not ON_X86_64, reason="CPUID is of x86-64")
def test_cpuid_answers_and_knows_its_last_leaf() -> None:
    _, ebx, ecx, edx = processor._cpuid(0, 0)
    vendor = b"".join(part.to_bytes(4, "little") for part in (ebx, edx, ecx))
    assert vendor.isascii()
    assert len(vendor.strip(b"\0")) > 5
    assert processor._cpuid(0x7FFFFFFF, 0) == (0, 0, 0, 0)


@pytest.mark.skipif(not ON_X86_64, reason="the Python that runs the tests is no x86-64 program")
@pytest.mark.parametrize(("model", "wanted"), [("Haswell", "AVX2 AVX SSE4.2"), ("Nehalem", "SSE4.2")])
def test_an_emulated_processor_is_told_from_the_machine(model: str, wanted: str) -> None:
    if shutil.which("qemu-x86_64") is None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
    python = Path(sys.executable).resolve()
    paths = f"PYTHONPATH={':'.join(path for path in sys.path if path)}"
    command = ["qemu-x86_64", "-E", paths, "-U", KERNELS, "-cpu", model, str(python), "-c", ASK]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == wanted.split()
