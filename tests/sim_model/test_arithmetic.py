# SPDX-License-Identifier: BSD-2-Clause
"""The steps of the arithmetic against exact fractions, numpy and struct."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logicpim.sim.model import arithmetic

ALL_FP16 = np.arange(1 << 16, dtype=np.uint16)
FP32_EDGES = [0, 1, 2, 0x007FFFFF, 0x00800000, 0x00800001, 0x3F800000, 0x3F800001, 0x33800000,
              0x4B800000, 0x7F7FFFFF, 0x7F7FFFFE, 0x7F000000, 0x73800000, 0x7F800000, 0x7F800001,
              0x7FC00000, 0x7FFFFFFF]
FP32_EDGES += [bits | 1 << 31 for bits in FP32_EDGES]


def test_decode_every_pattern():
    """Finite values equal struct's; everything but zero is normalised."""
    operand = arithmetic.decode_fp16(ALL_FP16)
    fields = (field.tolist() for field in operand)
    for bits, sign, exponent, significand in zip(ALL_FP16.tolist(), *fields, strict=True):
        value, = struct.unpack("<e", bits.to_bytes(2, "little"))
        assert sign == bits >> 15
        if value != value:
            assert exponent == 255 and 0x400 < significand < 0x800
        elif abs(value) == float("inf"):
            assert (exponent, significand) == (255, 0x400)
        elif value == 0:
            assert (exponent, significand) == (0, 0)
        else:
            assert 0x400 <= significand < 0x800 and 103 <= exponent <= 142
            assert (-1) ** sign * significand * Fraction(2) ** (exponent - 137) == Fraction(value)


def test_decode_classes():
    operand = arithmetic.decode_fp16(ALL_FP16)
    values = ALL_FP16.view(np.float16)
    assert (operand.zero == (values == 0)).all()
    assert (operand.infinite == np.isinf(values)).all()
    assert (operand.nan == np.isnan(values)).all()


@pytest.mark.parametrize("temper", ["any", "finite", "normal", "near", "wide", "cancel",
                                    "subnormal", "zeros", "special"])
@pytest.mark.parametrize("depth", [1, 4, 8, 32])
def test_dot(oracle, stimulus, depth, temper):
    x, w = (stimulus.bits((150, depth), temper) for _ in "xw")
    expected = [oracle.dot(a, b) for a, b in zip(x, w, strict=True)]
    assert arithmetic.dot_fp16(x, w).tolist() == expected


def test_dot_of_every_shift(oracle):
    """One large product, seven that are shifted by each distance there is."""
    exponents = [0x0001, *(e << 10 for e in range(1, 31))]
    for small in exponents:
        for other in exponents[::3]:
            x = np.array([0x7BFF] + 7 * [small | 0x3FF if small > 1 else 1], np.uint16)
            w = np.array([0x7BFF] + 7 * [0x8000 | other | 0x2AB], np.uint16)
            assert arithmetic.dot_fp16(x, w) == oracle.dot(x, w)


def test_dot_cancels_to_plus_zero():
    x = np.array([0x3C00, 0xBC00, 0x8000, 0x8001], np.uint16)
    w = np.array([0x4000, 0x4000, 0x7BFF, 0x0000], np.uint16)
    assert arithmetic.dot_fp16(x, w) == 0
    assert arithmetic.dot_fp16(x ^ 0x8000, w) == 0


INF, NINF, NAN, ONE, ZERO, NZERO = 0x7C00, 0xFC00, 0x7C01, 0x3C00, 0, 0x8000


@pytest.mark.parametrize("x, w, expected", [
    ((NAN, ONE), (ZERO, ONE), 0x7FC00000),
    ((ONE, ONE), (0xFFFF, ONE), 0x7FC00000),
    ((NAN, ONE), (INF, ONE), 0x7FC00000),
    ((INF, ONE), (NZERO, ONE), 0x7FC00000),
    ((ZERO, ONE), (NINF, ONE), 0x7FC00000),
    ((INF, INF), (ONE, 0xBC00), 0x7FC00000),
    ((INF, NINF), (INF, ONE), 0x7FC00000),
    ((INF, 0xFBFF), (ONE, 0x7BFF), 0x7F800000),
    ((INF, NINF), (ONE, NINF), 0x7F800000),
    ((INF, ZERO), (0x8001, ZERO), 0xFF800000),
    ((NINF, NINF), (ONE, INF), 0xFF800000),
])
def test_dot_specials(x, w, expected):
    assert arithmetic.dot_fp16(x, w) == expected


