# SPDX-License-Identifier: BSD-2-Clause
"""Activation and softmax of the golden model against 60 digits, special values, and pieces."""

import importlib.util
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from logicpim.sim.model import functions
from logicpim.sim.model.activation import activate
from logicpim.sim.model.softmax import Row, factor, softmax
from logicpim.spec import functions as spec
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format

_location = importlib.util.spec_from_file_location("digits", Path(__file__).with_name("digits.py"))
digits = importlib.util.module_from_spec(_location)
_location.loader.exec_module(digits)

OUTPUTS = functions.OUTPUTS
formats = pytest.mark.parametrize("fmt", list(functions.SHAPES), ids=lambda f: f.name)
outputs = pytest.mark.parametrize("output", OUTPUTS, ids=lambda f: f.name)
every_function = pytest.mark.parametrize("function", list(Function), ids=lambda f: f.name)

# What is rounded to infinity: half an ulp above the greatest finite number.
OVERFLOW = {Format.FP16: Decimal(65520), Format.BF16: Decimal(2) ** 128 - Decimal(2) ** 119}


def bits_of(values, fmt):
    """Bit patterns of float64 values, rounded somehow."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, np.float64).astype(np.float32)
        if fmt == Format.FP16:
            return single.astype(np.float16).view(np.uint16)
        wide = single.view(np.uint32)
        return (wide >> 16).astype(np.uint16) if fmt == Format.BF16 else wide


def any_bits(rng, fmt, count):
    return rng.integers(0, 1 << functions.SHAPES[fmt].bits, count, dtype=np.uint64).astype(
        np.uint32 if fmt == Format.FP32 else np.uint16)


def distance(got, exact, fmt):
    """In ulps; 0 where an overflow has become the infinity of its sign."""
    if abs(exact) >= OVERFLOW[fmt]:
        return 0.0 if got == (np.inf if exact > 0 else -np.inf) else np.inf
    return digits.ulps(got, exact, fmt)


# -- the pieces ------------------------------------------------------------------------------

@pytest.mark.parametrize("table, function, error", [
    (spec.exp2_table(), np.exp2, 2**-20.1),
    (spec.reciprocal_table(), lambda q: 1 / (1 + q), 2**-21.1),
], ids=["exp2", "reciprocal"])
def test_tables(table, function, error):
    x = np.arange(1 << table.argument_bits)
    got = functions.evaluate(table, x)
    exact = function(x / 2.0**table.argument_bits) * 2.0**table.fraction
    assert abs(got / exact - 1).max() < error
    assert (np.diff(got) * table.sign >= 0).all()
    one = 1 << table.fraction
    assert got[0] == one
    assert got.max() < 2 * one and got.min() >= (one if table.sign > 0 else one // 2)


def test_constants():
    assert abs(Fraction(digits.PI) - spec.PI) < Fraction(1, 10**45)
    assert abs(Fraction(1 / Decimal(2).ln()) - spec.LOG2E) < Fraction(1, 10**45)
    exact = 2 * (2 / digits.PI).sqrt() / Decimal(2).ln()
    assert abs(Fraction(exact) - spec.GELU_LINEAR) < Fraction(1, 10**45)


def test_exp2_negative():
    t = np.arange(0, 1 << spec.ARGUMENT_BITS, 9973)
    m, n = functions.exp2_negative(t)
    exact = -t / 2.0**spec.ARGUMENT_FRACTION
    assert abs(np.log2(m / 2.0**spec.EXP_FRACTION) - n - exact).max() < 2**-19.6
    assert m.min() >= 1 << spec.EXP_FRACTION and m.max() < 2 << spec.EXP_FRACTION
    assert functions.exp2_negative(0) == (1 << spec.EXP_FRACTION, 0)


@outputs
def test_round_to(output, seed):
    """Against numpy's and ml_dtypes' conversion of binary32."""
    rng = np.random.default_rng(seed)
    bits = any_bits(rng, Format.FP32, 200_000)
    least = 113 if output == Format.FP16 else 1
    bits[::2] = bits[::2] & 0x807FFFFF | rng.integers(least - 20, least + 35, 100_000).clip(
        0, 254).astype(np.uint32) << 23
    bits[1::4] &= 0xFFFFF000
    x = functions.decode(bits, Format.FP32)
    finite = ~(x.infinite | x.nan)
    got = functions.round_to(output, x.sign, x.significand, x.exponent - 23)
    dtype = np.float16 if output == Format.FP16 else ml_dtypes.bfloat16
    with np.errstate(over="ignore", invalid="ignore"):
        want = bits.view(np.float32).astype(dtype).view(np.uint16)
    assert (got == want)[finite].all()


@formats
def test_decode(fmt):
    step = 1 if fmt != Format.FP32 else 65_521
    bits = np.arange(0, 1 << functions.SHAPES[fmt].bits, step, dtype=np.uint64)
    x = functions.decode(bits, fmt)
    exact = digits.values(bits, fmt)
    value = np.ldexp(np.where(x.sign == 1, -1.0, 1.0) * x.significand, x.exponent - 23)
    finite = ~(x.infinite | x.nan)
    assert (value == exact)[finite].all() and (np.signbit(value) == np.signbit(exact))[finite].all()
    assert (x.infinite == np.isinf(exact)).all() and (x.nan == np.isnan(exact)).all()


# -- activation ------------------------------------------------------------------------------

def worst(function, bits, fmt, output):
    x, got = digits.values(bits, fmt), activate(function, bits, input_format=fmt,
                                                output_format=output)
    return max(distance(g, digits.activation(function, float(v)), output)
               for v, g in zip(x, digits.values(got, output), strict=True) if np.isfinite(v))


@every_function
@outputs
@pytest.mark.parametrize("fmt", OUTPUTS, ids=lambda f: f.name)
def test_activation_sampled(function, output, fmt, seed):
    bits = np.random.default_rng(seed).integers(0, 1 << 16, 1500).astype(np.uint16)
    assert worst(function, bits, fmt, output) < 0.5010


@pytest.mark.full
@every_function
@outputs
@pytest.mark.parametrize("fmt", OUTPUTS, ids=lambda f: f.name)
def test_activation_exhaustive(function, output, fmt):
    error = worst(function, np.arange(1 << 16, dtype=np.uint16), fmt, output)
    print(f"{function.name} {fmt.name} to {output.name}: {error:.5f} ulp")
    assert error < 0.5010


@every_function
@outputs
@formats
def test_gated(function, output, fmt, seed):
    """Moderate numbers, huge factors of tiny activations, any patterns."""
    rng, count = np.random.default_rng(seed), 250
    gate = np.concatenate([
        bits_of(rng.normal(0, 1, count) * 10 ** rng.uniform(-3, 1, count), fmt),
        bits_of(-rng.uniform(0, 200, count), fmt), any_bits(rng, fmt, count)])
    up = np.concatenate([
        bits_of(rng.normal(0, 1, count) * 10 ** rng.uniform(-3, 1, count), fmt),
        bits_of(rng.normal(0, 1, count) * 10 ** rng.uniform(0, 38, count), fmt),
        any_bits(rng, fmt, count)])
    x, y = digits.values(gate, fmt), digits.values(up, fmt)
    got = digits.values(activate(function, gate, up, input_format=fmt, output_format=output),
                        output)
    for a, b, g in zip(x, y, got, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            exact = digits.activation(function, float(a)) * digits.factor(function, float(b))
            assert distance(g, exact, output) < 0.53, (a, b)


INF, NAN = float("inf"), float("nan")
SPECIAL = [  # function, gate, up (None: plain), result
    *((f, x, None, x) for f in Function for x in (0.0, -0.0) if f != Function.RELU),
    *((f, NAN, u, NAN) for f in Function for u in (None, 0.0, 1.0, INF)),
    *((f, x, NAN, NAN) for f in Function for x in (0.0, 1.0, -1.0, INF, -INF)),
    *((f, INF, None, INF) for f in Function if f != Function.SWIGLU),
    *((f, -INF, None, -0.0) for f in Function if f != Function.RELU),
    *((f, INF, 0.0, NAN) for f in Function if f != Function.SWIGLU),
    *((f, INF, -2.0, -INF) for f in Function if f != Function.SWIGLU),
    *((f, x, INF, NAN) for f in Function for x in (0.0, -0.0, -INF) if f != Function.SWIGLU),
    *((f, x, -2.0, 0.0) for f in Function for x in (-0.0, -INF) if f in (Function.SILU,
                                                                        Function.GELU)),
    *((f, -60000.0, None, -0.0) for f in (Function.SILU, Function.GELU, Function.SWIGLU)),
    *((f, -60000.0, INF, -INF) for f in (Function.SILU, Function.GELU)),
    *((f, 2.0, INF, INF) for f in Function if f != Function.SWIGLU),
    *((f, 1.0, -0.0, -0.0) for f in Function if f != Function.SWIGLU),
    *((f, 60000.0, 60000.0, INF) for f in Function if f != Function.SWIGLU),
    *((Function.RELU, x, None, 0.0) for x in (0.0, -0.0, -1.0, -INF)),
    *((Function.RELU, x, -1.0, -0.0) for x in (0.0, -0.0, -1.0, -INF)),
    (Function.RELU, -1.0, INF, NAN),
    (Function.SWIGLU, INF, None, 7.0), (Function.SWIGLU, INF, INF, 56.0),
    (Function.SWIGLU, 7.0, 7.0, 56.0), (Function.SWIGLU, 100.0, -100.0, -42.0),
    (Function.SWIGLU, 1.0, -1.0, 0.0), (Function.SWIGLU, -1.0, -1.0, -0.0),
    (Function.SWIGLU, 0.0, INF, 0.0), (Function.SWIGLU, -INF, INF, -0.0),
    (Function.SWIGLU, 0.0, -3.0, -0.0),
]


@outputs
@formats
def test_special_activations(fmt, output):
    for function, gate, up, result in SPECIAL:
        if abs(gate) == 60000.0 and Format.BF16 in (fmt, output) and result == INF:
            continue
        got = activate(function, bits_of([gate], fmt), None if up is None else bits_of([up], fmt),
                       input_format=fmt, output_format=output)
        shape = functions.SHAPES[output]
        want = shape.nan if np.isnan(result) else bits_of([result], output)[0]
        if abs(result) in (7.0, 56.0, 42.0):  # sigmoid(1.702 * 7) is a little less than 1
            assert abs(int(got[0]) - int(want)) <= (1 if output == Format.FP16 else 0)
        else:
            assert got[0] == want, (function, gate, up, hex(got[0]))


def test_activation_refuses():
    with pytest.raises(ValueError, match="FP16 or BF16"):
        activate(Function.SILU, np.zeros(1, np.uint16), output_format=Format.FP32)


# -- softmax ---------------------------------------------------------------------------------

@formats
@outputs
@pytest.mark.parametrize("spread, count, scale", [
    (1, 40, 1.0), (30, 200, 128**-0.5), (3000, 120, 0.0123), (1e-3, 64, 1.0), (50, 60, 1.0),
    (1e-7, 64, 3e5), (2, 1, 1.0),
])
def test_softmax(fmt, output, spread, count, scale, seed):
    rng, scale = np.random.default_rng(seed), float(np.float32(scale))
    row = bits_of(rng.normal(0, spread, count), fmt)
    exact = digits.softmax([float(v) for v in digits.values(row, fmt)], scale)
    got = digits.values(softmax(row[None], scale=scale, input_format=fmt,
                                output_format=output)[0], output)
    assert max(digits.ulps(g, e, output) for g, e in zip(got, exact, strict=True)) < 0.53


@outputs
def test_softmax_far_apart(output):
    """Finite for any finite input: the greatest, the least and the smallest numbers."""
    values = np.array([3.4e38, -3.4e38, 1e-45, 0.0, -0.0, 3.3e38], np.float32)
    for order in (values, values[1:], values[1:5], values[2:5], values[::-1]):
        for scale in (0.0, 2e-38, 3.4e38, 0.088):
            scale = float(np.float32(scale))
            exact = digits.softmax([float(v) for v in order], scale)
            got = digits.values(softmax(order.view(np.uint32)[None], scale=scale,
                                        input_format=Format.FP32, output_format=output)[0], output)
            assert max(digits.ulps(g, e, output)
                       for g, e in zip(got, exact, strict=True)) < 0.53


def test_softmax_exact():
    """Equal elements, a power of two of them: no error at all."""
    row = np.full((1, 256), bits_of([-3.7], Format.FP16)[0], np.uint16)
    assert (softmax(row, scale=1.0) == bits_of([2**-8], Format.FP16)[0]).all()
    assert softmax(row, scale=1.0, length=1)[0, 0] == bits_of([1.0], Format.FP16)[0]


@outputs
@formats
def test_special_rows(fmt, output):
    def run(values, **options):
        return softmax(bits_of([values], fmt), scale=1.0, input_format=fmt, output_format=output,
                       **options)[0]

    one, half = bits_of([1.0, 0.5], output)
    nan = functions.SHAPES[output].nan
    assert list(run([-INF, -INF, -INF])) == [0, 0, 0]
    assert list(run([1.0, 2.0, 3.0], length=0)) == [0, 0, 0]
    assert list(run([-INF, 5.0, -INF])) == [0, one, 0]
    assert list(run([5.0, -INF, 5.0])) == [half, 0, half]
    assert list(run([5.0, 5.0, NAN, INF, 9.0], length=2)) == [half, half, 0, 0, 0]
    assert list(run([5.0, INF, -INF, 1.0], length=3)) == [nan, nan, nan, 0]
    assert list(run([5.0, NAN, -INF, 1.0], length=3)) == [nan, nan, nan, 0]
    assert list(run([-INF, -NAN, -INF])) == [nan, nan, nan]
    assert list(run([60000.0, -60000.0])) == [one, 0]
    causal = softmax(np.repeat(bits_of([[2.0] * 4], fmt), 5, axis=0), scale=1.0, length=1,
                     causal=True, input_format=fmt, output_format=output)
    assert [np.count_nonzero(r) for r in causal] == [1, 2, 3, 4, 4]


@formats
def test_softmax_any_bits(fmt, seed):
    """Whatever comes: NaN in all of a row or in none of it."""
    rng = np.random.default_rng(seed)
    for _ in range(200):
        row = any_bits(rng, fmt, int(rng.integers(1, 40)))
        values = digits.values(row, fmt)
        invalid = bool((np.isnan(values) | (values == INF)).any())
        got = digits.values(softmax(row[None], scale=0.125, input_format=fmt,
                                    output_format=Format.BF16)[0], Format.BF16)
        assert np.isnan(got).all() if invalid else np.isfinite(got).all()
        if not invalid and (values > -INF).any():
            assert abs(got.sum() - 1) < len(row) * 2.0**-9


def test_pieces(seed):
    """The same bits whole, in pieces, and in another order."""
    rng = np.random.default_rng(seed)
    row = bits_of(rng.normal(0, 20, 500), Format.FP16)
    whole = softmax(row[None], scale=0.25)[0]
    pieces = Row(0.25)
    parts = np.split(row, [3, 200, 201])
    for step in (pieces.maximum, pieces.add):
        for part in parts[::-1]:
            step(part, len(part))
    assert (np.concatenate([pieces.normalise(p, len(p)) for p in parts]) == whole).all()
    order = rng.permutation(500)
    assert (softmax(row[order][None], scale=0.25)[0] == whole[order]).all()


@pytest.mark.parametrize("scale", [-1.0, INF, NAN, 1e-40, 0.1])
def test_softmax_refuses_scale(scale):
    with pytest.raises(ValueError, match="scale"):
        softmax(np.zeros((1, 1), np.uint16), scale=scale)


def test_factor():
    for scale in (1.0, 2.0**-126, 3.0e38, 0.08838834764):
        scale = float(np.float32(scale))
        c, e = factor(scale)
        assert c < 1 << 23
        assert abs(Fraction(c) * Fraction(2) ** (e - 21) / (Fraction(scale) * spec.LOG2E) - 1) \
            < Fraction(1, 2**22)
    assert factor(0.0)[0] == 0
