"""The reference's modules as questions with answers: what a linear layer makes of an identity matrix, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.landmarks import Kind
from verify.candidate.subgraph import Cut, entries_of, rows_of
from verify.check import Array, Case

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

SMALL = np.float32(2.0**-14)  # the smallest normal float16: below it, errors are measured against it
PROBES = 8  # rows of random numbers that a norm is asked about, at the scale of 1 and at that of its epsilon
SAMPLED = 16  # a tied head is asked with every 16th unit vector: 16 is the smallest block, so each block is hit
STEEP = np.linspace(-10, 10, 4001, dtype=np.float32)
FAR = np.geomspace(10, 100, 41, dtype=np.float32)[1:]  # where few texts come: a clipped or overflowing activation
# What PyTorch's own classes are; an architecture adds its own, and all others are activations or norms.
KINDS = {"Linear": Kind.TURNED, "Embedding": Kind.LOOKUP, "Dropout": Kind.OTHER, "Identity": Kind.OTHER}
CURVE = np.concatenate([-FAR[::-1], STEEP, FAR])  # what an activation is asked about


@dataclass(frozen=True)
class Module:
    """A module that holds weights or computes a fixed function of each row.

    `kind` is "linear" (weight [in, out]), "lookup" (weight [entries, width]) or "function" (questions and answers);
    `size` is the first of the weight's axes, `value` what it computes where a graph does not name that after it.
    """

    name: str
    kind: str
    size: int = 0
    weight: str | None = None
    bias: str | None = None
    turned: bool = False  # the weight is stored [out, in]
    tied: bool = False  # the weight is a lookup's table, which that lookup answers for
    value: str | None = None

    def read(self, case: Case) -> tuple[Array, Array | None]:
        """The weight as `kind` says, and the bias."""
        weight = case.arrays[str(self.weight)]
        return weight.T if self.turned else weight, None if self.bias is None else case.arrays[self.bias]


def modules(case: Case) -> list[Module]:
    """The modules that a case describes."""
    return [Module(**table) for table in case.facts["modules"]]


def answers(module: Module, cut: Cut, case: Case) -> Iterator[Array]:
    """Everything that a module of a candidate's graph can be asked, piece by piece."""
    if module.kind == "function":
        yield cut.run(case.arrays[f"{module.name}.question"][None])
    elif module.kind == "linear":
        yield cut.run(cut.origin(module.size))
        yield from (found for _, found in rows_of(cut, module.size, every=SAMPLED if module.tied else 1))
    else:
        yield from (found for _, found in entries_of(cut, module.size))


def questions(reference: Reference, name: str) -> Case:
    """The reference's modules and what to ask them, without its own answers."""
    case = questions_and_answers(reference, name)
    return Case(name, {key: array for key, array in case.arrays.items() if key.endswith(".question")}, case.facts)


def questions_and_answers(reference: Reference, name: str) -> Case:
    """All of the reference's modules; a tensor that two of them share is stored once."""
    named = {id(parameter): key for key, parameter in reference.model.named_parameters()}
    arrays = {key: parameter.detach().numpy() for key, parameter in reference.model.named_parameters()}
    found: list[Module] = []
    names, head = reference.architecture.landmarks, reference.landmarks.head
    kinds = {**KINDS, **names.MODULES}
    for module, layer in _leaves(reference.model):
        kind = kinds.get(layer.__class__.__name__, Kind.FUNCTION)
        weight = named.get(id(getattr(layer, "weight", None)))
        value = "logits" if module == head else None
        if kind in (Kind.LINEAR, Kind.TURNED):
            turned = kind == Kind.TURNED
            bias = named.get(id(getattr(layer, "bias", None)))
            tied = any(entry.weight == weight for entry in found)
            size = layer.weight.shape[turned]
            found.append(Module(module, "linear", size, weight, bias, turned=turned, tied=tied, value=value))
        elif kind == Kind.LOOKUP:
            found.append(Module(module, "lookup", len(layer.weight), weight))
        elif kind == Kind.FUNCTION:
            found.append(Module(module, "function"))
            arrays |= _function(module, layer, getattr(layer, names.NORM_EPSILON, None))
    return Case(name, arrays, {"modules": [vars(entry) for entry in found]})


def _leaves(model: Any) -> Iterator[tuple[str, Any]]:
    """Modules without parts."""
    for name, module in model.named_modules():
        if name and not any(True for _ in module.children()):
            yield name, module


def _function(name: str, layer: Any, epsilon: float | None) -> dict[str, Array]:
    """Questions, PyTorch's answers, and what size of the numbers added up rounding errors are measured against.

    What adds an `epsilon` to a variance is a norm; all others are activations.
    """
    import torch

    question, size = CURVE[None], np.abs(CURVE[None])
    if epsilon is not None:
        bias: Any = getattr(layer, "bias", None)
        signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (PROBES, len(layer.weight)))
        question = np.concatenate([np.zeros_like(signs[:1]), signs, signs * np.float32(np.sqrt(epsilon))])
        added = 0 if bias is None else bias.detach().abs().numpy()
        size = np.broadcast_to(layer.weight.detach().abs().numpy() + added, question.shape)
    with torch.inference_mode():
        answer = layer(torch.from_numpy(question)).numpy()
    if epsilon is None:
        size = np.maximum(size, np.abs(answer))  # a square is larger than what it is made of
    return {f"{name}.question": question, f"{name}.answer": answer, f"{name}.size": np.maximum(size, SMALL)}
