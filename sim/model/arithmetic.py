# SPDX-License-Identifier: BSD-2-Clause
"""The arithmetic of a processing unit, step by step on bit patterns, as docs/arithmetic.md has it.

Every function takes and returns numpy arrays (or scalars) of bit patterns and works on any shape.
This is the readable form of the rule; :mod:`logicpim.sim.model.gemm` is the fast one.
"""

from typing import NamedTuple

import numpy as np

from logicpim.spec.isa import Format

BIAS = 127
"""Of the exponents of the internal form, and of binary32."""
SIGNIFICAND_BITS = 11
"""Of the internal form: one integer bit, ten fraction bits."""
SPECIAL = 255
"""The exponent of infinity and NaN in the internal form."""
HIDDEN = 1 << SIGNIFICAND_BITS - 1
"""The integer bit: set in every operand but zero; alone in infinity."""
GUARD_BITS = 6
"""Bits kept below the last bit of the product with the greatest exponent."""
SUM_EXPONENT = -2 * BIAS - 2 * (SIGNIFICAND_BITS - 1) - GUARD_BITS
"""A beat's sum S at exponent X is worth ``S * 2 ** (X + SUM_EXPONENT)``."""
LANES = 4
"""Partial sums of one output element; weights of 8 bits have two such sets."""

BF16_NAN = np.uint16(0x7FC0)
FP16_NAN = np.uint16(0x7E00)
FP32_NAN = np.uint32(0x7FC00000)
_FP32_INFINITY = 0x7F800000


class Operand(NamedTuple):
    """Operands in the internal form, as int64 arrays of one shape.

    ``(-1) ** sign * significand * 2 ** (exponent - 127 - 10)``. Bit 10 of the significand is set
    except in zero (exponent 0, significand 0) and in subnormals of BF16 (exponent 1). Exponent
    255: infinity where the significand is 0x400, NaN otherwise.
    """

    sign: np.ndarray
    exponent: np.ndarray
    significand: np.ndarray

    @property
    def zero(self):
        return self.significand == 0

    @property
    def infinite(self):
        return (self.exponent == SPECIAL) & (self.significand == HIDDEN)

    @property
    def nan(self):
        return (self.exponent == SPECIAL) & (self.significand != HIDDEN)


def decode_fp16(bits) -> Operand:
    """The internal form of FP16 bit patterns; subnormals are normalised."""
    bits = np.asarray(bits, np.uint16).astype(np.int64)
    sign, exponent, fraction = bits >> 15, bits >> 10 & 31, bits & 0x3FF
    # frexp's exponent is the number of significant bits, here of integers it holds exactly.
    shift = np.where(fraction > 0, SIGNIFICAND_BITS - np.frexp(fraction.astype(float))[1], 0)
    subnormal = exponent == 0
    significand = np.where(subnormal, fraction << shift, HIDDEN | fraction)
    biased = np.where(subnormal, 1 - shift, exponent) + (BIAS - 15)
    biased = np.where(exponent == 31, SPECIAL, biased)
    return Operand(sign, np.where(significand == 0, 0, biased), significand)


def decode_bf16(bits) -> Operand:
    """The internal form of BF16 bit patterns; subnormals keep their exponent, 1."""
    bits = np.asarray(bits, np.uint16).astype(np.int64)
    sign, exponent, fraction = bits >> 15, bits >> 7 & 255, (bits & 0x7F) << 3
    significand = np.where(exponent == 0, fraction, HIDDEN | fraction)
    return Operand(sign, np.where(exponent == 0, significand != 0, exponent), significand)


def bytes_as_fp16(bits, fmt: Format):
    """FP16 bit patterns of the same values as FP8 or INT8 ones, all of which FP16 holds."""
    bits = np.asarray(bits, np.uint8)
    if fmt == Format.FP8_E5M2:
        return bits.astype(np.uint16) << 8
    if fmt == Format.INT8:
        return bits.view(np.int8).astype(np.float16).view(np.uint16)
    if fmt != Format.FP8_E4M3:
        raise ValueError(f"{fmt!r} does not have 8 bits")
    exponent, fraction = bits >> 3 & 15, bits & 7
    significand = np.where(exponent == 0, fraction, 8 | fraction)
    value = np.ldexp(significand.astype(np.float32), np.maximum(exponent, 1).astype(int) - 10)
    half = value.astype(np.float16).view(np.uint16)
    half = np.where(bits & 0x7F == 0x7F, FP16_NAN, half)
    return half | (bits & 0x80).astype(np.uint16) << 8


