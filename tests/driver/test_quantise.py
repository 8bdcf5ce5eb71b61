# SPDX-License-Identifier: BSD-2-Clause
"""Quantised weights: the nearest pattern, scales that use the whole range, a bounded error."""

import ml_dtypes
import numpy as np
import pytest

from logicpim.driver.quantise import quantise, to_format
from logicpim.sim.model.arithmetic import bytes_as_fp16
from logicpim.spec.errors import ModelError
from logicpim.spec.isa import BYTE_FORMATS, Format

DTYPES = {Format.FP8_E4M3: ml_dtypes.float8_e4m3fn, Format.FP8_E5M2: ml_dtypes.float8_e5m2}
LARGEST = {Format.FP8_E4M3: 448, Format.FP8_E5M2: 57344, Format.INT8: 127}
# Half a unit in the last place, of the largest or of any number.
ERROR = {Format.INT8: 0.5 / 127, Format.FP8_E4M3: 2.0 ** -4, Format.FP8_E5M2: 2.0 ** -3}


def value(bits, fmt):
    return bytes_as_fp16(bits, fmt).view(np.float16).astype(np.float64)


@pytest.mark.parametrize("fmt", DTYPES)
def test_to_nearest(seed, fmt):
    """As ml_dtypes rounds, ties included; no infinity."""
    rng = np.random.default_rng(seed)
    every = np.arange(256, dtype=np.uint8)
    known = value(every, fmt)
    known = np.sort(known[np.isfinite(known)])
    ties = (known[1:] + known[:-1]) / 2
    values = np.concatenate([known, ties, ties * (1 + 1e-6), rng.normal(size=999)])
    values = np.clip(values, -LARGEST[fmt], LARGEST[fmt]).astype(np.float32)
    assert (to_format(values, fmt) == values.astype(DTYPES[fmt]).view(np.uint8)).all()
    assert value(to_format(np.array([1e9, -1e9]), fmt), fmt).tolist() == [
        LARGEST[fmt], -LARGEST[fmt]]


def test_integers_to_nearest():
    values = np.array([0.5, 1.5, -0.5, -2.5, 126.5, 127.5, 300, -300])
    assert to_format(values, Format.INT8).view(np.int8).tolist() == [0, 2, 0, -2, 126, 127, 127,
                                                                     -127]


@pytest.mark.parametrize("fmt", BYTE_FORMATS)
@pytest.mark.parametrize("group", [None, 8, 30])
def test_error(seed, fmt, group):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(7, 50)) * 10.0 ** rng.integers(-4, 4, (7, 1))
    values[3] = 0
    w, scales = quantise(values, fmt, group)
    assert w.shape == values.shape and scales.shape == (7, -(-50 // (group or 50)))
    each = np.repeat(scales.view(np.float32).astype(np.float64), group or 50, axis=1)[:, :50]
    largest = each * LARGEST[fmt]
    unit = largest if fmt == Format.INT8 else np.maximum(np.abs(values), largest * 2.0 ** -14)
    assert (np.abs(value(w, fmt) * each - values) <= 1.0001 * ERROR[fmt] * unit).all()
    size = np.abs(value(w, fmt))
    for row in np.delete(size, 3, axis=0):
        assert row.max() == LARGEST[fmt], "the whole range is used"


def test_refused():
    with pytest.raises(ModelError, match="not finite"):
        quantise(np.array([[1, np.inf]]), Format.INT8)
    with pytest.raises(ValueError, match="8 bits"):
        quantise(np.ones((1, 1)), Format.BF16)
    with pytest.raises(ValueError, match="NaN"):
        to_format(np.array([np.nan]), Format.INT8)
