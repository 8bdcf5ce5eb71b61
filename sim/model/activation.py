# SPDX-License-Identifier: BSD-2-Clause
"""Activation functions on bit patterns, step by step as docs/functions.md has it."""

import numpy as np

from logicpim.spec import functions as spec
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format

from . import functions
from .functions import HIDDEN, SIGNIFICAND_BITS, Number

_ROOM = 4  # bits that a clamped number plus one may have above 24


def activate(function: Function, gate, up=None, *, input_format: Format = Format.FP16,
             output_format: Format = Format.FP16) -> np.ndarray:
    """``f(gate) * up``, or ``f(gate)`` where ``up`` is None: uint16 bit patterns.

    Parameters
    ----------
    function : Function
    gate, up : arrays of bit patterns, of one shape
    input_format : Format
        FP16, BF16 or FP32, of both.
    output_format : Format
        FP16 or BF16.
    """
    if output_format not in functions.OUTPUTS:
        raise ValueError(f"activations are FP16 or BF16, not {output_format!r}")
    x = functions.decode(gate, input_format)
    if function == Function.SWIGLU:
        x = _clamp(x, below=False)
    x = _normalise(x)
    y = _one(x) if up is None else functions.decode(up, input_format)
    if up is not None and function == Function.SWIGLU:
        y = _plus_one(_clamp(y, below=True))
    y = _normalise(y)

    if function == Function.RELU:
        vanishes = x.zero | (x.sign == 1) & ~x.nan
        a_sign = np.where(vanishes, 0, x.sign)
        a, b, n = x.significand, y.significand, 0
    else:
        vanishes = x.zero | x.infinite & (x.sign == 1)
        a_sign = x.sign
        m, n, r = _sigmoid(_argument(function, x))
        a = x.significand * r >> spec.RECIPROCAL_FRACTION
        b = np.where(x.sign == 1, y.significand * m >> spec.EXP_FRACTION, y.significand)
        n = np.where(x.sign == 1, n, 0)
    sign = a_sign ^ y.sign
    result = functions.round_to(output_format, sign, np.where(vanishes | y.zero, 0, a * b),
                                x.exponent + y.exponent - n - 2 * (SIGNIFICAND_BITS - 1))
    return _special(result, sign, x, y, vanishes, functions.SHAPES[output_format])


def _special(result, sign, x: Number, y: Number, vanishes, shape):
    """The result where an infinity or a NaN takes part."""
    infinite = x.infinite & ~vanishes | y.infinite
    invalid = x.nan | y.nan | infinite & (vanishes | y.zero)
    result = np.where(infinite, sign << shape.bits - 1 | shape.infinity, result)
    return np.where(invalid, shape.nan, result).astype(np.uint16)


def _one(like: Number) -> Number:
    zero, false = np.zeros_like(like.sign), np.zeros_like(like.nan)
    return Number(zero, zero, zero + HIDDEN, false, false)


def _normalise(x: Number) -> Number:
    """The same values to 24 bits, the highest set but in zero."""
    length = functions.bit_length(x.significand)
    shift = np.where(length == 0, 0, SIGNIFICAND_BITS - length)
    return x._replace(significand=x.significand << _ROOM + shift >> _ROOM,
                      exponent=x.exponent - shift)


def _clamp(x: Number, below: bool) -> Number:
    """Not above 7 and, if ``below``, not below -7; NaN stays."""
    limit, exponent = spec.SWIGLU_LIMIT << SIGNIFICAND_BITS - 3, 2
    beyond = x.infinite | (x.exponent > exponent) | (x.exponent == exponent) & (
        x.significand > limit)
    beyond = beyond & ~x.nan & (below | (x.sign == 0))
    return x._replace(significand=np.where(beyond, limit, x.significand),
                      exponent=np.where(beyond, exponent, x.exponent),
                      infinite=x.infinite & ~beyond)


def _plus_one(x: Number) -> Number:
    """x + 1 in units of 2**-24, for |x| <= 7; what is below is dropped, towards zero in x."""
    units = functions.shift_right(x.significand << 3, np.maximum(2 - x.exponent, 0))
    total = np.where(x.sign == 1, -units, units) + (1 << 24)
    return x._replace(sign=(total < 0).astype(np.int64), significand=abs(total),
                      exponent=np.full_like(total, -1))


def _argument(function: Function, x: Number):
    """t in units of 2**-20, at most 2**29 - 1, such that sigmoid(|x|) = 1 / (1 + 2**-t)."""
    factor = spec.FACTORS[function]
    if function == Function.GELU:
        square = x.significand * x.significand >> SIGNIFICAND_BITS
        # square * 2 ** (2 * exponent - 22), times cubic * 2**-25, in units of 2**-22.
        cubic = square * spec.GELU_CUBIC_FIXED
        factor = factor + functions.shift_right(cubic, np.maximum(25 - 2 * x.exponent, 17))
    shift = 25 - x.exponent
    t = functions.shift_right(x.significand * factor, np.maximum(shift, 17))
    most = (1 << spec.ARGUMENT_BITS) - 1
    return np.where(shift < 17, most, np.minimum(t, most))


def _sigmoid(t):
    """(m, n, r): 2**-t is ``m * 2 ** (-n - 20)`` and 1 / (1 + 2**-t) is ``r * 2**-22``."""
    m, n = functions.exp2_negative(t)
    q = functions.shift_right(m << spec.RECIPROCAL_ARGUMENT - spec.EXP_FRACTION, n)
    return m, n, functions.reciprocal(np.minimum(q, (1 << spec.RECIPROCAL_ARGUMENT) - 1))
