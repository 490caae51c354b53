"""Cosine and sine in operators that every device computes alike.

A graphics processor's own are quick and rough: WGSL promises 2^-11 within one turn and nothing beyond it. These are
off by 2e-7 up to 8,192 radians and by 3e-6 up to 131,072: the angle is brought to within a quarter turn of a multiple
of pi, which is subtracted in three parts (Cody and Waite), so that the products with the first are exact; there
Taylor's polynomials do. Both are evaluated by the same nodes, side by side on an axis in front.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from model.builder import Builder

PI = (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7)  # their sum; the first two have few digits
DEGREE = 6  # of the polynomials of the angle's square: the next term is below 1e-9
# Of sin(r) / r and of cos(r), lowest first.
COEFFICIENTS = [[(-1) ** n / math.factorial(2 * n + odd) for odd in (1, 0)] for n in range(DEGREE + 1)]


def of_positions(
    graph: Builder, positions: ir.Value, frequencies: np.ndarray[Any, np.dtype[np.float32]], scale: float
) -> list[ir.Value]:
    """Return scaled cosines and sines of int64 [batch, sequence] positions: float32 [batch, 1, sequence, pairs]."""
    places = graph.op("Cast", [positions], "places", {"to": ir.DataType.FLOAT})
    column = graph.op("Unsqueeze", [places, graph.vector("axes_1_3", 1, 3)], "places.column")
    angles = graph.op("Mul", [column, graph.constant("frequencies", frequencies)], "angles")
    both = cosine_and_sine(graph, angles)
    if scale == 1:
        return list(both)
    factor = graph.constant("rotation_scale", np.array(scale, np.float32))
    return [graph.op("Mul", [one, factor], f"{one.name}.scaled") for one in both]


def cosine_and_sine(graph: Builder, angles: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return both of float32 angles of four axes, as the values `cosine` and `sine`."""

    def number(value: float) -> ir.Value:
        return graph.constant(f"circle.{value:.9g}", np.array(value, np.float32))

    halves = graph.op("Round", [graph.op("Mul", [angles, number(1 / math.pi)], "angles.by_pi")], "angles.half_turns")
    rest = angles
    for place, part in enumerate(PI):
        off = graph.op("Mul", [halves, number(part)], f"angles.off.{place}")
        rest = graph.op("Sub", [rest, off], f"angles.rest.{place}")
    square = graph.op("Mul", [rest, rest], "angles.square")
    sums = _coefficients(graph, DEGREE)
    for power in reversed(range(DEGREE)):
        product = graph.op("Mul", [sums, square], f"circle.product.{power}")
        sums = graph.op("Add", [product, _coefficients(graph, power)], f"circle.sum.{power}")
    # After an odd number of half turns both have the other sign: 1 - 4 (k / 2 - floor(k / 2)).
    half = graph.op("Mul", [halves, number(0.5)], "angles.turns")
    odd = graph.op("Sub", [half, graph.op("Floor", [half], "angles.whole_turns")], "angles.odd")
    sign = graph.op("Sub", [number(1), graph.op("Mul", [odd, number(4)], "angles.twice_odd")], "angles.sign")
    ratio = graph.op("Gather", [sums, graph.scalar("zero", 0)], "circle.ratio", {"axis": 0})
    even = graph.op("Gather", [sums, graph.scalar("one", 1)], "circle.even", {"axis": 0})
    signed = graph.op("Mul", [rest, sign], "angles.signed")
    return graph.op("Mul", [even, sign], "cosine"), graph.op("Mul", [ratio, signed], "sine")


def _coefficients(graph: Builder, power: int) -> ir.Value:
    values = np.array(COEFFICIENTS[power], np.float32).reshape(2, 1, 1, 1, 1)
    return graph.constant(f"circle.coefficients.{power}", values)
