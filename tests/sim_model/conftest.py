# SPDX-License-Identifier: BSD-2-Clause
"""The rule of docs/arithmetic.md once more, in exact fractions of Python, for the tests to use."""

from fractions import Fraction

import numpy as np
import pytest

from logicpim.sim.model import arithmetic


class Oracle:
    """Scalar, slow, and sharing nothing with the model: it knows values, not bit fields.

    A number is a Fraction, or "nan", or ("inf", sign).
    """

    FP16 = 11, -14, 15  # significant bits, least and greatest exponent
    FP32 = 24, -126, 127

    @staticmethod
    def read(bits, fmt):
        """The number that a bit pattern stands for."""
        precision, least, greatest = fmt
        fraction_bits = precision - 1
        exponent, fraction = divmod(bits, 1 << fraction_bits)
        sign, exponent = divmod(exponent, greatest - least + 3)
        if exponent == greatest - least + 2:
            return "nan" if fraction else ("inf", sign)
        hidden = 1 << fraction_bits if exponent else 0
        value = Fraction(hidden + fraction) * Fraction(2) ** (max(exponent, 1) - 1 + least
                                                              - fraction_bits)
        return -value if sign else value

    @staticmethod
    def write(value, fmt, sign_of_zero=0):
        """The bit pattern nearest to a number, ties to the even one."""
        precision, least, greatest = fmt
        infinity = (greatest - least + 2) << precision - 1
        width = infinity.bit_length()
        if value == "nan":
            return infinity | 1 << precision - 2
        if isinstance(value, tuple):
            return value[1] << width | infinity
        sign, value = (1, -value) if value < 0 else (0 if value else sign_of_zero, value)
        exponent = max(Oracle.exponent(value), least) if value else least
        last = Fraction(2) ** (exponent - precision + 1)
        units = round(value / last)  # Python rounds a Fraction to nearest even
        return sign << width | min(units + (exponent - least << precision - 1), infinity)

    @staticmethod
    def exponent(value):
        """floor(log2(abs(value))), exactly."""
        value = abs(value)
        guess = value.numerator.bit_length() - value.denominator.bit_length()
        return guess if Fraction(2) ** guess <= value else guess - 1

    @classmethod
    def dot(cls, x_bits, w_bits):
        """Binary32 bits of one beat: products, alignment, truncation, sum, one rounding."""
        x = [cls.read(int(b), cls.FP16) for b in x_bits]
        w = [cls.read(int(b), cls.FP16) for b in w_bits]
        infinite = set()
        for a, b, a_bits, b_bits in zip(x, w, x_bits, w_bits, strict=True):
            if "nan" in (a, b):
                return 0x7FC00000
            if isinstance(a, tuple) or isinstance(b, tuple):
                if 0 in (a, b):
                    return 0x7FC00000
                infinite.add((int(a_bits) ^ int(b_bits)) >> 15)
        if infinite:
            return 0x7FC00000 if len(infinite) == 2 else 0x7F800000 | infinite.pop() << 31
        pairs = [(a, b) for a, b in zip(x, w, strict=True) if a and b]
        if not pairs:
            return 0
        unit = Fraction(2) ** (max(cls.exponent(a) + cls.exponent(b) for a, b in pairs) - 26)
        total = 0
        for a, b in pairs:
            kept = abs(a * b) // unit
            total += -kept if a * b < 0 else kept
        return cls.write(total * unit, cls.FP32)

    @classmethod
    def add(cls, a_bits, b_bits):
        """Binary32 addition of IEEE-754, any NaN canonical."""
        a, b = cls.read(a_bits, cls.FP32), cls.read(b_bits, cls.FP32)
        if "nan" in (a, b):
            return 0x7FC00000
        infinite = {v for v in (a, b) if isinstance(v, tuple)}
        if infinite:
            return cls.write(infinite.pop() if len(infinite) == 1 else "nan", cls.FP32)
        both_negative_zero = a_bits == b_bits == 1 << 31
        return cls.write(a + b, cls.FP32, int(both_negative_zero))

    @classmethod
    def element(cls, x_bits, w_bits, depth):
        """Binary32 bits of one output element."""
        lanes = [0, 0, 0, 0]
        beats = -(-len(x_bits) // depth)
        for b in range(beats):
            part = slice(b * depth, (b + 1) * depth)  # a short last beat: zeros add nothing
            lanes[b % 4] = cls.add(lanes[b % 4], cls.dot(x_bits[part], w_bits[part]))
        return cls.add(cls.add(lanes[0], lanes[1]), cls.add(lanes[2], lanes[3]))

    @classmethod
    def gemm(cls, x_bits, w_bits, depth, half):
        """Bits of every output element: FP16 where ``half``, else FP32."""
        out = [[cls.element(x, w, depth) for w in w_bits] for x in x_bits]
        if half:
            out = [[cls.write(cls.read(y, cls.FP32), cls.FP16, y >> 31) for y in row]
                   for row in out]
        return np.array(out, np.uint16 if half else np.uint32)


class Stimulus:
    """Random FP16 bit patterns of several tempers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def bits(self, shape, temper):
        rng = self.rng
        any_bits = rng.integers(0, 1 << 16, shape, dtype=np.uint16)
        finite = np.where(any_bits >> 10 & 31 == 31, any_bits & 0xBFFF, any_bits)
        if temper in ("any", "finite"):
            return any_bits if temper == "any" else finite
        if temper == "normal":
            return rng.normal(size=shape).astype(np.float16).view(np.uint16)
        if temper == "near":  # exponents within two of each other
            return any_bits & 0x83FF | rng.integers(14, 17, shape).astype(np.uint16) << 10
        if temper == "wide":  # half of them tiny, half of them huge, many fraction bits set
            high = rng.choice(np.array([1, 2, 4, 16, 28, 30], np.uint16), shape) << 10
            return any_bits & 0x8000 | high | rng.integers(0x3F0, 0x400, shape).astype(np.uint16)
        if temper == "cancel":  # few values, both signs
            return rng.choice(np.array([0x3C00, 0xBC00, 0x3C01, 0xBC01, 0x0001, 0x8001, 0x7BFF,
                                        0xFBFF, 0, 0x8000], np.uint16), shape)
        if temper == "subnormal":
            return any_bits & 0x87FF
        if temper == "zeros":  # among numbers of very different size
            return np.where(rng.random(shape) < 0.6, any_bits & 0x8000, finite)
        sparse = rng.choice(np.array([0x7C00, 0xFC00, 0x7E00, 0x7C01, 0, 0x8000], np.uint16), shape)
        return np.where(rng.random(shape) < 0.03, sparse, finite)


@pytest.fixture(scope="session")
def oracle():
    return Oracle


@pytest.fixture
def stimulus(seed):
    return Stimulus(seed)


@pytest.fixture
def by_rule():
    """FP32 bits of a GEMM from the steps of the model's own rule, without its fast path."""
    def compose(x_bits, w_bits, depth):
        def beats(bits):
            padded = np.pad(bits, ((0, 0), (0, -bits.shape[1] % depth)))
            return padded.reshape(len(bits), -1, depth)
        dots = arithmetic.dot_fp16(beats(x_bits)[:, None], beats(w_bits)[None])
        return arithmetic.accumulate(dots)
    return compose
