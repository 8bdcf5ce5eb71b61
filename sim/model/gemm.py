# SPDX-License-Identifier: BSD-2-Clause
"""A whole GEMM by the rule of docs/arithmetic.md, bit for bit, at the speed of numpy's vectors.

Why binary32 and 32-bit integers of the host are enough for an exact result:

* the product of two FP16 values has 22 significant bits and lies in 2**-48 .. 2**32, so binary32
  holds it; so it does after scaling by the power of two that makes the beat's last kept bit 1
  (2**-52 .. 2**28);
* the conversion of that to int32 drops the bits below, towards zero: the truncation of the rule;
* eight such terms fit int32; deeper beats add groups of eight in int64;
* the conversion of the sum to binary32 rounds to nearest even, and scaling it back by the power
  of two is exact, for the result lies in 2**-74 .. 2**37;
* lanes hold multiples of 2**-74: no subnormal appears, whatever the host does with them;
* a lane is never -0 (it starts as +0), so beats of zeros, added as padding, change nothing.

Weights of 8 bits are FP16 values too. BF16 reaches further: its beats go by the steps of the rule.
"""

import numpy as np

from logicpim.spec.isa import BYTE_FORMATS, WEIGHT_FORMATS, Format

from . import arithmetic as rule

_ZERO = -64
"""Marks zero among exponents in -24 .. 15, and stays below -48 whatever is added to it."""

_CHUNK = 1 << 15
"""Products computed at once: their temporaries stay in the cache."""
_TOKENS = 64
"""Tokens whose lanes are live at once."""
_WEIGHTS = 1 << 23
"""Weights transposed at once, padding included."""
_ROWS = 1 << 12
"""Weight rows at once: beats of so many fill a chunk."""


def _tables():
    """By FP16 pattern: the value, the same with infinity and NaN as 0, the exponent likewise.

    And by an int8 exponent X seen as uint8: the scale that makes the last kept bit 1; its inverse.
    """
    bits = np.arange(1 << 16, dtype=np.uint16)
    value = bits.view(np.float16).astype(np.float32)
    operand = rule.decode_fp16(bits)
    unused = operand.zero | (operand.exponent == rule.SPECIAL)
    finite = np.where(unused, np.float32(0), value)
    exponent = np.where(unused, _ZERO, operand.exponent - rule.BIAS).astype(np.int8)
    x = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int32)
    # Exponents of beats that are zero do not matter: such a beat is 0 at any scale.
    last_bit = np.clip(x, 2 * -24, 2 * 15) + 2 * rule.BIAS + rule.SUM_EXPONENT
    scale, unscale = np.ldexp(np.float32(1), -last_bit), np.ldexp(np.float32(1), last_bit)
    return value, finite, exponent, scale, unscale


_VALUE, _FINITE, _EXPONENT, _SCALE, _UNSCALE = _tables()


_NARROW = {Format.FP16: rule.fp32_to_fp16, Format.BF16: rule.fp32_to_bf16, Format.FP32: None}


def gemm(x_bits, w_bits, depth: int, output: Format = Format.FP16, *,
         inputs: Format = Format.FP16, weights: Format = Format.FP16,
         scales: np.ndarray | None = None, scale_group: int | None = None,
         prior: np.ndarray | None = None) -> np.ndarray:
    """``Y[m, n] = sum over k of X[m, k] * W[n, k]``, the very bits that the hardware gives.

    Parameters
    ----------
    x_bits : uint16 array [M, K]
        Bit patterns of the operands (tokens).
    w_bits : uint16 or uint8 array [N, K]
        Bit patterns of the weights.
    depth : int
        Width of a beat, ``config.tile.depth``: a power of two from 1.
    output : Format
        ``FP16``, ``BF16`` or ``FP32``.
    inputs, weights : Format
        Of the operands (``FP16`` or ``BF16``) and of the weights (any but ``FP32``).
    scales : uint32 array [N] or [N, G], optional
        Binary32 patterns: the sum of row n is multiplied by ``scales[n]``, rounded to binary32,
        before it is rounded to the output format. With G of them, that is done with the sum of
        each group of K, and the products are added in binary32, in order.
    scale_group : int, optional
        Elements of K in a group; the last of the G groups may have fewer.
    prior : uint32 array [M, N], optional
        Binary32 patterns to which the sum, or with scales the first product, is added.

    Returns
    -------
    uint16 (FP16, BF16) or uint32 (FP32) bit patterns [M, N]. M, N and K may be any; K = 0 gives +0.
    """
    x_bits, w_bits = np.asarray(x_bits), np.asarray(w_bits)
    narrow = weights in BYTE_FORMATS
    if x_bits.dtype != np.uint16 or w_bits.dtype != (np.uint8 if narrow else np.uint16):
        raise TypeError(f"operands must be bit patterns in unsigned integers of their width, not "
                        f"{x_bits.dtype} and {w_bits.dtype}")
    if x_bits.ndim != 2 or w_bits.ndim != 2 or x_bits.shape[1] != w_bits.shape[1]:
        raise ValueError(f"shapes {x_bits.shape} and {w_bits.shape} are not [M, K] and [N, K]")
    if (output not in _NARROW or inputs not in (Format.FP16, Format.BF16)
            or weights not in WEIGHT_FORMATS):
        raise ValueError(f"no GEMM of {inputs!r} by {weights!r} to {output!r}")
    result = _scaled(x_bits, w_bits, depth, inputs, weights, scales, scale_group, prior)
    return result if output == Format.FP32 else _NARROW[output](result)


