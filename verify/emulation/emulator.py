"""Processors other than this machine's: qemu-user runs a Python of theirs, and onnxruntime takes their kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version as installed

from pipeline.errors import RecipeError
from pipeline.plugins import ROOT
from pipeline.typed import did_you_mean
from verify.interop.runtime import Missing
from verify.processor import HOST, instruction_sets

ARM64 = ROOT / ".venv-arm64"  # what `make arm64` sets up: a root directory with a Python, and packages
VARIABLE = "QEMU"  # names the emulators' programs up to the architecture, where they are others than qemu-user's
PYTHON = "usr/bin/python3.11"
STAMP = ".installed"
# By instruction set: the architecture, and qemu's word for a processor that has this set as its best. Left out are
# features that are a kernel's business, of which qemu would say at each start that it has none, and better sets.
MODELS = {
    "AVX2": ("x86_64", "Haswell-noTSX,pcid=off,x2apic=off,tsc-deadline=off,invpcid=off"),
    "AVX": ("x86_64", "SandyBridge,x2apic=off,tsc-deadline=off"),
    "SSE4.2": ("x86_64", "Nehalem"),
    "arm64-i8mm": ("aarch64", "max,sve=off,sme=off"),
    "arm64-dotprod": ("aarch64", "neoverse-n1"),
    "arm64": ("aarch64", "cortex-a72"),
}
KERNELS = "OPENBLAS_CORETYPE"  # a variable with which this machine's user may name its processor to numpy
SLOWER = 10  # how many times as long an emulated process may take: products take 20 to 100 times, most else 10


@dataclass(frozen=True)
class Wanted:
    """State what an emulated process must find itself to be."""

    instruction_set: str
    onnxruntime: str

    def differs(self) -> str | None:
        """Return, in that process, what it is instead; None if all is as it must be."""
        found = Wanted(instruction_sets()[0], installed("onnxruntime"))
        return None if found == self else f"the emulated process is {found}, not {self}; set it up anew: make arm64"


@dataclass(frozen=True)
class Emulator:
    """A processor whose best instruction set is `name`."""

    name: str

    @property
    def program(self) -> str:
        """The emulator of its architecture."""
        return f"{os.environ.get(VARIABLE, 'qemu')}-{MODELS[self.name][0]}"

    @property
    def wanted(self) -> Wanted:
        """Its best instruction set, with this environment's onnxruntime."""
        return Wanted(self.name, installed("onnxruntime"))

    @property
    def version(self) -> str:
        """The emulator's: it computes what the processor would."""
        told = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return told.stdout.splitlines()[0]

    @property
    def command(self) -> list[str]:
        """Return what runs a Python there, before Python's own arguments."""
        architecture, model = MODELS[self.name]
        emulator = [self.program, "-cpu", model, "-U", KERNELS]
        if architecture == HOST:
            return [*emulator, sys.executable]
        return [*emulator, "-L", str(ARM64 / "root"), str(ARM64 / "root" / PYTHON)]

    @property
    def path(self) -> list[str]:
        """Return where that Python finds the project and its packages, before its own modules."""
        return sys.path if MODELS[self.name][0] == HOST else [str(ROOT), str(ARM64 / "site-packages")]

    def missing(self) -> Missing | None:
        """Return what is not installed here."""
        architecture, _ = MODELS[self.name]
        if shutil.which(self.program) is None:
            return Missing(self.program, "apt-get install qemu-user (Debian)")
        if architecture == HOST:
            return None
        if architecture != "aarch64":
            return Missing(f"a Python for {architecture}", "judge on such a machine")
        return None if (ARM64 / STAMP).is_file() else Missing("a Python for arm64 with onnxruntime", "make arm64")


def present(name: str) -> Emulator:
    """Return the emulator of an instruction set; RecipeError if there is none, or none that can be run here."""
    if name not in MODELS:
        raise RecipeError(f"no instruction set {name!r}", where="--processor", hint=did_you_mean(name, MODELS))
    emulator = Emulator(name)
    if (lacks := emulator.missing()) is not None:
        raise RecipeError(f"{lacks.what} is not installed", where=f"--processor {name}", hint=lacks.command)
    return emulator
