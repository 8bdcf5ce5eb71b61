# SPDX-License-Identifier: BSD-2-Clause
"""docs/functions.md written once more, in Python's integers, from its text alone."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from logicpim.sim.model.activation import activate
from logicpim.sim.model.softmax import softmax
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format

TEXT = (Path(__file__).parents[2] / "docs" / "functions.md").read_text()
FORMATS = {Format.FP16: (5, 10), Format.BF16: (8, 7), Format.FP32: (8, 23)}
OUTPUTS = Format.FP16, Format.BF16
INF, NAN = "inf", "nan"


def table(function, segments, units, added):
    with localcontext() as context:
        context.prec = 60
        root = Fraction(Decimal(3).sqrt()) / 4
        rows = []
        for i in range(segments):
            x = [Fraction(1, 2) - root, Fraction(1, 2), Fraction(1, 2) + root]
            y = [function((i + t) / segments) * units for t in x]
            c2 = ((y[2] - y[1]) / (x[2] - x[1]) - (y[1] - y[0]) / (x[1] - x[0])) / (x[2] - x[0])
            c1 = (y[1] - y[0]) / (x[1] - x[0]) - c2 * (x[0] + x[1])
            c0 = y[0] - c1 * x[0] - c2 * x[0] ** 2 if i else units
            rows.append([math.floor(abs(c) + Fraction(1, 2)) for c in (c0 + added, c1, c2)])
    return rows


def power(x):
    return Fraction(Decimal(2) ** (Decimal(x.numerator) / Decimal(x.denominator)))


EXP2 = table(power, 32, 1 << 22, Fraction(11, 4))
RECIPROCAL = table(lambda q: 1 / (1 + q), 64, 1 << 24, Fraction(7, 4))


def exp2(g):
    c0, c1, c2 = EXP2[g >> 15]
    d = g & 0x7FFF
    return c0 + ((c1 + (c2 * (d >> 5) >> 10)) * d >> 15) >> 2


def reciprocal(q):
    c0, c1, c2 = RECIPROCAL[q >> 16]
    d = q & 0xFFFF
    return c0 - ((c1 - (c2 * (d >> 4) >> 12)) * d >> 16) >> 2


def power_of_minus(t):
    g = -t % 2**20
    return exp2(g), t + g >> 20


def decode(bits, fmt):
    """(sign, s, e), with "inf" or "nan" for s."""
    exponent_bits, fraction_bits = FORMATS[fmt]
    bits, fraction = divmod(bits, 1 << fraction_bits)
    sign, field = divmod(bits, 1 << exponent_bits)
    if field == (1 << exponent_bits) - 1:
        return sign, (NAN if fraction else INF), 0
    s = (fraction + (1 << fraction_bits if field else 0)) << 23 - fraction_bits
    return sign, s, max(field, 1) - (1 << exponent_bits - 1) + 1


def normalised(s, e):
    while s < 1 << 23 and s:
        s, e = 2 * s, e - 1
    while s >= 1 << 24:
        s, e = s >> 1, e + 1
    return s, e


def rounded(fmt, sign, value):
    exponent_bits, fraction_bits = FORMATS[fmt]
    least = 2 - (1 << exponent_bits - 1)
    infinity = (1 << exponent_bits) - 1 << fraction_bits
    if value == NAN:
        return infinity + (1 << fraction_bits - 1)
    bits = infinity
    if value != INF:
        top = value.numerator.bit_length() - value.denominator.bit_length()
        top -= Fraction(2) ** top > value
        exponent = max(top, least) if value else least
        units = round(value / Fraction(2) ** (exponent - fraction_bits))
        bits = min((exponent - least << fraction_bits) + units, infinity)
    return (sign << exponent_bits + fraction_bits) + bits


def clamped(sign, s, e, below):
    if s != NAN and (below or not sign) and (s == INF or s * 2.0**(e - 23) > 7):
        return sign, 7 << 21, 2
    return sign, s, e


def activation(function, x_bits, y_bits, source, result):
    sign, s, e = decode(x_bits, source)
    y_sign, y, y_e = (0, 1 << 23, 0) if y_bits is None else decode(y_bits, source)
    if function == Function.SWIGLU:
        sign, s, e = clamped(sign, s, e, False)
        if y_bits is not None:
            y_sign, y, y_e = clamped(y_sign, y, y_e, True)
            if y != NAN:
                y = (1 << 24) + (-1) ** y_sign * math.floor(y * Fraction(2) ** (y_e + 1))
                y_sign, y, y_e = int(y < 0), abs(y), -1
    if NAN in (s, y):
        return rounded(result, 0, NAN)
    relu = function == Function.RELU
    if relu and sign or s == INF and sign:
        s, sign = 0, sign and not relu
    if INF in (s, y):
        return rounded(result, 0, NAN) if 0 in (s, y) else rounded(result, sign ^ y_sign, INF)
    if 0 in (s, y):
        return rounded(result, sign ^ y_sign, Fraction(0))
    (s, e), (y, y_e) = normalised(s, e), normalised(y, y_e)
    a, b, n = s, y, 0
    if not relu:
        factor = {Function.SILU: 6051102, Function.SWIGLU: 10298975}.get(function) or \
            9656161 + ((s * s >> 24) * 3454202 >> max(25 - 2 * e, 17))
        t = 2**29 - 1 if e > 8 else min(s * factor >> 25 - e, 2**29 - 1)
        m, n = power_of_minus(t)
        a = s * reciprocal(min(4 * m >> n, 2**22 - 1)) >> 22
        b, n = (y * m >> 20, n) if sign else (y, 0)
    return rounded(result, sign ^ y_sign, a * b * Fraction(2) ** (e + y_e - n - 46))


def soft(row, scale, source, result):
    numbers = [decode(bits, source) for bits in row]
    if any(s == NAN or s == INF and not sign for sign, s, e in numbers):
        return [rounded(result, 0, NAN)] * len(row)
    finite = [x for x in numbers if x[1] != INF]
    if not finite:
        return [0] * len(row)
    g_sign, g, g_e = max(finite, key=lambda x: (-1) ** x[0] * Fraction(x[1]) * 2 ** (x[2] + 200))
    _, scale_s, scale_e = decode(int(np.float32(scale).view(np.uint32)), Format.FP32)
    c = scale_s * 12102203 + 2**24 >> 25
    powers = []
    for sign, s, e in numbers:
        if s == INF:
            powers.append(None)
            continue
        same = sign == g_sign
        leads = sign if same else e > g_e
        lead, follow, top = (s, g, e) if leads else (g, s, g_e)
        follow = follow << 2 >> abs(e - g_e)
        difference = (lead << 2) - follow if same else (lead << 2) + follow
        zeros = 27 - difference.bit_length()
        shift = 21 + zeros - top - scale_e
        t = 0
        if difference:
            t = 2**29 - 1 if shift < 14 else min((difference << zeros >> 5) * c >> shift, 2**29 - 1)
        powers.append(power_of_minus(t))
    total = sum(m << 20 >> n for m, n in filter(None, powers))
    p = total.bit_length() - 41
    r = reciprocal((total << 22 >> p + 40) - 2**22)
    return [rounded(result, 0, p_[0] * r * Fraction(2) ** (-p_[1] - p - 42)) if p_ else 0
            for p_ in powers]


def any_bits(rng, fmt, count):
    bits = rng.integers(0, 1 << sum(FORMATS[fmt]) + 1, count)
    moderate = rng.normal(0, 4, count).astype(np.float32)
    wide = moderate.view(np.uint32)
    if fmt == Format.FP16:
        wide = moderate.astype(np.float16).view(np.uint16)
    elif fmt == Format.BF16:
        wide = wide >> 16
    bits = np.where(rng.random(count) < 0.6, wide, bits)
    return bits.astype(np.uint32 if fmt == Format.FP32 else np.uint16)


@pytest.mark.parametrize("result", OUTPUTS, ids=lambda f: f.name)
@pytest.mark.parametrize("source", FORMATS, ids=lambda f: f.name)
def test_activation(source, result, seed):
    rng = np.random.default_rng(seed)
    for function in Function:
        x, y = any_bits(rng, source, 200), any_bits(rng, source, 200)
        for up in (None, y):
            got = activate(function, x, up, input_format=source, output_format=result)
            want = [activation(function, int(a), None if up is None else int(b), source, result)
                    for a, b in zip(x, y, strict=True)]
            assert list(got) == want


@pytest.mark.parametrize("result", OUTPUTS, ids=lambda f: f.name)
@pytest.mark.parametrize("source", FORMATS, ids=lambda f: f.name)
def test_softmax(source, result, seed):
    rng = np.random.default_rng(seed)
    for scale in (1.0, 128**-0.5, 1e-30, 0.0, 1e20):
        scale = float(np.float32(scale))
        for _ in range(8):
            row = any_bits(rng, source, 25)
            if rng.random() < 0.8:
                special = [decode(int(b), source) for b in row]
                row = row[[s != NAN and (s != INF or sign) for sign, s, _ in special]]
            got = softmax(row[None], scale=scale, input_format=source, output_format=result)[0]
            assert list(got) == soft([int(b) for b in row], scale, source, result)


def test_rows_in_text():
    for rows in (EXP2, RECIPROCAL):
        for row in (rows[0], rows[-1]):
            assert ", ".join(map(str, row)) in TEXT
