# SPDX-License-Identifier: BSD-2-Clause
"""The host agent: conventional open-page accesses to single banks, in order, rows ahead of time."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import column_command, host_access, row_command
from logicpim.rtl.stream import Queue, transfer
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .timer import PathTimers

AHEAD = 16
"""Accesses between closing, opening and accessing a row: rows are ready that much ahead."""


class Place:
    """The parts of a granule address, as Organisation.locate and bank_of read it.

    From its top: bundle (rank, high), row, column, lane (low, group). ``bank`` counts the lanes of
    all bundles, ``bank_in_group`` is what commands carry.
    """

    def __init__(self, config: Config, address: Value):
        org, at = config.dram, 0
        for name, size in (("group", org.bank_groups), ("low", org.parts),
                           ("column", org.columns), ("row", org.rows),
                           ("high", org.bundles_per_rank), ("rank", org.ranks)):
            setattr(self, name, address[at:at + ceil_log2(size)])
            at += ceil_log2(size)
        self.bundle = Cat(self.high, self.rank)
        self.bank = Cat(self.group, self.low, self.bundle)
        self.bank_in_group = Cat(self.low, self.high)
        self.bus_group = Cat(self.group, self.rank)

    def name_bank(self, command) -> list:
        """Assignments of the bank to a command."""
        return [command.rank.eq(self.rank), command.bank_group.eq(self.group),
                command.bank.eq(self.bank_in_group)]


def prepared_access(config: Config) -> data.StructLayout:
    """An access on its way; ``activate``: its row must still be opened."""
    return data.StructLayout({"address": unsigned(ceil_log2(config.dram.granules)),
                              "write": unsigned(1), "activate": unsigned(1)})


class HostAgent(wiring.Component):
    """Three stages, each in order: close a wrong row, open the right one, access it.

    A stage works on accesses up to :data:`AHEAD` before the next one does, so a row that is needed
    is opened while earlier accesses move data. A row stays open until another one of its bank is
    needed or the bundle is taken away, which the bundle machine does, and not before each access
    that passed the first stage is made (``idle``). Row and column commands go into slot 1.

    Parameters
    ----------
    config : Config

    Members
    -------
    host : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    wants : Out(bundles), the bundle of the access in the first stage
    grant : In(bundles), it may pass
    passed, idle : Out(bundles), an access passes; none of this bundle is on its way
    closed : In(bundles), all banks of the bundle are closed in this clock
    may_activate, may_access, may_precharge : In(banks), by bundle and lane
    may_open : In(ranks), the rank may take an activate of the host
    row, column : Out, commands of this clock
    bank : Out, of ``row``; ``accessed`` : Out, of ``column``
    data, mask : Out, what a WR writes
    """

    def __init__(self, config: Config):
        self.config = config
        org = config.dram
        bundles, self.banks = org.bundles, org.bundles * org.bundle_banks
        super().__init__({
            "host": In(stream.Signature(host_access(config))),
            "wants": Out(bundles), "grant": In(bundles), "passed": Out(bundles),
            "idle": Out(bundles), "closed": In(bundles),
            "may_activate": In(self.banks), "may_access": In(self.banks),
            "may_precharge": In(self.banks), "may_open": In(org.ranks),
            "row": Out(row_command(config)), "column": Out(column_command(config)),
            "bank": Out(range(self.banks)), "accessed": Out(range(self.banks)),
            "data": Out(config.granule_bits), "mask": Out(config.granule_bytes)})

    def _close(self, m: Module, source, sink, blocked):
        """The first stage: at most a precharge for each access; (bank, precharge, passes)."""
        org = self.config.dram
        access = source.payload
        place = Place(self.config, access.address)
        held, hit, pending = (Signal(self.banks, name=n) for n in ("held", "hit", "pending"))
        granted, precharge, passes, hits = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.wants.eq(source.valid << place.bundle),
            granted.eq(source.valid & self.grant.bit_select(place.bundle, 1)),
            hits.eq(hit.bit_select(place.bank, 1)),
            passes.eq(granted & (hits | ~held.bit_select(place.bank, 1)) & sink.ready),
            precharge.eq(granted & ~hits & held.bit_select(place.bank, 1) & ~blocked
                         & ~pending.bit_select(place.bank, 1)
                         & self.may_precharge.bit_select(place.bank, 1)),
            sink.valid.eq(granted & (hits | ~held.bit_select(place.bank, 1))),
            sink.payload.address.eq(access.address), sink.payload.write.eq(access.write),
            sink.payload.activate.eq(~hits), source.ready.eq(passes),
            self.passed.eq(passes << place.bundle),
        ]
        made = self.column.command != DramCommand.NOP
        for index in range(self.banks):
            row = Signal(len(place.row), name=f"row{index}")
            count = Signal(range(2 * AHEAD + 8), name=f"count{index}")
            here = place.bank == index
            m.d.comb += [hit[index].eq(held[index] & (row == place.row)),
                         pending[index].eq(count != 0)]
            m.d.sync += count.eq(count + (passes & here) - (made & (self.accessed == index)))
            with m.If(passes & here):
                m.d.sync += [row.eq(place.row), held[index].eq(1)]
            with m.Elif((precharge & here) | self.closed[index // org.bundle_banks]):
                m.d.sync += held[index].eq(0)
        for bundle in range(org.bundles):
            m.d.comb += self.idle[bundle].eq(~pending.word_select(bundle, org.bundle_banks).any())
        return place, precharge

    def _open(self, m: Module, source, sink):
        """The second stage: at most an activate for each access; (bank, activate)."""
        place = Place(self.config, source.payload.address)
        activate, ready = Signal(), Signal()
        m.d.comb += [
            ready.eq(self.may_activate.bit_select(place.bank, 1)
                     & self.may_open.bit_select(place.rank, 1)),
            sink.valid.eq(source.valid & (ready | ~source.payload.activate)),
            sink.payload.eq(source.payload), source.ready.eq(sink.valid & sink.ready),
            activate.eq(transfer(source) & source.payload.activate),
        ]
        return place, activate

    def _access(self, m: Module, source, data) -> None:
        """The third stage: column commands."""
        m.submodules.timers = timers = PathTimers(self.config, host=True)
        place, write = Place(self.config, source.payload.address), source.payload.write
        issue = Signal()
        m.d.comb += [
            timers.group.eq(place.bus_group), self.accessed.eq(place.bank),
            issue.eq(source.valid & data.valid & self.may_access.bit_select(place.bank, 1)
                     & Mux(write, timers.may_write, timers.may_read)),
            timers.read.eq(issue & ~write), timers.write.eq(issue & write),
            source.ready.eq(issue), data.ready.eq(issue),
            self.data.eq(data.payload.data), self.mask.eq(data.payload.mask),
        ]
        with m.If(issue):
            m.d.comb += [self.column.command.eq(Mux(write, DramCommand.WR, DramCommand.RD)),
                         self.column.column.eq(place.column), *place.name_bank(self.column)]

    def elaborate(self, platform):
        m = Module()
        config = self.config
        written = data.StructLayout({name: shape for name, shape in host_access(config).members
                                     .items() if name in ("data", "mask")})
        entry = prepared_access(config)
        m.submodules.arrived = arrived = Queue(entry, depth=4)
        m.submodules.closed_rows = closed = Queue(entry, depth=AHEAD)
        m.submodules.opened_rows = opened = Queue(entry, depth=AHEAD)
        m.submodules.written = values = Queue(written, depth=2 * AHEAD + 4)
        request = self.host.payload
        m.d.comb += [
            self.host.ready.eq(arrived.i.ready & values.i.ready),
            arrived.i.valid.eq(self.host.valid & values.i.ready),
            values.i.valid.eq(self.host.valid & arrived.i.ready),
            arrived.i.payload.address.eq(request.address),
            arrived.i.payload.write.eq(request.write),
            values.i.payload.data.eq(request.data), values.i.payload.mask.eq(request.mask),
        ]
        opening, activate = self._open(m, closed.o, opened.i)
        closing, precharge = self._close(m, arrived.o, closed.i, activate)
        self._access(m, opened.o, values.o)
        with m.If(activate):
            m.d.comb += [self.row.command.eq(DramCommand.ACT), self.bank.eq(opening.bank),
                         self.row.row.eq(opening.row), *opening.name_bank(self.row)]
        with m.Elif(precharge):
            m.d.comb += [self.row.command.eq(DramCommand.PRE), self.bank.eq(closing.bank),
                         *closing.name_bank(self.row)]
        return m
