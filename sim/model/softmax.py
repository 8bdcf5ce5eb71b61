# SPDX-License-Identifier: BSD-2-Clause
"""Softmax on bit patterns, in three passes over a row, step by step as docs/functions.md has it."""

from dataclasses import dataclass

import numpy as np

from logicpim.spec import functions as spec
from logicpim.spec.isa import Format

from . import functions
from .functions import SIGNIFICAND_BITS, Number

_GUARD = 2  # bits below the significand when two inputs are subtracted
_KEPT = 22  # bits of a difference that are multiplied
_LENGTH = SIGNIFICAND_BITS + _GUARD + 1


def softmax(scores, *, scale, length=None, causal: bool = False,
            input_format: Format = Format.FP16,
            output_format: Format = Format.FP16) -> np.ndarray:
    """``softmax(scale * scores)`` along rows of a matrix: uint16 bit patterns.

    Parameters
    ----------
    scores : array [rows, n] of bit patterns
    scale : float
        Binary32, zero or normal, not negative.
    length : int, default n
        Elements that count; later ones give +0.
    causal : bool
        Row r has r elements more that count.
    input_format : Format
        FP16, BF16 or FP32.
    output_format : Format
        FP16 or BF16.
    """
    rows = [Row(scale, input_format, output_format) for _ in range(len(scores))]
    width = len(scores[0])
    length = width if length is None else length
    return np.array([row.all(scores[r], min(length + r * causal, width))
                     for r, row in enumerate(rows)], np.uint16)


@dataclass
class Row:
    """The state of one row between passes, so that a row may come in pieces.

    Every piece goes through :meth:`maximum`, then every piece through :meth:`add`, then through
    :meth:`normalise`. Neither the cut into pieces nor their order changes a bit.
    """

    scale: float
    input_format: Format = Format.FP16
    output_format: Format = Format.FP16
    greatest: int | None = None
    """Key of the greatest element so far, see :func:`keys`."""
    total: int = 0
    """Sum of ``exp(scale * (x - greatest))`` in units of 2**-40."""

    def __post_init__(self):
        if self.output_format not in functions.OUTPUTS:
            raise ValueError(f"softmax gives FP16 or BF16, not {self.output_format!r}")
        factor(self.scale)

    def all(self, bits, length: int) -> np.ndarray:
        """A whole row, or its only piece."""
        self.maximum(bits, length)
        self.add(bits, length)
        return self.normalise(bits, length)

    def maximum(self, bits, length: int) -> None:
        """First pass: the greatest element."""
        found = keys(bits[:length], self.input_format).max(initial=0)
        self.greatest = max(int(found), self.greatest or 0)

    def add(self, bits, length: int) -> None:
        """Second pass: the sum."""
        m, n, zero = self._exp(bits[:length])
        shifted = functions.shift_right(m << spec.SUM_FRACTION - spec.EXP_FRACTION, n)
        self.total += int(np.where(zero, 0, shifted).astype(np.uint64).sum(dtype=np.uint64))

    def normalise(self, bits, length: int) -> np.ndarray:
        """Third pass: the results of a piece."""
        shape = functions.SHAPES[self.output_format]
        result = np.zeros(len(bits), np.uint16)
        if self._invalid:
            result[:length] = shape.nan
            return result
        m, n, zero = self._exp(bits[:length])
        top = max(self.total, 1 << spec.SUM_FRACTION).bit_length() - 1
        q = (self.total << spec.RECIPROCAL_ARGUMENT >> top) & (1 << spec.RECIPROCAL_ARGUMENT) - 1
        product = m * functions.reciprocal(np.int64(q))
        exponent = -n - (top - spec.SUM_FRACTION) - spec.EXP_FRACTION - spec.RECIPROCAL_FRACTION
        result[:length] = functions.round_to(self.output_format, 0, np.where(zero, 0, product),
                                             exponent)
        return result

    @property
    def _invalid(self) -> bool:
        """NaN or +infinity among the elements."""
        shape = functions.SHAPES[self.input_format]
        return self.greatest >= shape.infinity + (1 << shape.bits - 1)

    def _exp(self, bits):
        """(m, n, zero): exp(scale * (x - greatest)) is ``m * 2 ** (-n - 20)``, or 0."""
        x = functions.decode(bits, self.input_format)
        greatest = functions.decode(unkey(self.greatest, self.input_format), self.input_format)
        m, n = functions.exp2_negative(_argument(greatest, x, *factor(self.scale)))
        return m, n, x.infinite


def keys(bits, fmt: Format) -> np.ndarray:
    """Integers in the order of the numbers; -infinity is least of all, any NaN greatest."""
    shape, bits = functions.SHAPES[fmt], functions.integers(bits, fmt)
    sign = 1 << shape.bits - 1
    key = np.where(bits & sign, 2 * sign - 1 - bits, bits | sign)
    return np.where(bits & sign - 1 > shape.infinity, 2 * sign - 1, key)


def unkey(key: int, fmt: Format) -> int:
    """Bits of the number of that key; of -infinity for one below all keys."""
    sign = 1 << functions.SHAPES[fmt].bits - 1
    least = 2 * sign - 1 - (sign | functions.SHAPES[fmt].infinity)
    key = max(key, least)
    return key - sign if key & sign else 2 * sign - 1 - key


def factor(scale) -> tuple[int, int]:
    """(c, e): ``scale * log2(e)`` is ``c * 2 ** (e - 21)``, c below 2**23."""
    with np.errstate(over="ignore"):
        single = np.float32(scale)
    number = functions.decode(single.view(np.uint32), Format.FP32)
    if float(single) != scale or number.sign or number.infinite or number.nan \
            or number.exponent == -126 and number.significand < functions.HIDDEN \
            and number.significand:
        raise ValueError(f"a scale is binary32, zero or normal, and not negative: not {scale!r}")
    product = int(number.significand) * spec.LOG2E_FIXED
    return product + (1 << 24) >> 25, int(number.exponent)


def _argument(greatest: Number, x: Number, c: int, e: int):
    """t in units of 2**-20, at most 2**29 - 1: ``scale * log2(e) * (greatest - x)``."""
    same = greatest.sign == x.sign
    x_leads = np.where(same, x.sign == 1, x.exponent > greatest.exponent)
    exponent = np.where(x_leads, x.exponent, greatest.exponent)
    distance = abs(x.exponent - greatest.exponent)
    lead = np.where(x_leads, x.significand, greatest.significand) << _GUARD
    follow = np.where(x_leads, greatest.significand, x.significand) << _GUARD
    follow = functions.shift_right(follow, distance)
    difference = np.where(same, lead - follow, lead + follow)

    zeros = np.where(difference == 0, 0, _LENGTH - functions.bit_length(difference))
    kept = difference << zeros >> _LENGTH - _KEPT
    # kept * 2 ** (exponent - zeros - 20), times c * 2 ** (e - 21), in units of 2**-20.
    shift = 21 + zeros - exponent - e
    t = functions.shift_right(kept * c, np.maximum(shift, 14))
    most = (1 << spec.ARGUMENT_BITS) - 1
    return np.where((shift < 14) & (kept * c > 0), most, np.minimum(t, most))
