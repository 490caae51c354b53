"""The releases that users may have, oldest first, and what each of them is."""

from __future__ import annotations

from dataclasses import dataclass

NUMPY_1, NUMPY_2 = "1.26.4", "2.2.6"
PYTHON, NODE = "onnxruntime", "Transformers.js"  # the groups, as --only names them


@dataclass(frozen=True)
class Release:
    """One release: the package to install, at exactly this version, and for the Python one the numpy beside it.

    `builds` are those of onnxruntime-web that this Transformers.js loads in browsers, the usual one first.
    """

    group: str
    version: str
    numpy: str = ""
    builds: tuple[str, ...] = ()


# First and last patch of each minor release since 1.20, and the last of those before: 1.16 is the first that knows
# MatMulNBits, and up to 1.18 numpy 2 is not what they were built for.
RELEASES = (
    *(Release(PYTHON, version, NUMPY_1) for version in ("1.16.3", "1.17.3", "1.18.1")),
    *(
        Release(PYTHON, version, NUMPY_2)
        for version in (
            *("1.19.2", "1.20.0", "1.20.1", "1.21.0", "1.21.1", "1.22.0", "1.22.1", "1.23.0", "1.23.2", "1.24.1"),
            *("1.24.4", "1.25.0", "1.25.1", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.0", "1.31.1"),
            "1.32.0",
        )
    ),
    *(Release(NODE, version, builds=("jsep",)) for version in ("3.0.2", "3.4.2", "3.8.1")),
    *(
        Release(NODE, version, builds=("asyncify", "plain"))
        for version in ("4.0.1", "4.1.0", "4.2.0", "4.3.1", "4.3.2")
    ),
)