def decode(bits, fmt: Format) -> Operand:
    """The internal form of bit patterns of any format of weights."""
    if fmt == Format.BF16:
        return decode_bf16(bits)
    return decode_fp16(bits if fmt == Format.FP16 else bytes_as_fp16(bits, fmt))


def round_to_fp32(value, exponent):
    """Binary32 bits of ``value * 2 ** exponent``, rounded once, to nearest even.

    ``value`` is an integer of magnitude below 2**53, ``exponent`` is in -900 .. 900, so that
    binary64 holds the product exactly. Subnormals are kept, overflow gives infinity, a zero
    is +0.
    """
    exact = np.ldexp(np.asarray(value, np.int64).astype(np.float64), exponent)
    with np.errstate(over="ignore", under="ignore"):
        return exact.astype(np.float32).view(np.uint32)


def dot(a: Operand, w: Operand):
    """The fused dot products of beats: binary32 bits. The last axis is the depth of a beat."""
    product = a.significand * w.significand
    scale = np.where(product == 0, 0, a.exponent + w.exponent)
    largest = scale.max(axis=-1, keepdims=True)
    aligned = product << GUARD_BITS >> np.minimum(largest - scale, 63)
    negative = (a.sign ^ w.sign).astype(bool)
    total = np.where(negative, -aligned, aligned).sum(axis=-1)
    result = round_to_fp32(total, largest[..., 0] + SUM_EXPONENT)

    infinite = a.infinite | w.infinite
    minus, plus = (infinite & negative).any(axis=-1), (infinite & ~negative).any(axis=-1)
    invalid = (a.nan | w.nan | a.infinite & w.zero | a.zero & w.infinite).any(axis=-1)
    result = np.where(plus, np.uint32(_FP32_INFINITY), result)
    result = np.where(minus, np.uint32(_FP32_INFINITY | 1 << 31), result)
    return np.where(invalid | minus & plus, FP32_NAN, result)


def dot_fp16(x_bits, w_bits):
    """The fused dot products of FP16 operands over the last axis: binary32 bits."""
    return dot(decode_fp16(x_bits), decode_fp16(w_bits))


def canonical_fp32(bits):
    """The same binary32 patterns with every NaN replaced by 0x7fc00000."""
    bits = np.asarray(bits, np.uint32)
    return np.where(bits & np.uint32(0x7FFFFFFF) > _FP32_INFINITY, FP32_NAN, bits)


def fp32_add(a_bits, b_bits):
    """IEEE-754 binary32 addition of bit patterns, to nearest even; any NaN is 0x7fc00000."""
    a = np.asarray(a_bits, np.uint32).view(np.float32)
    b = np.asarray(b_bits, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        total = np.asarray(a + b, np.float32)
    return canonical_fp32(total.view(np.uint32))


def fp32_multiply(a_bits, b_bits):
    """IEEE-754 binary32 product of bit patterns, to nearest even; any NaN is 0x7fc00000."""
    a = np.asarray(a_bits, np.uint32).view(np.float32)
    b = np.asarray(b_bits, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        product = np.asarray(a * b, np.float32)
    return canonical_fp32(product.view(np.uint32))


def fp32_to_fp16(bits):
    """FP16 bits of binary32 values, rounded once, to nearest even; any NaN is 0x7e00."""
    bits = np.asarray(bits, np.uint32)
    with np.errstate(all="ignore"):
        half = bits.view(np.float32).astype(np.float16).view(np.uint16)
    return np.where(bits & np.uint32(0x7FFFFFFF) > _FP32_INFINITY, FP16_NAN, half)


def fp32_to_bf16(bits):
    """BF16 bits of binary32 values, rounded once, to nearest even; any NaN is 0x7fc0."""
    bits = np.asarray(bits, np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
    return np.where(bits & np.uint32(0x7FFFFFFF) > _FP32_INFINITY, BF16_NAN, rounded)


def accumulate(beats, sets: int = 1):
    """Binary32 bits of an output element from those of its beats along the last axis.

    Beat ``b`` is added to lane ``b % 4``; then ``(lane 0 + lane 1) + (lane 2 + lane 3)``. With
    two sets, as weights of 8 bits have, that is done with the even beats and with the odd ones,
    and the two results are added.
    """
    beats = np.asarray(beats, np.uint32)
    if sets == 2:
        return fp32_add(accumulate(beats[..., ::2]), accumulate(beats[..., 1::2]))
    lanes = [np.zeros(beats.shape[:-1], np.uint32) for _ in range(LANES)]
    for b in range(beats.shape[-1]):
        lanes[b % LANES] = fp32_add(lanes[b % LANES], beats[..., b])
    return fp32_add(fp32_add(lanes[0], lanes[1]), fp32_add(lanes[2], lanes[3]))
