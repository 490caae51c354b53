"""python -m verify.emulation: set up a Python for arm64 in .venv-arm64, where the runtime `processors` looks for it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from pipeline import command
from pipeline.errors import PASSED
from verify.emulation import arm64
from verify.emulation.emulator import ARM64


def main(argv: Sequence[str] | None) -> int:
    """Set up anew; prints the directory."""
    ArgumentParser(prog="python -m verify.emulation", description=arm64.__doc__).parse_args(argv)
    arm64.set_up()
    print(ARM64)
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
