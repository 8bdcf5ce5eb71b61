# SPDX-License-Identifier: BSD-2-Clause
"""A DRAM of block RAM behind the command and data buses of a channel."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.signatures import CommandBus, DataBus
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand
from logicpim.spec.errors import ConfigError

LATENCY = 3
"""Clocks from a read command to its data: the command, the memory, the choice of bank."""


class BankMemory(wiring.Component):
    """The granules of one bank: one read and one write port, bytes enabled one by one.

    What is read in the clock that writes it is not used: a controller keeps them apart.

    Parameters
    ----------
    words, bits : int
        Granules and their width.

    Members
    -------
    read_address : In; ``read_data`` : Out, in the clock after it
    write_enable : In, a bit for each byte; ``write_address``, ``write_data`` : In
    """

    def __init__(self, *, words: int, bits: int):
        self.words, self.bits = words, bits
        address = ceil_log2(words)
        super().__init__({
            "read_address": In(address), "read_data": wiring.Out(bits),
            "write_enable": In(bits // 8), "write_address": In(address), "write_data": In(bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.bits, depth=self.words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8)
        m.d.comb += [
            read.en.eq(1), read.addr.eq(self.read_address), self.read_data.eq(read.data),
            write.en.eq(self.write_enable), write.addr.eq(self.write_address),
            write.data.eq(self.write_data)]
        return m


class BlockDram(wiring.Component):
    """All banks of a channel, with the row that each has open.

    Promises what :class:`~logicpim.rtl.signatures.DataBus` says of a DRAM to a controller that
    keeps the distances of the timing rows ``bram`` (``logicpim/spec/dram.py``): data in the clock
    of the latency. It ignores refresh and precharge, which it does not need. In other clocks the
    read buses carry whatever was read last.

    Bundle commands come in column slot 0, those of the xPU path in slot 1, as
    :class:`~logicpim.rtl.bank.controller.DramController` has them.

    Parameters
    ----------
    config : Config
        Without ``ecc`` and ``lane_repair``; of a timing that reads in three clocks or more.

    Members
    -------
    bus : In(CommandBus)
    data : In, the DRAM's side of a :class:`~logicpim.rtl.signatures.DataBus`
    """

    def __init__(self, config: Config):
        self.config = config
        if config.ecc or config.lane_repair:
            raise ConfigError("a DRAM of block RAM has neither check bits nor spare lanes: "
                              "ecc=false, lane_repair=false")
        if config.dram_timing.read_latency < LATENCY:
            raise ConfigError(f"a DRAM of block RAM answers a read in {LATENCY} clocks: "
                              f"nCL + nBL of at least {2 * LATENCY}")
        super().__init__({"bus": In(CommandBus(config)), "data": In(DataBus(config))})

    def _lane(self, slot):
        """(bundle, lane) of the bank that a command for a single bank names."""
        org = self.config.dram
        if org.bundle_banks == org.bank_groups:
            high, low = slot.bank, 0
        else:
            bits = ceil_log2(org.parts)
            high, low = slot.bank >> bits, slot.bank[:bits]
        bundle = slot.rank * org.bundles_per_rank + high
        return bundle, low * org.bank_groups + slot.bank_group

    def _rows(self, m: Module):
        """The open row of each bank, by bundle and lane."""
        org = self.config.dram
        rows = [[Signal(ceil_log2(org.rows), name=f"row_{b}_{i}") for i in range(org.bundle_banks)]
                for b in range(org.bundles)]
        for slot in (self.bus.row0, self.bus.row1):
            bundle, lane = self._lane(slot)
            for b, banks in enumerate(rows):
                for i, row in enumerate(banks):
                    part = i // org.bank_groups
                    hit = (slot.command == DramCommand.ACT) & (bundle == b) & (lane == i)
                    hit |= (slot.command == DramCommand.ALL_ACT) & (slot.bank == b)
                    hit |= ((slot.command == DramCommand.PART_ACT) & (slot.bank == b)
                            & (slot.bank_group == part))
                    with m.If(hit):
                        m.d.sync += row.eq(slot.row)
        return rows

    def _access(self, m: Module, slot, single: bool):
        """The column command of a slot, a clock later, as plain fields."""
        org = self.config.dram
        access = Signal(data.StructLayout({
            "read": 1, "write": 1, "bundle": unsigned(max(1, ceil_log2(org.bundles))),
            "lane": unsigned(max(1, ceil_log2(org.bundle_banks))),
            "column": slot.column.shape()}))
        bundle, lane = self._lane(slot) if single else (slot.bank, 0)
        read, write = ((DramCommand.RD, DramCommand.WR) if single else
                       (DramCommand.ALL_RD, DramCommand.ALL_WR))
        m.d.sync += [access.read.eq(slot.command == read), access.write.eq(slot.command == write),
                     access.bundle.eq(bundle), access.lane.eq(lane), access.column.eq(slot.column)]
        return access

    @staticmethod
    def _later(m: Module, value, clocks: int):
        for _ in range(clocks):
            before, value = value, Signal.like(value)
            m.d.sync += value.eq(before)
        return value

    def elaborate(self, platform):
        m = Module()
        config, org, timing = self.config, self.config.dram, self.config.dram_timing
        rows = self._rows(m)
        whole = self._access(m, self.bus.column0, single=False)
        single = self._access(m, self.bus.column1, single=True)
        reads = [self._later(m, a, timing.read_latency - LATENCY) for a in (whole, single)]
        writes = [self._later(m, a, timing.write_latency) for a in (whole, single)]
        word = self._later(m, self.data.bundle_wdata, 1)
        granule = self._later(m, self.data.host_wdata, 1)
        mask = self._later(m, self.data.host_wmask, 1)
        outputs = []
        for b, banks in enumerate(rows):
            read_column, write_column = (
                Mux(h.bundle == b, Mux(h.read | h.write, h.column, w.column), w.column)
                for w, h in (reads, writes))
            all_bytes = writes[0].write & (writes[0].bundle == b)
            for i, row in enumerate(banks):
                bank = shared(BankMemory(words=org.rows * org.columns, bits=config.granule_bits),
                              "bank_memory")
                m.submodules[f"bank_{b}_{i}"] = bank
                one = writes[1].write & (writes[1].bundle == b) & (writes[1].lane == i)
                m.d.comb += [
                    bank.read_address.eq(self._address(read_column, row)),
                    bank.write_address.eq(self._address(write_column, row)),
                    bank.write_enable.eq(Mux(one, mask, all_bytes.replicate(len(mask)))),
                    bank.write_data.eq(Mux(one, granule,
                                           word.word_select(i, config.granule_bits))),
                ]
                outputs.append(bank.read_data)
        chosen, other = (self._later(m, a, 1) for a in reads)
        words = Array(Cat(outputs[b * org.bundle_banks:][:org.bundle_banks])
                      for b in range(org.bundles))
        m.d.sync += [
            self.data.bundle_rdata.eq(words[chosen.bundle]),
            self.data.host_rdata.eq(Array(outputs)[Cat(
                other.lane[:ceil_log2(org.bundle_banks)], other.bundle)]),
        ]
        return m

    def _address(self, column, row):
        return Cat(column[:ceil_log2(self.config.dram.columns)], row)
