# SPDX-License-Identifier: BSD-2-Clause
"""The bench around a channel or a stack with AMBA ports; the masters are those of cocotbext-axi."""

import logging

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, gather
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiResp

from logicpim.spec.device import Counter, Region
from logicpim.spec.host import (
    INSTRUCTION_WORDS,
    REGISTERS,
    WORD_BITS,
    control_registers,
    counter_offset,
    memory_map,
)
from logicpim.spec.isa import Buffer, Completion, Instruction, Status

from .bench import LONGEST, PERIOD_NS, Bench

OFFSET = {name: register.offset for name, register in REGISTERS.items()}
MASK = {(r.name, f.name): f.mask for r in REGISTERS.values() for f in r.fields}


def axi_test(function):
    """A cocotb test of a channel or a stack with AMBA ports: ``async def test(bench)``."""
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
    channel : int
        Whose data and counters are accessed, and which executes: 0, of a stack a random one.
    ports : list of AxiMaster
        Of each channel.
    lite : AxiLiteMaster
    windows : dict
        :class:`~logicpim.spec.host.Window` by region.
    """

    async def start(self) -> None:
        """Reset the design and fill its buffers with noise."""
        self.windows = {window.region: window for window in memory_map(self.config)}
        self._chosen = set(range(self.config.channels))
        self.channel = self.rng.randrange(len(self.drams))
        for dram in self.drams:
            dram.start()
        self._drive("rst", 1)
        dut = self.dut
        dut.clk.value = 0
        names = ([f"ch{index:02}_s_axi" for index in range(len(self.drams))]
                 if self.config.stack else ["s_axi"])
        self.ports = [AxiMaster(AxiBus.from_prefix(dut, name), dut.clk, dut.rst) for name in names]
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        for master in (*self.ports, self.lite):
            for side in (master.write_if, master.read_if):
                side.log.setLevel(logging.WARNING)  # or a line for each access
        Clock(dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
        await self.clocks(3)
        self._drive("rst", 0)
        cocotb.start_soon(self._serve())
        await self.clocks(3)
        for region in (Region.INPUT, Region.TEMP):
            size = self.windows[region].size
            await gather(*(self.write(region, 0, self.data_rng.integers(0, 256, size, np.uint8),
                                      channel) for channel in range(len(self.ports))))

    async def close(self) -> None:
        """Everything that was written is there, and the DRAM was well treated."""
        self.pause(0)
        for region in (Region.INPUT, Region.TEMP):
            size = self.windows[region].size
            found = await gather(*(self.read(region, 0, size, channel)
                                   for channel in range(len(self.ports))))
            for channel, each in enumerate(found):
                assert np.array_equal(each, self.mirrored(region, channel)), (channel, region)
        await self.clocks(20)
        self.compare_dram()
        for dram in self.drams:
            dram.judge()
        self.dut._log.info("%d clocks", self.dram.clock)

    @property
    def axi(self) -> AxiMaster:
        """The port of :attr:`channel`."""
        return self.ports[self.channel]

    async def _serve(self) -> None:
        while True:
            for dram in self.drams:
                dram.serve()
            assert self.dram.clock < LONGEST, f"no end after {LONGEST} clocks"
            await FallingEdge(self.dut.clk)

    def pause(self, often: float) -> None:
        """How often each AXI channel pauses for a clock on the master's side."""
        def pauses():
            while True:
                yield self.rng.random() < often
        for master in (*self.ports, self.lite):
            for channel in (master.write_if.aw_channel, master.write_if.w_channel,
                            master.write_if.b_channel, master.read_if.ar_channel,
                            master.read_if.r_channel):
                channel.clear_pause_generator()
                channel.pause = False
                if often:
                    channel.set_pause_generator(pauses())

    # -- data ----------------------------------------------------------------------------------

    def mirrored(self, region: Region, channel: int | None = None) -> np.ndarray:
        """The bytes of a region in the mirror, to be changed."""
        channel = self.channel if channel is None else channel
        if region is Region.DRAM:
            return self.mirror.dram(channel)
        return self.mirror._buffer(channel, Buffer[region.name])

    async def write(self, region: Region, at: int, data: np.ndarray, channel: int | None = None,
                    **options) -> None:
        """Write bytes from byte ``at`` of a region on, there and in the mirror."""
        self.mirrored(region, channel)[at:at + len(data)] = data
        await self.put(region, at, data, channel, **options)

    async def put(self, region: Region, at: int, data: np.ndarray, channel: int | None = None,
                  **options) -> None:
        """As :meth:`write`; the mirror is not told."""
        axi = self.axi if channel is None else self.ports[channel]
        done = await axi.write(self.windows[region].base + at, data.tobytes(), **options)
        assert done.resp == AxiResp.OKAY, f"{region.name} {at:#x}: {done.resp}"

    async def read(self, region: Region, at: int, count: int, channel: int | None = None,
                   **options) -> np.ndarray:
        """Read ``count`` bytes from byte ``at`` of a region on."""
        axi = self.axi if channel is None else self.ports[channel]
        done = await axi.read(self.windows[region].base + at, count, **options)
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

    async def choose(self, channels) -> None:
        """Write a stack's set of channels, if it is not the one of before."""
        if not self.config.stack or self._chosen == set(channels):
            return
        self._chosen, mask = set(channels), sum(1 << channel for channel in set(channels))
        register = control_registers(self.config)["channels"]
        for i in range(register.count):
            word = mask >> WORD_BITS * i & 0xffffffff
            assert await self.poke(register.offset + 4 * i, word) == AxiResp.OKAY

    async def issue(self, program) -> list[Completion]:
        """Queue (instruction, its set of channels) as there is room; completions by interrupt."""
        assert await self.poke(OFFSET["irq_enable"], MASK["irq_pending", "completion"]) \
            == AxiResp.OKAY
        done = []
        for insn, channels in program:
            while not await self.peek(OFFSET["status"]) & MASK["status", "ready"]:
                if self._value("irq"):
                    done.append(await self.completion())
            await self.choose(channels)
            assert await self.queue(insn) == AxiResp.OKAY
        while len(done) < len(program):
            await self.until(lambda: self._value("irq"))
            done.append(await self.completion())
        assert await self.completion() is None and not self._value("irq")
        return done

    async def execute_stack(self, program) -> list[Status]:
        """:meth:`issue`; the stack says what the mirror says."""
        done = await self.issue(program)
        assert done == self.mirror.execute_stack(program)
        return [completion.status for completion in done]

    async def execute(self, *program: Instruction | int) -> list[Status]:
        """Run instructions on :attr:`channel`, which says what the mirror says."""
        done = await self.issue([(insn, [self.channel]) for insn in program])
        assert done == self.mirror.execute({self.channel: program})[self.channel]
        return [completion.status for completion in done]

    async def counters(self, channel: int | None = None) -> dict[Counter, int]:
        """The value of each counter."""
        channel, values = self.channel if channel is None else channel, {}
        for counter in Counter:
            at = counter_offset(counter, channel)
            values[counter] = await self.peek(at) | await self.peek(at + 4) << 32
        return values

    async def clear_counters(self, channel: int | None = None) -> None:
        """Set every counter of a channel to zero."""
        channel = self.channel if channel is None else channel
        assert await self.poke(counter_offset(Counter.CYCLES, channel), 0) == AxiResp.OKAY
