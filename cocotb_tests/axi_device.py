# SPDX-License-Identifier: BSD-2-Clause
"""What is on a bench as a :class:`Device`: the driver's own programs reach it by AXI alone."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from cocotb.task import resume
from cocotb.triggers import gather

from logicpim.spec.device import Device, Region, descriptors, in_turn
from logicpim.spec.isa import Buffer, Completion, Instruction

from .axi_bench import AxiBench


class AxiDevice(Device):
    """Channels behind the AXI masters of a bench, for functions run by :func:`cocotb.task.bridge`.

    Nothing is told to the bench's mirror, which is a device too: give it the same work. Counters
    are left alone: to read them takes longer than a kernel.

    Parameters
    ----------
    bench : AxiBench
    """

    def __init__(self, bench: AxiBench):
        self.bench, self.config = bench, bench.config

    def dram(self, channel: int) -> np.ndarray:
        return self.bench.drams[channel].model.memory

    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        self.write_buffers(buffer, line, {channel: data})

    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        return self.read_buffers(buffer, line, {channel: size})[channel]

    def write_buffers(self, buffer: Buffer, line: int, data: Mapping[int, np.ndarray]) -> None:
        at = line * self.config.line_bytes
        self._together(self.bench.put(Region[buffer.name], at, each, channel)
                       for channel, each in data.items())

    def read_buffers(self, buffer: Buffer, line: int, sizes: Mapping[int, int]
                     ) -> dict[int, np.ndarray]:
        at = line * self.config.line_bytes
        found = self._together(self.bench.read(Region[buffer.name], at, size, channel)
                               for channel, size in sizes.items())
        return dict(zip(sizes, found, strict=True))

    def write_dram(self, data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        size = self.config.granule_bytes
        self._together(self.bench.put(Region.DRAM, int(granule) * size, each, channel)
                       for channel, (granules, rows) in data.items()
                       for granule, each in zip(granules, rows, strict=True))

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]]
                ) -> dict[int, list[Completion]]:
        words = {channel: descriptors(program) for channel, program in programs.items()}
        return in_turn(words, self._issue)

    def execute_stack(self, program: Sequence[tuple[Instruction | int, Collection[int]]]
                      ) -> list[Completion]:
        words, sets = self._stack_program(program)
        return self._issue(list(zip(words, sets, strict=True)))

    def counters(self, channel: int) -> dict[str, int]:
        return {}

    def clear_counters(self) -> None:
        pass

    def _issue(self, program) -> list[Completion]:
        return resume(self.bench.issue)(program)

    @staticmethod
    def _together(work) -> list:
        async def all_of_it():
            return await gather(*work)
        return list(resume(all_of_it)())
