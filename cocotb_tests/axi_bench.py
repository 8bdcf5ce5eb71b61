# SPDX-License-Identifier: BSD-2-Clause
"""The bench around a channel with AMBA ports; the masters are those of cocotbext-axi."""

import logging

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiResp

from logicpim.sim.dram.checker import check_trace
from logicpim.spec.device import Counter, Region
from logicpim.spec.host import INSTRUCTION_WORDS, REGISTERS, counter_offset, memory_map
from logicpim.spec.isa import Buffer, Completion, Instruction, Status

from .bench import LONGEST, PERIOD_NS, Bench

OFFSET = {name: register.offset for name, register in REGISTERS.items()}
MASK = {(r.name, f.name): f.mask for r in REGISTERS.values() for f in r.fields}


def axi_test(function):
    """A cocotb test of a channel with AMBA ports: ``async def test(bench)``."""
    async def test(dut):
        bench = AxiBench(dut, function.__name__)
        await bench.start()
        await function(bench)
        await bench.close()

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(test, name, getattr(function, name))
    return cocotb.test()(test)


class AxiBench(Bench):
    """As :class:`Bench`, by AXI alone: the mirror is told what is written.

    Attributes
    ----------
    axi : AxiMaster
    lite : AxiLiteMaster
    windows : dict
        :class:`~logicpim.spec.host.Window` by region.
    """

    async def start(self) -> None:
        """Reset the channel."""
        self.windows = {window.region: window for window in memory_map(self.config)}
        self._reads = self.dram.idle_reads()
        self._drive_reads()
        self._drive("rst", 1)
        self.dut.clk.value = 0
        self.axi = AxiMaster(AxiBus.from_prefix(self.dut, "s_axi"), self.dut.clk, self.dut.rst)
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(self.dut, "s_axil"), self.dut.clk,
                                  self.dut.rst)
        for master in (self.axi, self.lite):
            for side in (master.write_if, master.read_if):
                side.log.setLevel(logging.WARNING)  # or a line for each access
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
        await self.clocks(3)
        self._drive("rst", 0)
        cocotb.start_soon(self._serve())
        await self.clocks(3)
        for region in (Region.INPUT, Region.TEMP):
            size = self.windows[region].size
            await self.write(region, 0, self.data_rng.integers(0, 256, size, np.uint8))

    async def close(self) -> None:
        """Everything that was written is there, and the DRAM was well treated."""
        self.pause(0)
        for region in (Region.INPUT, Region.TEMP):
            assert np.array_equal(await self.read(region, 0, self.windows[region].size),
                                  self.mirrored(region)), region
        await self.clocks(20)
        self.compare_dram()
        assert not self.dram.faults, "\n".join(self.dram.faults[:10])
        violations = check_trace(self.dram.trace, self.config, end_clock=2 * self.dram.clock)
        assert not violations, "\n".join(map(str, violations[:10]))

    async def _serve(self) -> None:
        while True:
            self._serve_dram()
            assert self.dram.clock < LONGEST, f"no end after {LONGEST} clocks"
            await FallingEdge(self.dut.clk)

    def pause(self, often: float) -> None:
        """How often each AXI channel pauses for a clock on the master's side."""
        def pauses():
            while True:
                yield self.rng.random() < often
        for master in (self.axi, self.lite):
            for channel in (master.write_if.aw_channel, master.write_if.w_channel,
                            master.write_if.b_channel, master.read_if.ar_channel,
                            master.read_if.r_channel):
                channel.clear_pause_generator()
                channel.pause = False
                if often:
                    channel.set_pause_generator(pauses())

    # -- data ----------------------------------------------------------------------------------

    def mirrored(self, region: Region) -> np.ndarray:
        """The bytes of a region in the mirror, to be changed."""
        if region is Region.DRAM:
            return self.mirror.dram(0)
        return self.mirror._buffer(0, Buffer[region.name])

    async def write(self, region: Region, at: int, data: np.ndarray, **options) -> None:
        """Write bytes from byte ``at`` of a region on, there and in the mirror."""
        self.mirrored(region)[at:at + len(data)] = data
        done = await self.axi.write(self.windows[region].base + at, data.tobytes(), **options)
        assert done.resp == AxiResp.OKAY, f"{region.name} {at:#x}: {done.resp}"

    async def read(self, region: Region, at: int, count: int, **options) -> np.ndarray:
        """Read ``count`` bytes from byte ``at`` of a region on."""
        done = await self.axi.read(self.windows[region].base + at, count, **options)
        assert done.resp == AxiResp.OKAY, f"{region.name} {at:#x}: {done.resp}"
        return np.frombuffer(done.data, np.uint8)

    # -- control -------------------------------------------------------------------------------

    async def peek(self, offset: int) -> int:
        """A register."""
        done = await self.lite.read(offset, 4)
        assert done.resp == AxiResp.OKAY, f"{offset:#x}: {done.resp}"
        return int.from_bytes(done.data, "little")

    async def poke(self, offset: int, value: int) -> AxiResp:
        """Write a register; returns the response."""
        return (await self.lite.write(offset, value.to_bytes(4, "little"))).resp

    async def queue(self, insn: Instruction | int) -> AxiResp:
        """Write a descriptor; the response to its last word."""
        word = insn.encode() if isinstance(insn, Instruction) else insn
        for i in range(INSTRUCTION_WORDS):
            resp = await self.poke(OFFSET["instruction"] + 4 * i, word >> 32 * i & 0xffffffff)
        return resp

    async def completion(self) -> Completion | None:
        """The oldest completion, or None."""
        word = await self.peek(OFFSET["completion"])
        if not word & MASK["completion", "valid"]:
            assert word == 0
            return None
        return Completion(word & 0xffff, Status(word >> 16 & 255))

    async def execute(self, *program: Instruction | int) -> list[Status]:
        """Queue instructions and wait for the interrupt; the channel says what the mirror says."""
        words = [i.encode() if isinstance(i, Instruction) else i for i in program]
        await self.poke(OFFSET["irq_enable"], MASK["irq_pending", "completion"])
        for word in words:
            assert await self.queue(word) == AxiResp.OKAY
        done = []
        for _ in words:
            await self.until(lambda: self._value("irq"))
            done.append(await self.completion())
        assert await self.completion() is None and not self._value("irq")
        assert done == self.mirror.execute({0: words})[0]
        return [completion.status for completion in done]

    async def counters(self) -> dict[Counter, int]:
        """The value of each counter."""
        values = {}
        for counter in Counter:
            low = await self.peek(counter_offset(counter))
            values[counter] = low | await self.peek(counter_offset(counter) + 4) << 32
        return values
