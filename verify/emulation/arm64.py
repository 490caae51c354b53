"""A Python for arm64, with onnxruntime: Debian's packages and wheels, unpacked into a directory of their own.

Nothing of the machine changes, and no rights are needed. qemu-user runs the result (verify/emulation/emulator.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import InputError, UnavailableError
from pipeline.plugins import ROOT
from verify.emulation.emulator import ARM64, PYTHON, STAMP

DEBIAN = ("python3.11", "libstdc++6")
# What a candidate's process imports, and what that needs; tokenizers' other dependencies are for downloads.
WHEELS = ("numpy", "onnx", "onnxruntime", "scipy", "tokenizers")
NEEDED = ("flatbuffers", "ml_dtypes", "packaging", "protobuf", "typing_extensions")
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28)] + ["manylinux2014_aarch64"]
# onnxruntime reads which cores there are from /proc/cpuinfo, and crashes where that is another architecture's, as it is
# in qemu before version 9. What they can do it asks of the kernel (HWCAP); a Cortex-A72 adds nothing to that.
CORE = """\
processor\t: {}
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def set_up() -> None:
    """Fill the directory anew; the stamp is written last."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            hint = "run it on Debian 12, or leave arm64 out of verify.runtimes.processors"
            raise InputError(f"{program} not found", where=program, hint=hint)
    shutil.rmtree(ARM64, ignore_errors=True)
    for package in _download(ARM64 / "apt"):
        _run("dpkg-deb", "-x", str(package), str(ARM64 / "root"))
    shutil.rmtree(ARM64 / "apt")
    if not (ARM64 / "root" / PYTHON).is_file():
        raise InputError(
            f"no {PYTHON} in Debian's packages", where=ARM64, hint="run it on Debian 12, which has Python 3.11"
        )
    (ARM64 / "root/proc").mkdir()
    cores = [CORE.format(number) for number in range(os.cpu_count() or 1)]
    (ARM64 / "root/proc/cpuinfo").write_text("".join(cores), encoding="ascii")
    _run(*_pip(ARM64 / "site-packages"))
    (ARM64 / STAMP).touch()


def _download(home: Path) -> list[Path]:
    """Debian's packages, and those that they need, from the machine's own sources, by a package database of our own."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": home / "state",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "install", "--download-only", "--no-install-recommends", "--yes", *DEBIAN)
    return sorted((home / "cache/archives").glob("*.deb"))


def _pip(target: Path) -> list[str]:
    """Install this environment's own versions, built for arm64."""
    kinds = [f"--platform={name}" for name in PLATFORMS]
    constraints = f"--constraint={ROOT / 'constraints.txt'}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--target={target}"]
    return [*pip, *kinds, "--only-binary=:all:", "--python-version=3.11", "--no-deps", constraints, *WHEELS, *NEEDED]


def _run(*words: str) -> None:
    """Run a program whose words go to stderr: stdout carries the result's path."""
    if subprocess.run(words, stdout=sys.stderr, check=False).returncode != 0:
        raise UnavailableError(
            "failed, as it says above",
            where=" ".join(words[:2]),
            hint="see what the program said, then run again: make arm64",
        )
