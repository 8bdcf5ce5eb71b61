# SPDX-License-Identifier: BSD-2-Clause
"""The functional DRAM: when data is there, where it is, and what it refuses."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from logicpim.rtl.signatures import CommandBus, DataBus
from logicpim.sim.dram.checker import check_trace
from logicpim.sim.dram.model import NOP, DramModel, Slot
from logicpim.sim.dram.pysim import dram_process
from logicpim.sim.dram.trace import Record
from logicpim.spec.dram import DramCommand as D
from logicpim.spec.dram import Organisation
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
ORG, TIMING = SMALL.dram, SMALL.dram_timing
WORD, GRANULE = SMALL.word_bytes, SMALL.granule_bytes


@pytest.fixture
def model(seed):
    model = DramModel(SMALL, seed=seed)
    model.memory[:] = np.random.default_rng(seed).integers(0, 256, len(model.memory), np.uint8)
    return model


def word_at(model, bundle, row, column):
    at = ((bundle * ORG.rows + row) * ORG.columns + column) * WORD
    return model.memory[at:at + WORD]


def granule_at(model, group, bank, row, column):
    bundle, lane = ORG.lane_of(0, group, bank)
    return word_at(model, bundle, row, column)[lane * GRANULE:(lane + 1) * GRANULE]


def number(data):
    return int.from_bytes(data.tobytes(), "little")


@pytest.mark.parametrize("slot", [0, 1])
def test_bundle_read(model, slot):
    """The word is on the bus in clock c + read_latency alone, garbage around it."""
    model.step([Slot(D.ALL_ACT, bank=1, address=9)], path=0b10)
    for _ in range(10):
        model.step()
    columns = [NOP, NOP]
    columns[slot] = Slot(D.ALL_RD, bank=1, address=5)
    command_clock = model.clock
    reads = [model.step((), columns, 0b10)[0]]
    reads += [model.step(path=0b10)[0] for _ in range(TIMING.read_latency + 3)]
    seen = dict(enumerate(reads, command_clock + 1))
    want = number(word_at(model, 1, 9, 5))
    assert [c for c, data in seen.items() if data == want] == [
        command_clock + TIMING.read_latency]
    assert len(set(seen.values())) == len(seen)
    assert model.records[-1] == Record(2 * command_clock + slot, D.ALL_RD, 0, 0, 1, 0, 5)
    assert model.faults == []


@pytest.mark.parametrize("slot", [0, 1])
def test_host_read(model, slot):
    model.step([Slot(D.ACT, bank_group=1, bank=2, address=33)], path=0b01)
    columns = [NOP, NOP]
    columns[slot] = Slot(D.RD, bank_group=1, bank=2, address=7)
    start = model.clock
    seen = [model.step((), columns, 0b01)[1]]
    seen += [model.step(path=0b01)[1] for _ in range(TIMING.read_latency + 2)]
    want = number(granule_at(model, 1, 2, 33, 7))
    assert [start + 1 + i for i, data in enumerate(seen) if data == want] == [
        start + TIMING.read_latency]
    assert model.faults == []


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_write(model, late):
    """Data is taken in clock c + write_latency alone; the mask chooses bytes."""
    before = model.memory.copy()
    rng = random.Random(1)
    model.step([Slot(D.ALL_ACT, bank=0, address=3), Slot(D.ACT, bank_group=1, bank=3, address=4)],
               path=0b01)
    bundle, host = rng.getrandbits(8 * WORD), rng.getrandbits(8 * GRANULE)
    start = model.clock
    due = start + TIMING.write_latency
    while model.clock < due + 3:
        columns = [Slot(D.ALL_WR, bank=0, address=1), Slot(D.WR, 0, 1, 3, 2)]
        assert model.takes_bundle_wdata == model.takes_host_wdata == (model.clock == due)
        now = model.clock == due + late
        model.step((), columns if model.clock == start else (), 0b01,
                   bundle * now, host * now, 0b1010)
    hit = late == 0
    assert (number(word_at(model, 0, 3, 1)) == bundle) == hit
    cells = granule_at(model, 1, 3, 4, 2)
    new = np.frombuffer(host.to_bytes(GRANULE, "little"), np.uint8)
    assert (list(cells[[1, 3]]) == list(new[[1, 3]])) == hit
    word_at(model, 0, 3, 1)[:] = word_at_of(before, 0, 3, 1)
    bundle, lane = ORG.lane_of(0, 1, 3)
    word_at(model, bundle, 4, 2)[lane * GRANULE:][[1, 3]] = word_at_of(
        before, bundle, 4, 2)[lane * GRANULE:][[1, 3]]
    assert np.array_equal(model.memory, before)
    assert model.faults == []


def word_at_of(memory, bundle, row, column):
    at = ((bundle * ORG.rows + row) * ORG.columns + column) * WORD
    return memory[at:at + WORD]


def test_host_and_bundle_see_one_memory(model):
    """A word written by the bundle path is read granule by granule by the xPU path."""
    data = random.Random(2).getrandbits(8 * WORD)
    model.step([Slot(D.ALL_ACT, bank=1, address=6)], [Slot(D.ALL_WR, bank=1, address=4)], 0b10)
    for _ in range(TIMING.write_latency):
        model.step(path=0b10, bundle_wdata=data)
    for lane in range(ORG.bundle_banks):
        _, group, bank = ORG.bank_of(1, lane)
        read = model.step((), [Slot(D.RD, 0, group, bank, 4)])
        for _ in range(TIMING.read_latency - 1):
            read = model.step()
        assert read[1] == data >> 8 * GRANULE * lane & (1 << 8 * GRANULE) - 1


def test_each_bank_has_its_own_row(model):
    """Lanes opened one by one at different rows serve a bundle read each from its own."""
    rows = [11, 22, 33, 44]
    for lane, row in enumerate(rows):
        _, group, bank = ORG.bank_of(0, lane)
        model.step([Slot(D.ACT, 0, group, bank, row)], path=1)
    read = model.step((), [Slot(D.ALL_RD, bank=0, address=2)], 1)
    for _ in range(TIMING.read_latency - 1):
        read = model.step(path=1)
    want = b"".join(word_at(model, 0, row, 2)[lane * GRANULE:(lane + 1) * GRANULE].tobytes()
                    for lane, row in enumerate(rows))
    assert read[0] == int.from_bytes(want, "little")


OPEN = [Slot(D.ALL_ACT, bank=1, address=9)]


@pytest.mark.parametrize("opened, columns, paths, fault", [
    ((), [Slot(D.ALL_RD, bank=1)], 2, "closed bank"),
    (OPEN, [Slot(D.ALL_RD, bank=1)], 1, "ALL_RD of bundle 1 with path bit 0"),
    (OPEN, [Slot(D.RD, bank=2)], 2, "RD of bundle 1 with path bit 1"),
    (OPEN, [Slot(D.ALL_RD, bank=1)], {0: 2}, "data of bundle 1 with path bit 0"),
    (OPEN, [Slot(D.WR, bank=2)], {TIMING.write_latency: 2}, "data of bundle 1 with path bit 1"),
    (OPEN, [Slot(D.RD, bank=2)], {TIMING.read_latency: 2}, "data of bundle 1 with path bit 1"),
    (OPEN, [Slot(D.ALL_WR, bank=1), Slot(D.ALL_WR, bank=1, address=1)], 2, "together with"),
    (OPEN, [Slot(D.ALL_RD, bank=2)], 2, "not there"),
    (OPEN, [Slot(D.RD, bank=4)], 0, "not there"),
    (OPEN, [Slot(D.RD, rank=1, bank=2)], 0, "not there"),
    (OPEN, [Slot(D.RD, bank=2, address=8)], 0, "not there"),
    (OPEN, [Slot(D.ACT, bank=2)], 0, "ACT on the column bus"),
    (OPEN, [Slot(12)], 0, "command code 12"),
])
def test_faults(model, opened, columns, paths, fault):
    before = model.memory.copy()
    model.step(opened, path=0b10)
    for clock in range(TIMING.read_latency + 2):
        path = paths.get(clock, 0) if isinstance(paths, dict) else paths
        model.step((), columns if clock == 0 else (), path, bundle_wdata=1, host_wdata=1,
                   host_wmask=1)
    assert fault in model.faults[0]
    together = "together" in fault
    assert np.array_equal(model.memory, before) != together


def test_column_command_on_row_bus(model):
    model.step([Slot(D.RD)])
    assert "RD on the row bus" in model.faults[0]


def test_capacity_is_lazy():
    """The whole capacity is there; only what is touched takes memory."""
    config = PRESETS["channel"]
    model = DramModel(config)
    assert len(model.memory) == 512 << 20
    model.step([Slot(D.ALL_ACT, rank=1, bank=3, address=16383)],
               [Slot(D.ALL_WR, rank=1, bank=3, address=31)], 0b1000)
    for _ in range(config.dram_timing.write_latency):
        model.step(path=0b1000, bundle_wdata=0xA5 << 2040)
    assert model.memory[-1] == 0xA5 and model.faults == []


def test_latency_of_zero_and_more():
    """A write latency below one clock takes the data of the command's own clock."""
    config = SMALL.replace(timing_overrides={"nCWL": 1, "nCL": 1, "nBL": 1})
    model = DramModel(config)
    assert model.takes_bundle_wdata and model.takes_host_wdata
    model.step([Slot(D.ALL_ACT)], [Slot(D.ALL_WR)], 1, bundle_wdata=77)
    assert model.step((), [Slot(D.ALL_RD)], 1)[0] == 77


