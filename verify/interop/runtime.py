"""What a runtime is made of: a program that loads the artifact, asked the same questions as the reference.

A runtime is a module or package in verify/runtimes with

- `Settings`: a frozen dataclass, filled from the recipe's table `verify.runtimes.<runtime>`; its `check(where)` refuses
  what cannot be, before any work;
- `PARTS`: which of the questions it answers, each a judge in verify/interop/comparator.py;
- `UNREADABLE`: a regular expression of characters that its interface cannot take: it answers None for such texts;
- `missing(settings)`: what is not installed, or None;
- `unsupported(graph, settings)`: its configurations that cannot run this ONNX file, each with the evidence;
- `version(settings)`: of everything that may change its answers, as text;
- `running(settings, bounds)`: a context manager that gives a function from a `Task` to `Answers`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

# By configuration ("any" if there is one only: optimization level, threads), then by part.
Answers = Mapping[str, Mapping[str, Any]]


class RuntimeFailure(Exception):  # noqa: N818  # an outcome of the candidate's, reported; no error of this program
    """The runtime raised, crashed, ran out of memory or out of time, or complained where it must not."""


@dataclass(frozen=True)
class Bounds:
    """What one runtime may take for one variant: seconds, and GiB of data of one process."""

    timeout_s: float
    memory_gb: float


@dataclass(frozen=True)
class Missing:
    """What is not installed, and the command that installs it."""

    what: str
    command: str


@dataclass(frozen=True)
class Task:
    """One variant of one repository (a directory in the Hub's layout), and the questions: plain values."""

    repository: Path
    variant: str
    questions: Mapping[str, Any]


Ask = Callable[[Task], Answers]
Running = AbstractContextManager[Ask]


def load(name: str) -> ModuleType:
    """The module of a runtime that the recipe reader has found to exist."""
    return importlib.import_module(f"verify.runtimes.{name}")
