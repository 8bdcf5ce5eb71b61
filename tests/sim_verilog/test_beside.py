# SPDX-License-Identifier: BSD-2-Clause
"""The xPU path flat out beside Logic-PIM: what each of them keeps, and every bit of both."""

import numpy as np
import pytest

from logicpim.driver.memory import Memory, load
from logicpim.sim.model import layout
from logicpim.sim.model.gemm import gemm
from logicpim.sim.verilog import VerilatorDevice
from logicpim.sim.verilog.binding import Requests
from logicpim.spec.device import Region
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode
from logicpim.spec.presets import PRESETS


def by_parts(config, count, bundle):
    """Granules of a bundle, row by row: one bank of each group, then the next of each."""
    org, i = config.dram, np.arange(count)
    group, rest = i % org.bank_groups, i // org.bank_groups
    column, rest = rest % org.columns, rest // org.columns
    part, row = rest % org.parts, rest // org.parts
    lane = part * org.bank_groups + group
    return ((bundle * org.rows + row) * org.columns + column) * org.bundle_banks + lane


def by_address(config, count, bundle):
    """Granules of a bundle: all its banks in turn, row by row."""
    return bundle * (config.dram.granules // config.dram.bundles) + np.arange(count)


def at_random(config, count, bundle):
    """Any granules of a bundle, a row of its own each."""
    size = config.dram.granules // config.dram.bundles
    return bundle * size + np.random.default_rng(count).integers(0, size, count // 8)


@pytest.mark.full
@pytest.mark.parametrize("order, least", [(by_parts, 0.85), (by_address, 0.85), (at_random, 0.08)])
def test_both_at_full_speed(seed, order, least):
    config, n, k = PRESETS["channel"], 2048, 4096
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, k)).astype(np.float16).view(np.uint16)
    x = rng.standard_normal((1, k)).astype(np.float16).view(np.uint16)
    matrix = Memory(config).place(n, k, 0, bundles=2)
    words = layout.weight_words(config, n, k)
    with VerilatorDevice(config, trace=True) as device:
        load(device, matrix, w)
        device.write_buffer(0, Buffer.INPUT, 0, layout.pack_operands(config, x))
        at = order(config, int(2.3 * words), 2)
        size = config.granule_bytes
        memory = device.dram(0).reshape(-1, size)
        memory[at] = rng.integers(0, 256, (len(at), size), np.uint8)
        reads = Requests(np.zeros(len(at), np.uint8), np.full(len(at), Region.DRAM, np.uint8), at,
                         np.zeros((len(at), size), np.uint8))
        device.execute({0: [Instruction(
            Opcode.GEMM, m=1, n=n, k=k, address=matrix.pieces[0].address,
            interleave=matrix.interleave, output_format=Format.FP32)]}, {0: reads})
        assert np.array_equal(reads.answers.reshape(len(at), size), memory[at])
        lines = layout.line_count(config, 1, n, Format.FP32) * config.line_bytes
        y = layout.unpack_results(config, device.read_buffer(0, Buffer.TEMP, 0, lines), 1, n,
                                  Format.FP32)
        assert np.array_equal(y, gemm(x, w, config.tile.depth, Format.FP32))
        trace = device.trace(0)
        stream = trace["clock"][trace["command"] == DramCommand.ALL_RD]
        host = trace["clock"][trace["command"] == DramCommand.RD]
        beside = host[(host >= stream[0]) & (host <= stream[-1])]
        shares = (2 * words / device.cycles[0],
                  len(beside) / ((min(stream[-1], host[-1]) - stream[0]) / 2))
        print(f"Logic-PIM {shares[0]:.3f}, xPU {shares[1]:.3f} of their peaks")
        assert shares[0] >= 0.90 and shares[1] >= least