class Toucher(wiring.Component):
    """Writes a word, reads it back, and keeps what it read."""

    def __init__(self):
        super().__init__({"commands": Out(CommandBus(SMALL)), "data": Out(DataBus(SMALL)),
                          "seen": Out(SMALL.word_bits), "clock": Out(10)})

    def elaborate(self, platform):
        m = Module()
        t = TIMING
        write_at = 2 + t.clocks(t.nRCDWR)
        read_at = write_at + t.clocks(t.nCWL + t.nBL + t.nWTRL)
        m.d.sync += self.clock.eq(self.clock + 1)
        m.d.comb += [self.commands.path.eq(1),
                     self.data.bundle_wdata.eq(self.clock * 0x10001)]
        command = {2: (self.commands.row0, D.ALL_ACT), write_at: (self.commands.column0, D.ALL_WR),
                   read_at: (self.commands.column0, D.ALL_RD)}
        for clock, (slot, code) in command.items():
            with m.If(self.clock == clock):
                m.d.comb += slot.command.eq(code)
        arrives = Signal()
        m.d.comb += arrives.eq(self.clock == read_at + t.read_latency)
        with m.If(arrives):
            m.d.sync += self.seen.eq(self.data.bundle_rdata)
        self.want = (write_at + t.write_latency) * 0x10001
        return m


