"""python -m tests.fuzz_atheris TARGET DIR [OPTION ...] SEEDS: one target under libFuzzer, run by `tests.fuzz`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline", "model", "convert", "quantize", "verify"]):
    from tests.fuzz import Watch, attempt, warm_up
    from tests.fuzz_targets import readers


def main() -> None:
    """Never returns: libFuzzer ends the process, with exit code 0 after as many files as asked for."""
    name, place = sys.argv[1], Path(sys.argv[2])
    read = readers()[name]
    warm_up(read, next(Path(sys.argv[-1]).iterdir()).read_bytes(), place)

    def one(content: bytes) -> None:
        with Watch(place):
            attempt(read, content, place)

    atheris.Setup([sys.argv[0], *sys.argv[3:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