def _scaled(x_bits, w_bits, depth, inputs, weights, scales, group, total):
    """Binary32 bits [M, N] of the whole sum, with its scales, added to ``total``."""
    if scales is None:
        sums = _sums(x_bits, w_bits, depth, inputs, weights)
        return sums if total is None else rule.fp32_add(total, sums)
    k, scales = x_bits.shape[1], np.asarray(scales, np.uint32).reshape(len(w_bits), -1)
    group = max(1, k) if group is None else group
    if scales.shape[1] != max(1, -(-k // group)):
        raise ValueError(f"{scales.shape[1]} scales a row for {k} elements in groups of {group}")
    for index in range(scales.shape[1]):
        part = slice(index * group, (index + 1) * group)
        product = rule.fp32_multiply(
            _sums(x_bits[:, part], w_bits[:, part], depth, inputs, weights), scales[None, :, index])
        total = product if total is None else rule.fp32_add(total, product)
    return total


def _sums(x_bits, w_bits, depth, inputs, weights):
    """Binary32 bits [M, N] of the sums of all lanes."""
    narrow = weights in BYTE_FORMATS
    if narrow:
        w_bits = rule.bytes_as_fp16(w_bits, weights)
    lanes = rule.LANES * (1 + narrow)
    kinds = None if Format.BF16 not in (inputs, weights) else (
        inputs, Format.FP16 if narrow else weights)
    m, n = len(x_bits), len(w_bits)
    result = np.empty((m, n), np.uint32)
    x_beats = _beats(x_bits, depth, lanes)
    step = min(_ROWS, max(1, _WEIGHTS // max(1, depth * x_beats.shape[1])))
    for start in range(0, n, step):
        w_beats = _beats(w_bits[start:start + step], depth, lanes)
        for token in range(0, m, _TOKENS):
            rows = slice(token, token + _TOKENS)
            result[rows, start:start + step] = _block(x_beats[:, :, rows], w_beats, lanes,
                                                           kinds)
    return rule.canonical_fp32(result)


def _beats(bits, depth, lanes):
    """[rows, K] as [depth, beats, rows], beats padded with zeros to a multiple of the lanes."""
    rows, k = bits.shape
    beats = -(-k // (depth * lanes)) * lanes
    padded = np.zeros((rows, beats * depth), np.uint16)
    padded[:, :k] = bits
    return np.ascontiguousarray(padded.reshape(rows, beats, depth).transpose(2, 1, 0))


def _block(x_beats, w_beats, count, kinds):
    """Binary32 bits [tokens, N] from the beats of operands and weights; NaNs not yet canonical."""
    depth, beats, tokens = x_beats.shape
    n = w_beats.shape[2]
    step = max(1, _CHUNK // (depth * count * max(1, n))) * count
    lanes = np.zeros((count, tokens, n), np.float32)
    sums = np.empty((step, tokens, n), np.float32)
    for b in range(0, beats, step):
        x, w = x_beats[:, b:b + step], w_beats[:, b:b + step]
        if kinds:
            _wide_dots(x, w, kinds, sums[:x.shape[1]])
        else:
            _dots(x, w, sums[:x.shape[1]])
        for at in range(0, x.shape[1], count):
            with np.errstate(all="ignore"):
                lanes += sums[at:at + count]
    with np.errstate(all="ignore"):
        sets = [(e[0] + e[1]) + (e[2] + e[3])
                for e in (lanes[s::count // rule.LANES] for s in range(count // rule.LANES))]
        return (sets[0] if len(sets) == 1 else sets[0] + sets[1]).view(np.uint32)


def _wide_dots(x_beats, w_beats, kinds, sums):
    """As :func:`_dots` for exponents of any size, by the steps of the rule."""
    w = rule.decode(w_beats.transpose(1, 2, 0), kinds[1])
    x = rule.decode(x_beats.transpose(1, 2, 0), kinds[0])
    for token in range(x_beats.shape[2]):
        a = rule.Operand(*(field[:, token, None] for field in x))
        sums[:, token] = rule.dot(a, w).view(np.float32)


def _dots(x_beats, w_beats, sums):
    """Fused dot products of a chunk of beats for each token, into ``sums`` [beats, tokens, N]."""
    depth, beats, n = w_beats.shape
    w, w_exponent = _FINITE[w_beats], _EXPONENT[w_beats]
    x, x_exponent = _FINITE[x_beats], _EXPONENT[x_beats]
    terms = np.empty_like(w)
    integers = np.empty(w.shape, np.int32)
    exponents = np.empty_like(w_exponent)
    for token in range(x.shape[2]):
        np.add(w_exponent, x_exponent[:, :, token, None], out=exponents)
        largest = exponents.max(axis=0).view(np.uint8)
        np.multiply(w, x[:, :, token, None], out=terms)
        terms *= _SCALE[largest]
        np.copyto(integers, terms, casting="unsafe")
        if depth <= 8:
            total = np.add.reduce(integers, axis=0, dtype=np.int32)
        else:
            groups = integers.reshape(-1, 8, beats, n)
            total = np.add.reduce(groups, axis=1, dtype=np.int32).sum(axis=0, dtype=np.int64)
        np.multiply(total.astype(np.float32), _UNSCALE[largest], out=sums[:, token])
    if not np.isfinite(_VALUE[x_beats]).all() or not np.isfinite(_VALUE[w_beats]).all():
        _specials(_VALUE[x_beats], _VALUE[w_beats], sums)


def _specials(x, w, sums):
    """Replace the sums of beats with infinities or NaNs: there IEEE addition is the rule."""
    with np.errstate(invalid="ignore"):
        for token in range(x.shape[2]):
            plain = (w * x[:, :, token, None]).sum(axis=0)
            np.copyto(sums[:, token], plain, where=~np.isfinite(plain))
