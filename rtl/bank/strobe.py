# SPDX-License-Identifier: BSD-2-Clause
"""Data strobes: each column command, delayed until its data is on the bus."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import DataStrobes, column_command
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand


class Delay(wiring.Component):
    """A value, some clocks later; initially 0.

    Parameters
    ----------
    width : int
    clocks : int

    Members
    -------
    i : In(width)
    o : Out(width)
    """

    def __init__(self, width: int, clocks: int):
        self.width, self.clocks = width, clocks
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        value = self.i
        for index in range(self.clocks):
            stage = Signal(self.width, name=f"stage{index}")
            m.d.sync += stage.eq(value)
            value = stage
        m.d.comb += self.o.eq(value)
        return m


class StrobeGenerator(wiring.Component):
    """Raises the strobe of each column command in the clock of its data transfer.

    Parameters
    ----------
    config : Config

    Members
    -------
    bundle, host : In, the column commands decided on, one clock before they are on the bus
    last : In(1), that of the bundle is the last one of a job
    part : In, the part that that of the host accesses
    data, mask : In, what that of the host in the clock before writes if it is a WR
    strobes : Out(DataStrobes)
    host_done : Out(1), pulse for each host access: a read with its data, a write with its WR on
        the bus; as no write is issued before the data of earlier reads has passed, those of
        one part are in order
    done_part : Out, the part of that access
    job_done : Out(1), pulse for each job: a read with its last ALL_RD on the bus, a write with
        its last word on the data bus
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "bundle": In(column_command(config)), "host": In(column_command(config)),
            "last": In(1), "part": In(range(config.dram.parts)),
            "done_part": Out(range(config.dram.parts)),
            "data": In(config.granule_bits), "mask": In(config.granule_bytes),
            "strobes": Out(DataStrobes(config)), "host_done": Out(1), "job_done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        timing = self.config.dram_timing
        is_ = {c: (self.bundle if c.is_bundle else self.host).command == c
               for c in DramCommand if c.is_column}
        writes = Cat(is_[DramCommand.WR], is_[DramCommand.ALL_WR],
                     is_[DramCommand.ALL_WR] & self.last)
        reads = Cat(is_[DramCommand.RD], is_[DramCommand.ALL_RD])

        def late(name, value, latency, known=1):
            m.submodules[name] = unit = Delay(len(Value.cast(value)), latency + known)
            m.d.comb += unit.i.eq(value)
            return unit.o

        s, part = self.strobes, Signal.like(self.part)
        read_part = late("parts", self.part, timing.read_latency)
        wrote_last, host_wrote, read_last = Signal(), Signal(), Signal()
        m.d.comb += [
            Cat(s.host_write, s.bundle_write, wrote_last).eq(
                late("writes", writes, timing.write_latency)),
            Cat(s.host_wdata, s.host_wmask).eq(
                late("data", Cat(self.data, self.mask), timing.write_latency, known=0)),
            Cat(s.host_read, s.bundle_read).eq(late("reads", reads, timing.read_latency)),
            self.host_done.eq(s.host_read | host_wrote), self.job_done.eq(wrote_last | read_last),
        ]
        m.d.comb += self.done_part.eq(Mux(s.host_read, read_part, part))
        m.d.sync += [part.eq(self.part), host_wrote.eq(is_[DramCommand.WR]),
                     read_last.eq(is_[DramCommand.ALL_RD] & self.last)]
        return m
