# SPDX-License-Identifier: BSD-2-Clause
"""Gated networks on the generated Verilog: the reference's bits, the tile kept at work."""

import numpy as np
import pytest

from logicpim.driver.ffn import FfnJob, FfnKernels
from logicpim.driver.kernel import Kernels
from logicpim.driver.memory import Memory
from logicpim.driver.network import load_ffn, place
from logicpim.driver.stats import Stats
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.verilog import VerilatorDevice
from logicpim.spec.functions import Function
from logicpim.spec.presets import PRESETS


@pytest.mark.parametrize("channels", [1, 4])
def test_network(channels, seed):
    """Several networks in one program, each waiting for its own results alone."""
    config, random = PRESETS["small"].replace(channels=channels), np.random.default_rng(seed)
    hidden, inner, results = 40, 33, []
    weights = [(random.standard_normal(shape) * shape[1] ** -0.5).astype(np.float16).view(np.uint16)
               for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
    xs = [random.standard_normal((m, hidden)).astype(np.float16).view(np.uint16) for m in (2, 1, 3)]
    stats = Stats()
    for kind in (VerilatorDevice, ReferenceDevice):
        with kind(config) as device:
            ffn = place(Memory(config), hidden, inner, 0, bundles=2)
            load_ffn(device, ffn, *weights)
            network = FfnKernels(Kernels(device), Function.GELU)
            jobs = [FfnJob(x, ffn) for x in xs]
            results.append([*network.run(jobs, stats), *network.inner(jobs, Stats())])
    for found, expected in zip(*results, strict=True):
        assert np.array_equal(found, expected)
    assert stats.cycles == stats.active + sum(stats.stalls.values())
    assert 0 < stats.stalls["function"] < stats.cycles / 2