def test_dot_over_the_whole_internal_range(oracle):
    """The internal form reaches further than FP16: subnormal and overflowing results round."""
    rng = np.random.default_rng(7)
    for scale in (2, 60, 105, 106, 130, 254, 380, 381, 382, 508):
        e_a = np.clip(scale // 2 + rng.integers(-3, 4, 8), 1, 254)
        e_w = np.clip(scale - e_a + rng.integers(-20, 1, 8), 1, 254)
        s_a, s_w = rng.integers(0x400, 0x800, (2, 8))
        sign = rng.integers(0, 2, 8)
        a = arithmetic.Operand(sign, e_a, s_a)
        w = arithmetic.Operand(np.zeros(8, np.int64), e_w, s_w)
        top = max((e_a + e_w).tolist())
        total = sum((-1) ** int(n) * (int(p) * 64 >> top - int(e)) for n, p, e in
                    zip(sign, s_a * s_w, e_a + e_w, strict=True))
        expected = oracle.write(total * Fraction(2) ** (top - 280), oracle.FP32)
        assert arithmetic.dot(a, w) == expected


def test_zero_has_no_exponent():
    """Zero times the largest number does not push the other terms out."""
    a = arithmetic.Operand(*np.array([[0, 0], [0, 10], [0, 0x400]]))
    w = arithmetic.Operand(*np.array([[0, 0], [254, 117], [0x7FF, 0x400]]))
    assert arithmetic.dot(a, w) == 1 << 22  # 2**-127
    assert arithmetic.dot(w, a) == 1 << 22


@given(st.integers(-(2 ** 53) + 1, 2 ** 53 - 1), st.integers(-300, 240))
def test_rounding(oracle, value, exponent):
    exact = value * Fraction(2) ** exponent
    assert arithmetic.round_to_fp32(value, exponent) == oracle.write(exact, oracle.FP32)


@given(st.integers(1 << 23, (1 << 24) - 1), st.integers(1, 12), st.integers(-3, 3),
       st.integers(-180, 110))
def test_rounding_near_ties(oracle, significand, extra, offset, exponent):
    value = (significand << extra) + (1 << extra - 1) + offset
    exact = value * Fraction(2) ** exponent
    assert arithmetic.round_to_fp32(value, exponent) == oracle.write(exact, oracle.FP32)


def test_add_edges(oracle):
    a, b = np.array(FP32_EDGES, np.uint32)[:, None], np.array(FP32_EDGES, np.uint32)[None]
    got = arithmetic.fp32_add(a, b)
    for i, left in enumerate(FP32_EDGES):
        for j, right in enumerate(FP32_EDGES):
            assert got[i, j] == oracle.add(left, right), (hex(left), hex(right))


@given(st.integers(0, 2 ** 32 - 1), st.integers(0, 2 ** 32 - 1), st.integers(-26, 26))
def test_add(oracle, a, b, distance):
    near = a ^ (b & 0x807FFFFF)  # an exponent close to a's
    near = near & 0x807FFFFF | max(0, min(255, (near >> 23 & 255) + distance)) << 23
    for right in (b, near):
        assert arithmetic.fp32_add(a, right) == oracle.add(a, right)
        assert arithmetic.fp32_add(right, a) == oracle.add(a, right)


def test_narrowing_at_every_half_and_midpoint(oracle):
    """Each FP16 value, the binary32 neighbours of it and of the midpoint to the next."""
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    following = np.append(finite[1:], np.float32(65536))
    points = np.concatenate([finite, (finite + following) / 2]).view(np.uint32).astype(np.int64)
    around = np.unique(np.clip(points[:, None] + [-1, 0, 1], 0, 0x7F800000)).astype(np.uint32)
    got = arithmetic.fp32_to_fp16(around)
    expected = [oracle.write(oracle.read(b, oracle.FP32), oracle.FP16) for b in around.tolist()]
    assert got.tolist() == expected
    assert (arithmetic.fp32_to_fp16(around | np.uint32(1 << 31)) == (got | 0x8000)).all()


def test_narrowing_of_specials():
    bits = [0x7F800000, 0xFF800000, 0x7F800001, 0xFFC12345, 0x80000000, 0x477FEFFF, 0x477FF000,
            0x33000000, 0x33000001, 0xB3000000]
    assert arithmetic.fp32_to_fp16(bits).tolist() == [
        0x7C00, 0xFC00, 0x7E00, 0x7E00, 0x8000, 0x7BFF, 0x7C00, 0, 1, 0x8000]


def test_lanes_and_their_order(oracle):
    """Values chosen so that any other assignment or order gives other bits."""
    beats = [0x3F800000, 0x33800000, 0x4B800000, 0x3F800000, 0x33800000, 0xCB800000, 0x33800001]
    lanes = [0, 0, 0, 0]
    for b, bits in enumerate(beats):
        lanes[b % 4] = oracle.add(lanes[b % 4], bits)
    expected = oracle.add(oracle.add(lanes[0], lanes[1]), oracle.add(lanes[2], lanes[3]))
    assert arithmetic.accumulate(beats) == expected
    assert arithmetic.accumulate(beats) != arithmetic.accumulate(beats[::-1])
    assert arithmetic.accumulate(np.zeros((3, 0), np.uint32)).tolist() == [0, 0, 0]
