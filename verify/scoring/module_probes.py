"""The reference's modules as questions with answers: what a linear layer makes of an identity matrix, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.subgraph import Cut, entries_of, rows_of
from verify.check import Array, Case

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

SMALL = np.float32(2.0**-14)  # the smallest normal float16: below it, errors are measured against it
PROBES = 8  # rows of random numbers that a norm is asked about, at the scale of 1 and at that of its epsilon
SAMPLED = 16  # of so many inputs of a tied head one is asked about: at least one of every block
STEEP = np.linspace(-10, 10, 4001, dtype=np.float32)
FAR = np.geomspace(10, 100, 41, dtype=np.float32)[1:]  # where few texts come: a clipped or overflowing activation
CURVE = np.concatenate([-FAR[::-1], STEEP, FAR])  # what an activation is asked about


@dataclass(frozen=True)
class Module:
    """A module that holds weights or computes a fixed function of each row.

    `kind` is "linear" (weight [in, out]), "lookup" (weight [entries, width]) or "function" (questions and answers);
    `size` is the first of the weight's axes.
    """

    name: str
    kind: str
    size: int = 0
    weight: str | None = None
    bias: str | None = None
    turned: bool = False  # the weight is stored [out, in]
    tied: bool = False  # the weight is a lookup's table, which that lookup answers for

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
        yield cut.run(np.zeros((1, 1, module.size), np.float32))
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
    for module, layer in _leaves(reference.model):
        kind = layer.__class__.__name__
        weight = named.get(id(getattr(layer, "weight", None)))
        if kind in ("Conv1D", "Linear"):
            size = layer.weight.shape[kind == "Linear"]
            bias = named.get(id(getattr(layer, "bias", None)))
            tied = any(entry.weight == weight for entry in found)
            found.append(Module(module, "linear", size, weight, bias, turned=kind == "Linear", tied=tied))
        elif kind == "Embedding":
            found.append(Module(module, "lookup", len(layer.weight), weight))
        else:
            found.append(Module(module, "function"))
            arrays |= _function(module, layer)
    return Case(name, arrays, {"modules": [vars(entry) for entry in found]})


def _leaves(model: Any) -> Iterator[tuple[str, Any]]:
    """Modules without parts, and without those that do nothing when a model is used."""
    for name, module in model.named_modules():
        if (
            name
            and not any(True for _ in module.children())
            and module.__class__.__name__ not in ("Dropout", "Identity")
        ):
            yield name, module


def _function(name: str, layer: Any) -> dict[str, Array]:
    """Questions, PyTorch's answers, and what size of the numbers added up rounding errors are measured against."""
    import torch

    weight = getattr(layer, "weight", None)
    if weight is None:
        question, size = CURVE[None], np.abs(CURVE[None])
    else:
        signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (PROBES, len(weight)))
        small = np.float32(np.sqrt(layer.eps))
        question = np.concatenate([np.zeros_like(signs[:1]), signs, signs * small])
        bias = 0 if layer.bias is None else layer.bias.detach().abs().numpy()
        size = np.broadcast_to(weight.detach().abs().numpy() + bias, question.shape)
    with torch.inference_mode():
        answer = layer(torch.from_numpy(question)).numpy()
    return {f"{name}.question": question, f"{name}.answer": answer, f"{name}.size": np.maximum(size, SMALL)}