def test_pysim():
    """In Amaranth's simulator the clocks of data are those of the port's contract."""
    dut = Toucher()
    model = DramModel(SMALL)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_process(dram_process(model, dut.commands, dut.data))

    async def bench(ctx):
        await ctx.tick().repeat(60)
        assert ctx.get(dut.seen) == dut.want

    simulator.add_testbench(bench)
    simulator.run()
    assert model.faults == []
    assert check_trace(model.trace, SMALL) == []
    assert [r.clock for r in model.records][0] == 4


def test_wrong_memory():
    with pytest.raises(ValueError, match="flat array"):
        DramModel(SMALL, np.zeros(10, np.uint8))


def test_odd_organisation(seed):
    """Every granule address is served by the bank, row and column that locate() names."""
    config = PRESETS["channel"].replace(
        dram=Organisation(ranks=2, bank_groups=2, banks_per_group=8, rows=4, columns=4))
    model, org = DramModel(config), config.dram
    model.memory[:] = np.random.default_rng(seed).integers(0, 256, len(model.memory), np.uint8)
    size = config.granule_bytes
    for granule in random.Random(seed).sample(range(org.granules), 100):
        bundle, row, column, lane = org.locate(granule)
        bank = org.bank_of(bundle, lane)
        model.step([Slot(D.ACT, *bank, row)])
        read = model.step([Slot(D.PRE, *bank)], [Slot(D.RD, *bank, column)])
        assert model.faults[-1:] and "closed" in model.faults.pop()
        model.step([Slot(D.ACT, *bank, row)])
        read = model.step((), [Slot(D.RD, *bank, column)])
        for _ in range(config.dram_timing.read_latency - 1):
            read = model.step()
        assert read[1] == number(model.memory[granule * size:(granule + 1) * size])
