# SPDX-License-Identifier: BSD-2-Clause
"""Where matrices lie in DRAM and in the buffers: arrays of bit patterns to bytes and back.

E = ``config.granule_elements`` 16-bit elements make a granule. Everything is little-endian.

* **Weights** W[N, K] in DRAM: bundle word ``nb * ceil(K / E) + kw`` from the start address holds
  in granule ``r`` the elements ``kw * E ..`` of row ``nb * rows + r``.
  An instruction with an ``interleave`` counts its words over several bundles in turn
  (:func:`word_addresses`).
* **Operands** X[M, K] in a buffer: line ``g * ceil(K / E) + kw`` holds in granule ``t`` the
  elements ``kw * E ..`` of token ``g * tokens + t``.
* **Dealt operands** lie in the slices of several channels of a stack: of each group the first
  ``dealt`` lines in the first channel, the next in the second; a channel's follow each other, group
  by group.
* **8-bit weights** have 2 E elements in a granule, so E above is 2 E for them; operand lines stay
  as they are, but for a K padded to whole words: a group has ``2 * ceil(K / 2E)`` lines.
* **Results** Y[M, N] in a buffer: like operands, with N for K; FP32 results take two elements each.
"""

from collections.abc import Sequence

import numpy as np

from logicpim.spec.config import Config
from logicpim.spec.isa import BYTE_FORMATS, Format

_DTYPES = {Format.FP16: np.dtype("<u2"), Format.BF16: np.dtype("<u2"),
           Format.FP32: np.dtype("<u4")} | dict.fromkeys(BYTE_FORMATS, np.dtype("u1"))


def element_dtype(fmt: Format) -> np.dtype:
    """The little-endian unsigned integer that holds one element of a format."""
    return _DTYPES[Format(fmt)]


