"""onnxruntime on processors other than this machine's, which qemu-user emulates: other kernels, other rounding.

The recipe names their instruction sets. Each has a process of its own, which answers what the runtime `onnxruntime` is
asked, on one thread, once it has made sure that it sees this set and none that is better.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.errors import RecipeError
from pipeline.typed import did_you_mean
from pipeline.variants import model_file
from verify.candidate.session import positions_of
from verify.emulation.emulator import MODELS, SLOWER, Emulator, Wanted
from verify.interop.runtime import Answers, Ask, Bounds, Missing, RuntimeFailure, Task
from verify.reference.corpus import Batch
from verify.runtimes import onnxruntime
from verify.sandbox.isolated import isolated

PARTS = (*onnxruntime.PARTS, "unrounded")
UNREADABLE = onnxruntime.UNREADABLE
IN_PLACE = True
SLOW = True
WITHOUT_FLOAT16 = "arm64"  # Armv8.0: Cortex-A53 to A73, with no arithmetic in float16
ILLEGAL = (
    "onnxruntime runs its float16 kernel of MatMulNBits on such a core too, which ends the process "
    "(SIGILL; seen in 1.31.1 and 1.32.0)"
)


@dataclass(frozen=True)
class Settings:
    """Instruction sets, by the names that verify/emulation/emulator.py knows, and how much is asked of each.

    `rows`: how many of the batch's rows are asked, for models that are slow when emulated.
    """

    sets: tuple[str, ...] = ("AVX2", "SSE4.2")
    levels: tuple[str, ...] = ("disable_all", "all")
    rows: int | None = None

    def check(self, where: str) -> None:
        """RecipeError for a set that no emulated processor has, for a level that onnxruntime has not, and for none."""
        for name in self.sets:
            if name not in MODELS:
                hint = did_you_mean(name, MODELS)
                raise RecipeError(f"no instruction set {name!r}", where=f"{where}: sets", hint=hint)
        if not self.sets:
            raise RecipeError("nothing to run", where=where, hint="name at least one instruction set")
        from verify.interop.questions import BATCH  # here, because an emulated process would need seconds for it

        if self.rows is not None and not 1 <= self.rows <= len(BATCH):
            hint = f"write 1 to {len(BATCH)}, or nothing"
            raise RecipeError(f"{self.rows} rows are not possible", where=f"{where}: rows", hint=hint)
        onnxruntime.Settings(self.levels).check(where)


@dataclass(frozen=True)
class Own:
    """State what the process of one instruction set must be, and how it runs a graph."""

    wanted: Wanted
    asked: onnxruntime.Settings


EVERY = Settings(tuple(MODELS), onnxruntime.LEVELS)


def configurations(settings: Settings) -> Mapping[str, str]:
    """The set of each pair of a set and a level, by what reports call them."""
    return {f"{name}, {onnxruntime.named(level)}": name for name in settings.sets for level in settings.levels}


def missing(settings: Settings) -> Missing | None:
    """Return what the first of the sets lacks, if none can be run."""
    lacking = absent(settings)
    return None if len(lacking) < len(configurations(settings)) else next(iter(lacking.values()))


def absent(settings: Settings) -> Mapping[str, Missing]:
    """The configurations that cannot be run here, each with what is not installed."""
    own = {place: Emulator(name).missing() for place, name in configurations(settings).items()}
    return {place: lacks for place, lacks in own.items() if lacks is not None}


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """Products of 4-bit weights with float16 activations, on processors that have no such arithmetic."""
    if WITHOUT_FLOAT16 not in _present(settings) or not _multiplies_float16(graph):
        return {}
    return {place: ILLEGAL for place, name in configurations(settings).items() if name == WITHOUT_FLOAT16}


def version(settings: Settings) -> str:
    """The library's, and the emulators' with the sets that they emulate here."""
    there: dict[str, list[str]] = {}
    for name in _present(settings):
        there.setdefault(Emulator(name).version, []).append(name)
    emulated = "; ".join(f"{', '.join(names)} by {emulator}" for emulator, names in there.items())
    return f"onnxruntime {installed('onnxruntime')} on {emulated}"


@contextlib.contextmanager
def running(settings: Settings, bounds: Bounds) -> Iterator[Ask]:
    """See verify/interop/runtime.py; one process for each instruction set, asked one after the other."""
    bounds = replace(bounds, timeout_s=bounds.timeout_s * SLOWER)
    with contextlib.ExitStack() as stack:
        asks = {}
        for name in _present(settings):
            emulator = Emulator(name)
            own = Own(emulator.wanted, onnxruntime.Settings(settings.levels, threads=(1,)))
            asks[name] = stack.enter_context(isolated(__name__, own, bounds, emulator))
        yield lambda task: _ask_all(asks, task, settings)


def _ask_all(asks: Mapping[str, Ask], task: Task, settings: Settings) -> Answers:
    """The answers of every set; one that dies or is late leaves the others'."""
    answers: dict[str, Mapping[str, Any] | RuntimeFailure] = {}
    without = unsupported(task.repository / model_file(task.variant), settings)
    places = configurations(settings)
    task = replace(task, questions=_fewer(task.questions, settings.rows))
    for name, ask in asks.items():
        own = [place for place in places if places[place] == name and place not in without]
        asked = [place for place in own if not task.extent(place).nothing]
        try:
            answers |= ask(task) if asked else {}
        except RuntimeFailure as failure:
            answers |= dict.fromkeys(asked, failure)
    return answers


def _fewer(questions: Mapping[str, Any], rows: int | None) -> dict[str, Any]:
    """Return what a process is asked: prompts, and the batch's first rows where there is a batch."""
    asked = {key: questions[key] for key in ("lengths", "end")}
    if "batch" not in questions:
        return asked
    ids, mask = (np.asarray(questions["batch"][key], np.int64) for key in ("ids", "mask"))
    batch = Batch(ids, mask, positions_of(mask)).first(rows)
    return {**asked, "batch": {"ids": batch.ids, "mask": batch.mask}}


def answer(task: Task, own: Own) -> Answers:
    """Answer as the runtime `onnxruntime` does, in the process of one instruction set; refuse to be another."""
    if (wrong := own.wanted.differs()) is not None:
        raise RuntimeFailure(wrong)

    def named(place: str) -> str:
        return f"{own.wanted.instruction_set}, {place.partition(',')[0]}"

    answers = onnxruntime.answer(replace(task, extent=lambda place: task.extent(named(place))), own.asked)
    return {named(place): parts for place, parts in answers.items()}


def _present(settings: Settings) -> Sequence[str]:
    return [name for name in settings.sets if Emulator(name).missing() is None]


def _multiplies_float16(graph: Path) -> bool:
    """Return whether the scales of a MatMulNBits, and so its activations, are float16."""
    model = onnx.load(graph, load_external_data=False)
    half = {entry.name for entry in model.graph.initializer if entry.data_type == onnx.TensorProto.FLOAT16}
    return any(node.op_type == "MatMulNBits" and node.input[2] in half for node in model.graph.node)
