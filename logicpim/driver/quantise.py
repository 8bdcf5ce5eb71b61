# SPDX-License-Identifier: BSD-2-Clause
"""Weights of 8 bits with scales, made from others: to nearest, as far as a group's largest goes."""

import numpy as np

from ..sim.model.arithmetic import bytes_as_fp16
from ..spec.errors import ModelError
from ..spec.isa import BYTE_FORMATS, Format


def _magnitudes(fmt: Format) -> np.ndarray:
    """Finite values by their pattern, from 0 on (float64); signs left out."""
    if fmt == Format.INT8:
        return np.arange(128.0)
    values = bytes_as_fp16(np.arange(128, dtype=np.uint8), fmt).view(np.float16).astype(float)
    return values[np.isfinite(values)]


def to_format(values: np.ndarray, fmt: Format) -> np.ndarray:
    """Patterns (uint8) of the nearest numbers of an 8-bit format, ties to the even pattern.

    Beyond the largest finite number that one is taken; INT8 goes from -127 to 127. NaN is refused
    with a ValueError.
    """
    if np.isnan(values).any():
        raise ValueError("a NaN has no nearest number")
    known = _magnitudes(fmt)
    middle = (known[1:] + known[:-1]) / 2
    size = np.abs(np.asarray(values, np.float64))
    index = np.searchsorted(middle, size)
    tie = (index < len(middle)) & (middle[np.minimum(index, len(middle) - 1)] == size)
    index += tie & (index & 1).astype(bool)
    if fmt == Format.INT8:
        return np.where(np.signbit(values), -index, index).astype(np.int8).view(np.uint8)
    return (index | np.signbit(values) << 7).astype(np.uint8)


def quantise(values: np.ndarray, fmt: Format, group: int | None = None
             ) -> tuple[np.ndarray, np.ndarray]:
    """Weights and scales whose product is near ``values``.

    Parameters
    ----------
    values : float array [N, K]
    fmt : Format
        One of 8 bits.
    group : int, optional
        Elements of K that share a scale; None: a whole row.

    Returns
    -------
    Patterns (uint8 [N, K]), and binary32 patterns of the scales (uint32 [N, G]): of each group the
    largest magnitude by the format's largest number, 1 where all are zero.

    Raises ModelError where a value is not finite.
    """
    if fmt not in BYTE_FORMATS:
        raise ValueError(f"{fmt!r} does not have 8 bits")
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ModelError("a weight is not finite: it has no scale")
    n, k = values.shape
    group = max(1, k) if group is None else group
    groups = max(1, -(-k // group))
    padded = np.pad(values, ((0, 0), (0, groups * group - k))).reshape(n, groups, group)
    largest = np.abs(padded).max(axis=2)
    scales = (largest / _magnitudes(fmt)[-1]).astype(np.float32)
    scales[scales == 0] = 1
    w_bits = to_format(padded / scales[..., None].astype(np.float64), fmt)
    return w_bits.reshape(n, -1)[:, :k].copy(), scales.view(np.uint32)