def granules_for(config: Config, columns: int, fmt: Format = Format.FP16) -> int:
    """Granules that ``columns`` consecutive elements of a row take: the KW or NW of a matrix."""
    return -(-columns * element_dtype(fmt).itemsize // config.granule_bytes)


def weight_words(config: Config, n: int, k: int, fmt: Format = Format.FP16) -> int:
    """Bundle words of W[n, k]."""
    return -(-n // config.tile.rows) * granules_for(config, k, fmt)


def operand_granules(config: Config, k: int, weights: Format = Format.FP16) -> int:
    """Lines of one token group of operands for weights of a format."""
    return granules_for(config, k, weights) * (2 if weights in BYTE_FORMATS else 1)


def operand_lines(config: Config, m: int, k: int, weights: Format = Format.FP16) -> int:
    """Buffer lines of operands [m, k] for weights of a format."""
    return -(-m // config.tile.tokens) * operand_granules(config, k, weights)


def deal(config: Config, lines: np.ndarray, words: int, dealt: int, channels: int) -> np.ndarray:
    """Operand lines (bytes, ``words`` lines a group) dealt over so many channels of a stack.

    Returns uint8 [channels, groups * dealt, line bytes], padding zero.
    """
    lines = lines.reshape(-1, words, config.line_bytes)
    padded = np.pad(lines, ((0, 0), (0, channels * dealt - words), (0, 0)))
    split = padded.reshape(len(lines), channels, dealt, config.line_bytes).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(split).reshape(channels, -1, config.line_bytes)


def gather(config: Config, slices: Sequence[np.ndarray], words: int, dealt: int) -> np.ndarray:
    """The inverse of :func:`deal`: bytes of operand lines from those of each channel's."""
    held = [part.reshape(-1, dealt, config.line_bytes) for part in slices]
    return np.concatenate(held, axis=1)[:, :words].reshape(-1)


def word_addresses(config: Config, address: int, words: int, interleave: int = 0) -> np.ndarray:
    """Bundle words in the order in which an instruction streams them, from ``address`` on.

    With ``interleave`` i they are dealt over the 2**i bundles of an aligned set: a row of one
    bundle, the same row of the next, and after the last bundle the next row of the first.
    """
    org = config.dram
    bundle, start = divmod(address, org.words_per_bundle)
    row, column = divmod(start, org.columns)
    inner, size = bundle % (1 << interleave), 1 << interleave
    at = (row * size + inner) * org.columns + column + np.arange(words, dtype=np.int64)
    chunk, column = np.divmod(at, org.columns)
    row, inner = np.divmod(chunk, size)
    return ((bundle - bundle % size + inner) * org.rows + row) * org.columns + column


def in_set(config: Config, address: int, words: int, interleave: int = 0) -> bool:
    """Whether so many words from ``address`` on lie in its set of bundles."""
    org, size = config.dram, 1 << interleave
    bundle, start = divmod(address, org.words_per_bundle)
    row, column = divmod(start, org.columns)
    at = (row * size + bundle % size) * org.columns + column
    return address < org.words and at + words <= size * org.words_per_bundle


def line_count(config: Config, m: int, columns: int, fmt: Format = Format.FP16) -> int:
    """Buffer lines of operands or results [m, columns]."""
    return -(-m // config.tile.tokens) * granules_for(config, columns, fmt)


def scale_groups(config: Config, k: int, group: int, fmt: Format) -> int:
    """Scales of a row of K elements, one for every ``group`` weight words (0: one for all)."""
    return -(-granules_for(config, k, fmt) // group) if group else 1


def scale_elements(config: Config, group: int, fmt: Format) -> int | None:
    """Elements of K that share a scale; None: all."""
    return group * config.granule_bytes // element_dtype(fmt).itemsize or None


def scale_lines(config: Config, n: int, groups: int = 1) -> int:
    """Buffer lines of the scales of n rows, see :func:`pack_scales`."""
    rows = config.tile.rows
    return -(-4 * rows * -(-n // rows) * groups // config.line_bytes)


def pack_scales(config: Config, scales: np.ndarray) -> np.ndarray:
    """Bytes of scales (uint32 [N] or [N, G]) from the start of a buffer line on.

    Those of a row block for one group after the other, then those of the next: scale (n, g) is
    number ``(n // rows * G + g) * rows + n % rows``. Padding is zero.
    """
    rows = config.tile.rows
    scales = scales.astype("<u4").reshape(len(scales), -1)
    padded = np.pad(scales, ((0, -len(scales) % rows), (0, 0)))
    tiled = padded.reshape(-1, rows, scales.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(tiled).reshape(-1).view(np.uint8)


def unpack_scales(config: Config, data: np.ndarray, n: int, groups: int = 1) -> np.ndarray:
    """Scales (uint32 [n, groups]) from the bytes at their start."""
    rows = config.tile.rows
    blocks = -(-n // rows)
    held = np.ascontiguousarray(data[:4 * blocks * groups * rows]).view("<u4")
    return held.reshape(blocks, groups, rows).transpose(0, 2, 1).reshape(-1, groups)[:n]


def _pack(matrix, block, granule_bytes, fmt):
    """[rows, columns] as bytes in blocks of rows, granule columns, rows of the block."""
    dtype = element_dtype(fmt)
    if matrix.ndim != 2 or matrix.dtype != dtype:
        raise TypeError(f"expected a matrix of {dtype.name} bit patterns, "
                        f"not {matrix.dtype} {matrix.shape}")
    rows, columns = matrix.shape
    per = granule_bytes // dtype.itemsize
    blocks, granules = -(-rows // block), -(-columns // per)
    padded = np.zeros((blocks * block, granules * per), dtype)
    padded[:rows, :columns] = matrix
    tiled = padded.reshape(blocks, block, granules, per).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiled).reshape(-1).view(np.uint8)


def _unpack(data, rows, columns, block, granule_bytes, fmt):
    """The inverse of :func:`_pack`; surplus bytes are ignored."""
    dtype = element_dtype(fmt)
    per = granule_bytes // dtype.itemsize
    blocks, granules = -(-rows // block), -(-columns // per)
    size = blocks * granules * block * granule_bytes
    if data.dtype != np.uint8 or data.size < size:
        raise ValueError(f"expected at least {size} bytes, not {data.size} of {data.dtype}")
    tiled = np.ascontiguousarray(data.reshape(-1)[:size]).view(dtype)
    matrix = tiled.reshape(blocks, granules, block, per).transpose(0, 2, 1, 3)
    return matrix.reshape(blocks * block, granules * per)[:rows, :columns]


def pack_weights(config: Config, w_bits: np.ndarray, fmt: Format = Format.FP16) -> np.ndarray:
    """Bytes of W (uint16 or uint8 [N, K]) from the start of a bundle word on; padding is zero."""
    return _pack(w_bits, config.tile.rows, config.granule_bytes, fmt)


def unpack_weights(config: Config, data: np.ndarray, n: int, k: int,
                   fmt: Format = Format.FP16) -> np.ndarray:
    """W (uint16 or uint8 [n, k]) from the bytes at its start."""
    return _unpack(data, n, k, config.tile.rows, config.granule_bytes, fmt)


def pack_operands(config: Config, x_bits: np.ndarray, weights: Format = Format.FP16) -> np.ndarray:
    """Bytes of X (uint16 [M, K]) from the start of a buffer line on; padding is zero."""
    m, k = x_bits.shape
    columns = operand_granules(config, k, weights) * config.granule_elements
    if columns - k >= config.granule_elements:
        x_bits = np.pad(x_bits, ((0, 0), (0, columns - k)))
    return _pack(x_bits, config.tile.tokens, config.granule_bytes, Format.FP16)


def unpack_operands(config: Config, data: np.ndarray, m: int, k: int,
                    weights: Format = Format.FP16) -> np.ndarray:
    """X (uint16 [m, k]) from the bytes at its start."""
    columns = operand_granules(config, k, weights) * config.granule_elements
    return _unpack(data, m, columns, config.tile.tokens, config.granule_bytes,
                   Format.FP16)[:, :k]


def pack_results(config: Config, y_bits: np.ndarray, fmt: Format) -> np.ndarray:
    """Bytes of Y (uint16 or uint32 [M, N]) in whole buffer lines; padding is zero."""
    return _pack(y_bits, config.tile.tokens, config.granule_bytes, fmt)


def unpack_results(config: Config, data: np.ndarray, m: int, n: int, fmt: Format) -> np.ndarray:
    """Y (uint16 for FP16, uint32 for FP32, [m, n]) from the bytes at its start."""
    return _unpack(data, m, n, config.tile.tokens, config.granule_bytes, fmt)


def result_mask(config: Config, m: int, n: int, fmt: Format) -> np.ndarray:
    """Which bytes of the lines of Y[m, n] a GEMM writes (bool, as :func:`pack_results`).

    The tile writes cells of ``rows`` times 16 bits: those that hold at least one result, whole,
    and no others. The rest of such a cell is written as +0.
    """
    dtype = element_dtype(fmt)
    per_cell = config.tile.rows * 2 // dtype.itemsize
    written = np.ones((m, -(-n // per_cell) * per_cell), dtype)
    return pack_results(config, written * np.iinfo(dtype).max, fmt).astype(bool)
