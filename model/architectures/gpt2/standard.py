"""GPT-2 with ONNX's own operators only, for runtimes that have no others: every activation is spelt out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import onnx_ir as ir

from model.architecture import GraphSource
from model.builder import Builder

from .graph import GPT2


@dataclass(frozen=True)
class Formula:
    """Write an activation as nodes: `last` bears its name, those before it are numbered below that."""

    graph: Builder
    name: str
    weights: Mapping[str, ir.TensorProtocol]
    numbers: count[int] = field(default_factory=lambda: count(1))

    def __call__(self, operator: str, *inputs: ir.Value | float, **attributes: float) -> ir.Value:
        """Return a node's value; a number among the inputs is a float32 constant that all layers share."""
        return self._op(f"{self.name}.{next(self.numbers)}", operator, inputs, attributes)

    def last(self, operator: str, *inputs: ir.Value | float, **attributes: float) -> ir.Value:
        """Return the value of the activation."""
        return self._op(self.name, operator, inputs, attributes)

    def weight(self) -> ir.Value:
        """Return what the activation has learnt."""
        name = f"{self.name}.weight"
        return self.graph.tensor(name, self.weights[name])

    def _op(
        self, name: str, operator: str, inputs: tuple[ir.Value | float, ...], attributes: Mapping[str, float]
    ) -> ir.Value:
        values = [value if isinstance(value, ir.Value) else self._number(value) for value in inputs]
        return self.graph.op(operator, values, name, attributes)

    def _number(self, value: float) -> ir.Value:
        return self.graph.constant(f"number_{value:.9g}", np.array(value, np.float32))


def tanh_gelu(f: Formula, x: ir.Value) -> ir.Value:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in the order that onnxruntime's optimizer knows as FastGelu."""
    inner = f("Mul", f("Add", x, f("Mul", f("Pow", x, 3.0), 0.044715)), math.sqrt(2 / math.pi))
    return f.last("Mul", f("Mul", x, 0.5), f("Add", f("Tanh", inner), 1.0))


def gelu(f: Formula, x: ir.Value) -> ir.Value:
    """0.5 x (1 + erf(x / sqrt(2))), in the order that onnxruntime's optimizer knows as Gelu."""
    return f.last("Mul", _twice_gelu(f, x), 0.5)


def gelu_10(f: Formula, x: ir.Value) -> ir.Value:
    """The exact GELU within -10 and 10."""
    return f.last("Clip", f("Mul", _twice_gelu(f, x), 0.5), -10.0, 10.0)


def laplace(f: Formula, x: ir.Value) -> ir.Value:
    """0.5 (1 + erf((x - 0.707107) / (0.282095 sqrt(2)))): the constants of transformers' LaplaceActivation."""
    inner = f("Div", f("Sub", x, 0.707107), 0.282095 * math.sqrt(2))
    return f.last("Mul", f("Add", f("Erf", inner), 1.0), 0.5)


def sigmoid_times(factor: float) -> Callable[[Formula, ir.Value], ir.Value]:
    """X sigmoid(factor x): SiLU for 1, transformers' QuickGELU for 1.702."""

    def written(f: Formula, x: ir.Value) -> ir.Value:
        return f.last("Mul", x, f("Sigmoid", x if factor == 1 else f("Mul", x, factor)))

    return written


def plain(operator: str, *inputs: float, **attributes: float) -> Callable[[Formula, ir.Value], ir.Value]:
    """One operator of ONNX, with numbers and attributes."""
    return lambda f, x: f.last(operator, x, *inputs, **attributes)


def relu2(f: Formula, x: ir.Value) -> ir.Value:
    """The square of max(x, 0)."""
    kept = f("Relu", x)
    return f.last("Mul", kept, kept)


FORMULAS: Mapping[str, Callable[[Formula, ir.Value], ir.Value]] = {
    **dict.fromkeys(("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"), tanh_gelu),
    **dict.fromkeys(("gelu", "gelu_python"), gelu),
    "gelu_10": gelu_10,
    "hardswish": lambda f, x: f.last("Mul", x, f("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    "laplace": laplace,
    "leaky_relu": plain("LeakyRelu", alpha=0.01),
    "linear": plain("Identity"),
    "mish": lambda f, x: f.last("Mul", x, f("Tanh", f("Softplus", x))),
    "prelu": lambda f, x: f.last("PRelu", x, f.weight()),
    "quick_gelu": sigmoid_times(1.702),
    **dict.fromkeys(("silu", "swish"), sigmoid_times(1)),
    "relu": plain("Relu"),
    "relu2": relu2,
    "relu6": plain("Clip", 0.0, 6.0),
    "sigmoid": plain("Sigmoid"),
    "sqrtsoftplus": lambda f, x: f.last("Sqrt", f("Softplus", x)),
    "tanh": plain("Tanh"),
}


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    weights = source.weights()
    formula = FORMULAS[source.config.get("activation_function", "gelu_new")]

    def activation(graph: Builder, value: ir.Value, name: str) -> ir.Value:
        return formula(Formula(graph, name, weights), value)

    return GPT2(source.config, weights, source.dims, activation).model()


def _twice_gelu(f: Formula, x: ir.Value) -> ir.Value:
    return f("Mul", x, f("Add", f("Erf", f("Div", x, math.sqrt(2))), 1.0))
