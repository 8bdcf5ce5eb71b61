# SPDX-License-Identifier: BSD-2-Clause
"""The arithmetic that activation and softmax share, on integers, as docs/functions.md has it.

Every function takes and returns numpy arrays (or scalars) of int64 or of bit patterns.
"""

from typing import NamedTuple

import numpy as np

from logicpim.spec import functions as spec
from logicpim.spec.isa import Format

SIGNIFICAND_BITS = 24
"""Of a decoded input."""
HIDDEN = 1 << SIGNIFICAND_BITS - 1


class Shape(NamedTuple):
    """A binary floating-point format."""

    bits: int
    precision: int
    least_exponent: int

    @property
    def infinity(self) -> int:
        return (1 << self.bits - 1) - (1 << self.precision - 1)

    @property
    def nan(self) -> int:
        """The one NaN of results: positive, quiet."""
        return self.infinity | 1 << self.precision - 2


SHAPES = {Format.FP16: Shape(16, 11, -14), Format.BF16: Shape(16, 8, -126),
          Format.FP32: Shape(32, 24, -126)}
OUTPUTS = Format.FP16, Format.BF16


class Number(NamedTuple):
    """Decoded inputs, as int64 and bool arrays of one shape.

    A finite one is ``(-1) ** sign * significand * 2 ** (exponent - 23)``. The exponent of zero
    and of subnormals is the format's least. Infinity and NaN have no significand to speak of.
    """

    sign: np.ndarray
    exponent: np.ndarray
    significand: np.ndarray
    infinite: np.ndarray
    nan: np.ndarray

    @property
    def zero(self):
        return (self.significand == 0) & ~self.infinite & ~self.nan


def integers(bits, fmt: Format) -> np.ndarray:
    """Bit patterns of a format as int64."""
    return np.asarray(bits, np.dtype(f"u{SHAPES[fmt].bits // 8}")).astype(np.int64)


def decode(bits, fmt: Format) -> Number:
    """What bit patterns stand for; subnormals stay as they are."""
    shape, bits = SHAPES[fmt], integers(bits, fmt)
    sign, magnitude = bits >> shape.bits - 1, bits & (1 << shape.bits - 1) - 1
    field = magnitude >> shape.precision - 1
    fraction = magnitude & (1 << shape.precision - 1) - 1
    significand = (fraction | (field > 0).astype(np.int64) << shape.precision - 1) \
        << SIGNIFICAND_BITS - shape.precision
    return Number(sign, np.maximum(field, 1) + shape.least_exponent - 1, significand,
                  magnitude == shape.infinity, magnitude > shape.infinity)


def bit_length(value):
    """Number of bits of non-negative integers below 2**53."""
    return np.frexp(np.asarray(value, np.int64).astype(np.float64))[1].astype(np.int64)


def shift_right(value, amount):
    """``value >> amount`` for any amount >= 0."""
    return np.asarray(value) >> np.minimum(amount, 63)


def evaluate(table: spec.Quadratic, x):
    """The rule of :class:`~logicpim.spec.functions.Quadratic`."""
    c0, c1, c2 = np.array(table.table, np.int64).T
    i, d = x >> table.offset_bits, x & (1 << table.offset_bits) - 1
    e = d >> table.offset_bits - table.square_bits
    h = c1[i] + table.sign * (c2[i] * e >> table.square_bits)
    return c0[i] + table.sign * (h * d >> table.offset_bits) >> 2


def exp2_negative(t):
    """(m, n) such that 2**-t is ``m * 2 ** (-n - 20)``, m in 2**20 .. 2**21 - 1.

    t is in units of 2**-20, below 2**29.
    """
    g = -t & (1 << spec.ARGUMENT_FRACTION) - 1
    return evaluate(spec.exp2_table(), g), t + g >> spec.ARGUMENT_FRACTION


def reciprocal(q):
    """1 / (1 + q) in units of 2**-22, in 2**21 .. 2**22; q in units of 2**-22, below 1."""
    return evaluate(spec.reciprocal_table(), q)


def round_to(fmt: Format, sign, value, exponent):
    """Bits of ``(-1) ** sign * value * 2 ** exponent``, rounded once, to nearest even.

    ``value`` is an integer below 2**53. Subnormals are kept, overflow gives infinity, and what
    is zero or rounds to zero keeps its sign.
    """
    shape = SHAPES[fmt]
    value = np.asarray(value, np.int64)
    least = shape.least_exponent - shape.precision + 1
    unit = np.maximum(exponent + bit_length(value) - shape.precision, least)
    shift = unit - exponent
    down = np.clip(shift, 0, 62)
    half = shift_right(1 << down, 1)
    kept = value >> down
    lost = value - (kept << down)
    kept = kept + ((lost > half) | (lost == half) & (down > 0) & (kept & 1 == 1))
    kept = kept << np.clip(-shift, 0, shape.precision)
    magnitude = (np.where(value == 0, 0, unit - least) << shape.precision - 1) + kept
    magnitude = np.minimum(magnitude, shape.infinity)
    return (magnitude | np.asarray(sign, np.int64) << shape.bits - 1).astype(f"u{shape.bits // 8}")
