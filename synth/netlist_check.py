# SPDX-License-Identifier: BSD-2-Clause
"""Random GEMMs on a simulated netlist, held against the golden model bit for bit."""

import numpy as np

from logicpim.sim.model.device import ReferenceDevice, check
from logicpim.spec.config import Config
from logicpim.spec.device import Device
from logicpim.spec.errors import LogicPimError
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status

_PROGRAM = 16
"""GEMMs between two looks at the results: some run into each other."""
_ODD = 0.002
"""Part of the elements that may be anything: infinities, NaN, subnormals."""


def random_gemm(config: Config, random: np.random.Generator) -> Instruction:
    """A GEMM of any kind that the configuration executes, anywhere in DRAM and buffers."""
    tile = config.tile
    while True:
        insn = Instruction(
            Opcode.GEMM, tag=int(random.integers(1 << 16)),
            m=int(random.integers(1, 2 * tile.max_tokens + 2)),
            n=int(random.integers(1, 4 * tile.rows)), k=int(random.integers(1, 8 * tile.depth)),
            weight_format=Format(random.choice(config.weight_formats)),
            input_format=Format(random.choice(config.input_formats)),
            output_format=Format(random.choice(config.output_formats)),
            interleave=int(random.integers(config.dram.bundles.bit_length())),
            transpose=int(random.random() < 0.2), accumulate=int(random.random() < 0.2),
            address=int(random.integers(config.dram.words)),
            source_line=int(random.integers(config.input_lines)),
            result_line=int(random.integers(config.temp_lines)))
        if check(config, insn.encode()) == Status.OK:
            return insn


def random_bytes(size: int, random: np.random.Generator) -> np.ndarray:
    """FP16 numbers around 1, some odd patterns among them, as ``size`` bytes."""
    values = random.standard_normal(size // 2).astype(np.float16).view(np.uint16)
    odd = random.random(size // 2) < _ODD
    values[odd] = random.integers(1 << 16, size=odd.sum(), dtype=np.uint16)
    return values.view(np.uint8)


def compare(config: Config, device: Device, gemms: int, seed: int,
            progress=lambda done, all: None) -> int:
    """Run so many random GEMMs on a device of one channel; how many were not as they should be.

    A program of GEMMs whose results, or anything else in the temp buffer, differ from those of the
    golden model counts as a whole.

    Parameters
    ----------
    config : Config
    device : Device
    gemms, seed : int
    progress : callable, optional
        Called with (done, all).
    """
    random, wrong = np.random.default_rng(seed), 0
    with ReferenceDevice(config) as reference:
        for first in range(0, gemms, _PROGRAM):
            program = [random_gemm(config, random) for _ in range(min(_PROGRAM, gemms - first))]
            memory = random_bytes(config.capacity_bytes, random)
            buffers = {Buffer.INPUT: random_bytes(config.input_buffer_bytes, random),
                       Buffer.TEMP: random_bytes(config.temp_buffer_bytes, random)}
            results = []
            for each in (device, reference):
                each.dram(0)[:] = memory
                for buffer, data in buffers.items():
                    each.write_buffer(0, buffer, 0, data)
                done = each.execute({0: program})[0]
                if any(c.status != Status.OK for c in done):
                    raise LogicPimError(f"a GEMM of seed {seed} was refused: "
                                        f"{[c.status.name for c in done]}")
                results.append(each.read_buffer(0, Buffer.TEMP, 0, config.temp_buffer_bytes))
            wrong += len(program) * (not np.array_equal(*results))
            progress(first + len(program), gemms)
    return wrong
