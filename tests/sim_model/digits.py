# SPDX-License-Identifier: BSD-2-Clause
"""Activation functions and softmax to 60 digits, and the distance of results from them.

Shares nothing with the model: values, not bit fields; decimal's own exp.
"""

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, setcontext

import numpy as np

from logicpim.spec.functions import Function
from logicpim.spec.isa import Format

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
WAY_OUT = Decimal(10) ** 7  # exp of its negative times any input rounds to zero

setcontext(Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN))

PRECISIONS = {Format.FP16: (11, -14, 15), Format.BF16: (8, -126, 127)}


def values(bits, fmt):
    """float64 values of bit patterns, which it holds exactly."""
    bits = np.asarray(bits)
    with np.errstate(invalid="ignore"):
        if fmt == Format.FP16:
            return bits.astype(np.uint16).view(np.float16).astype(np.float64)
        wide = bits.astype(np.uint32) << (16 if fmt == Format.BF16 else 0)
        return wide.view(np.float32).astype(np.float64)


def sigmoid(u):
    return 1 / (1 + (-u).exp()) if abs(u) < WAY_OUT else Decimal(int(u > 0))


def activation(function, x):
    """f(x) of a finite float."""
    x = Decimal(x)
    if function == Function.SILU:
        return x * sigmoid(x)
    if function == Function.GELU:
        return x * sigmoid(2 * (2 / PI).sqrt() * (x + Decimal("0.044715") * x**3))
    if function == Function.RELU:
        return max(x, Decimal(0))
    x = min(x, Decimal(7))
    return x * sigmoid(Decimal("1.702") * x)


def factor(function, up):
    """What f(x) is multiplied by."""
    up = Decimal(up)
    return 1 + min(max(up, Decimal(-7)), Decimal(7)) if function == Function.SWIGLU else up


def softmax(row, scale):
    """The softmax of a row of finite floats."""
    greatest = max(row)
    parts = [(Decimal(scale) * (Decimal(x) - Decimal(greatest))).exp() for x in row]
    total = sum(parts)
    return [part / total for part in parts]


def ulps(got, exact, fmt):
    """Distance in ulps of the format at ``exact``; an overflow counts as the next power of two."""
    precision, least, most = PRECISIONS[fmt]
    if math.isinf(got):
        got = math.copysign(2.0 ** (most + 1), got)
    if exact == 0:
        exponent = least
    else:
        exponent = max(math.floor(abs(exact).logb() / Decimal(2).log10()) - 1, least)
        while Decimal(2) ** (exponent + 1) <= abs(exact):
            exponent += 1
    return float(abs(Decimal(float(got)) - exact) / Decimal(2) ** (exponent - precision + 1))
