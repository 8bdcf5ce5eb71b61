# SPDX-License-Identifier: BSD-2-Clause
"""The same token on 1 or 32 channels of generated Verilog, alone or in a batch: the same bits."""

import numpy as np
import pytest

from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.memory import Memory, load
from logicpim.sim.model.gemm import gemm
from logicpim.sim.verilog import VerilatorDevice
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
M, N, K = 8, 90, 70


@pytest.fixture(scope="module")
def product():
    """Operands, weights and what every device has to give."""
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal((rows, K)).astype(np.float16).view(np.uint16) for rows in (M, N))
    return x, w, gemm(x, w, SMALL.tile.depth, Format.FP32)


@pytest.mark.parametrize("channels", [1, 4, 32])
def test_bits_do_not_depend_on_the_channels(product, channels):
    """Nor on who else is in the batch, nor on the rows that a channel holds beside one's own."""
    x, w, expected = product
    config = SMALL.replace(channels=channels)
    with VerilatorDevice(config) as device:
        kernels, memory = Kernels(device), Memory(config)
        whole, part = (memory.place(n, K, space=0) for n in (N, N - 13))
        load(device, whole, w)
        load(device, part, w[13:])
        for tokens in (slice(0, M), slice(0, 1), slice(3, 4), slice(2, 7)):
            (y, cut), = kernels.run([Job(x[tokens], (whole, part))])
            assert np.array_equal(y, expected[tokens])
            assert np.array_equal(cut, expected[tokens, 13:])
