# SPDX-License-Identifier: BSD-2-Clause
"""Constants and tables of the activation and softmax modules, made by exact integer arithmetic.

Hardware and golden model read them here; docs/functions.md says how they are used.
"""

import enum
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache


class Function(enum.IntEnum):
    """Activation functions; each plain, ``f(x)``, or gated, ``f(x) * up``."""

    SILU = 0    # x * sigmoid(x)
    GELU = 1    # x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3)), the tanh form
    RELU = 2    # max(x, 0)
    SWIGLU = 3  # x' * sigmoid(1.702 * x'), x' = min(x, 7); up counts as clamp(up, -7, 7) + 1


SWIGLU_LIMIT = 7

ARGUMENT_FRACTION = 20
"""Fraction bits of an exponent argument t, of which 2**-t is taken."""
ARGUMENT_BITS = 29
"""Bits of t: below 512. A greater one makes 2**-t vanish."""
EXP_FRACTION = 20
"""Fraction bits of the significand of 2**-t."""
RECIPROCAL_ARGUMENT = 22
"""Fraction bits of q, of which 1 / (1 + q) is taken."""
RECIPROCAL_FRACTION = 22
"""Fraction bits of 1 / (1 + q)."""
FACTOR_FRACTION = 22
"""Fraction bits of the factors that turn x into an argument."""
SUM_FRACTION = 40
"""Fraction bits of a softmax row's sum."""
MAX_ROW = (1 << 24) - 1
"""Elements of the longest softmax row: its sum is below 2**64 units."""

_PRECISION = 160


def _exp(x: Fraction) -> Fraction:
    """e**x for |x| <= 1, to more than 40 digits."""
    total, term, k = 0, 1 << _PRECISION, 0
    while term:
        total += term
        k += 1
        term = term * x.numerator // (x.denominator * k)
    return Fraction(total, 1 << _PRECISION)


def _arctan_inverse(n: int) -> int:
    """arctan(1 / n) in units of 2**-160."""
    power, total, k = (1 << _PRECISION) // n, 0, 1
    while power:
        total += power // k if k % 4 == 1 else -(power // k)
        power //= n * n
        k += 2
    return total


LN2 = Fraction(sum((1 << _PRECISION) // (k << k) for k in range(1, _PRECISION)), 1 << _PRECISION)
PI = Fraction(4 * (4 * _arctan_inverse(5) - _arctan_inverse(239)), 1 << _PRECISION)
LOG2E = 1 / LN2
_SQRT_2_OVER_PI = Fraction(math.isqrt((2 << 2 * _PRECISION) * PI.denominator // PI.numerator),
                           1 << _PRECISION)
GELU_LINEAR = 2 * _SQRT_2_OVER_PI * LOG2E
"""Of x in the argument of GELU's sigmoid, to the base 2."""
GELU_CUBIC = GELU_LINEAR * Fraction(44715, 1000000)
"""Of x**3, likewise."""


def fixed(value: Fraction, fraction_bits: int) -> int:
    """``value`` in units of ``2**-fraction_bits``, to nearest."""
    return math.floor(value * (1 << fraction_bits) + Fraction(1, 2))


FACTORS = {
    Function.SILU: fixed(LOG2E, FACTOR_FRACTION),
    Function.GELU: fixed(GELU_LINEAR, FACTOR_FRACTION),
    Function.RELU: 0,
    Function.SWIGLU: fixed(Fraction(1702, 1000) * LOG2E, FACTOR_FRACTION),
}
"""The argument is x times this, but for GELU, which adds GELU_CUBIC * x**2 to it."""
GELU_CUBIC_FIXED = fixed(GELU_CUBIC, 25)
"""22 bits with the leading one on top."""
LOG2E_FIXED = fixed(LOG2E, 23)
"""24 bits."""


@dataclass(frozen=True)
class Quadratic:
    """A function on [0, 1) as a parabola on each of ``2**index_bits`` equal segments.

    For an argument x of ``argument_bits`` fraction bits, i its top ``index_bits``, d the rest
    and e the top ``square_bits`` of d::

        h = c1[i] + sign * (c2[i] * e >> square_bits)
        value = c0[i] + sign * (h * d >> len(d)) >> 2

    in units of ``2**-fraction``. Nothing is negative; c0 holds what makes the shifts, which round
    down, a rounding to nearest on average.
    """

    name: str
    argument_bits: int
    index_bits: int
    square_bits: int
    fraction: int
    sign: int
    table: tuple[tuple[int, int, int], ...]

    @property
    def offset_bits(self) -> int:
        """Bits of d."""
        return self.argument_bits - self.index_bits


def _quadratic(function, sign, *, name, argument_bits, index_bits, square_bits, fraction):
    """Parabolas through ``function``, 1 at 0, at the three Chebyshev nodes of each segment."""
    spread = Fraction(math.isqrt(3 << 62), 1 << 33)  # sqrt(3) / 4
    middle = Fraction(1, 2)
    unit = 1 << fraction + 2
    table = []
    for i in range(1 << index_bits):
        below, at, above = (function((i + node) / (1 << index_bits)) * unit
                            for node in (middle - spread, middle, middle + spread))
        c2 = (above - 2 * at + below) / (2 * spread**2)
        c1 = (above - below) / (2 * spread) - 2 * c2 * middle
        c0 = at - c1 * middle - c2 * middle**2 if i else unit
        lost = Fraction(1, 2) + Fraction(sign, 4)  # by the two shifts inside, on average
        table.append((fixed(c0 + sign * lost + 2, 0), fixed(sign * c1, 0), fixed(c2, 0)))
    return Quadratic(name, argument_bits, index_bits, square_bits, fraction, sign, tuple(table))


@cache
def exp2_table() -> Quadratic:
    """2**g, for g of ARGUMENT_FRACTION bits."""
    return _quadratic(lambda g: _exp(g * LN2), 1, name="exp2", argument_bits=ARGUMENT_FRACTION,
                      index_bits=5, square_bits=10, fraction=EXP_FRACTION)


@cache
def reciprocal_table() -> Quadratic:
    """1 / (1 + q), for q of RECIPROCAL_ARGUMENT bits."""
    return _quadratic(lambda q: 1 / (1 + q), -1, name="reciprocal",
                      argument_bits=RECIPROCAL_ARGUMENT, index_bits=6, square_bits=12,
                      fraction=RECIPROCAL_FRACTION)
