# SPDX-License-Identifier: BSD-2-Clause
"""The host agent: conventional open-page accesses to single banks, rows ahead of time."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.signatures import column_command, host_access, row_command
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .timer import PathTimers

AHEAD = 16
"""Accesses between closing, opening and accessing a row: rows are ready that much ahead."""


class Place:
    """The parts of a granule address, as Organisation.locate and bank_of read it.

    From its top: bundle (rank, high), row, column, lane (low, group). ``bank`` counts the lanes of
    all bundles, ``way_bank`` those of one part; ``bank_in_group`` is what commands carry.
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
        self.way_bank = Cat(self.group, self.bundle)
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


def made_access(config: Config) -> data.StructLayout:
    """An access without what it writes."""
    return data.StructLayout({name: shape for name, shape in prepared_access(config).members
                              .items() if name != "activate"})


class Ready(wiring.Component):
    """Two accesses before the command bus, the first with a flag that its bank can be accessed.

    ``i.ready`` and what the command bus is decided by are registers.

    Parameters
    ----------
    config : Config
    shape : ShapeLike

    Members
    -------
    i : In, stream of ``shape``
    soon_access : In(banks of a way), one made in the next clock would be in time
    o : Out, stream of ``shape``; ``can`` : Out(1), there is one and it may be made
    """

    def __init__(self, config: Config, shape):
        self.config, self.shape = config, shape
        org = config.dram
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "soon_access": In(org.bundles * org.bank_groups), "can": Out(1)})

    def elaborate(self, platform):
        m = Module()
        self.behind, self.waits = behind, waits = Signal(self.shape), Signal()
        can = [self.soon_access.bit_select(Place(self.config, payload.address).way_bank, 1)
               for payload in (self.o.payload, behind, self.i.payload)]
        arrives = self.i.valid & self.i.ready
        m.d.comb += self.i.ready.eq(~waits)
        with m.If(self.o.valid & ~self.o.ready):
            m.d.sync += self.can.eq(can[0])
            with m.If(arrives):
                m.d.sync += [behind.eq(self.i.payload), waits.eq(1)]
        with m.Else():
            m.d.sync += [
                waits.eq(0), self.o.valid.eq(waits | arrives),
                self.o.payload.eq(Mux(waits, behind, self.i.payload)),
                self.can.eq(Mux(waits, can[1], can[2] & arrives))]
        return m


class HostWay(wiring.Component):
    """The accesses to one part of each bundle, in order: close a wrong row, open the right one.

    A stage works on accesses up to :data:`AHEAD` before the next one does, so a row that is needed
    is opened while earlier accesses move data. A row stays open until another one of its bank is
    needed or the bundle is taken away, which the bundle machine does, and not before each access
    that passed the first stage is made (``idle``). Row commands are decided on a clock before
    they may be issued.

    Parameters
    ----------
    config : Config

    Members
    -------
    host : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    wants : Out(bundles), the bundle of the access in the first stage
    grant : In(bundles), it may pass
    may_pass : Out(1), it could; ``passes`` : In(1), it does
    idle : Out(bundles), none of this bundle is on its way
    closed : In(bundles), all banks of the bundle are closed in this clock
    soon_activate, soon_precharge, soon_access : In(banks), by bundle and group
    may_open : In(ranks), the rank may take an activate of the host
    row : Out, command of this clock if ``row_taken``; ``row_place`` : Out, its address
    access : Out, stream of :func:`made_access`, whose row is open; ``can`` : Out(1), there is one
        and it may be made
    data, mask : Out, what the access of the clock before writes
    """

    def __init__(self, config: Config):
        self.config = config
        self.share_key = config.digest
        org = config.dram
        bundles, self.banks = org.bundles, org.bundles * org.bank_groups
        super().__init__({
            "host": In(stream.Signature(host_access(config))),
            "wants": Out(bundles), "grant": In(bundles), "may_pass": Out(1), "passes": In(1),
            "idle": Out(bundles), "closed": In(bundles),
            "soon_activate": In(self.banks), "soon_precharge": In(self.banks),
            "soon_access": In(self.banks),
            "may_open": In(org.ranks), "row": Out(row_command(config)), "row_taken": In(1),
            "row_place": Out(ceil_log2(org.granules)),
            "access": Out(stream.Signature(made_access(config))), "can": Out(1),
            "data": Out(config.granule_bits), "mask": Out(config.granule_bytes)})

    def _look_up(self, m: Module, source, rows):
        """The access in the first stage, its bank as bits, and whether that had its row last.

        Only an access that passes changes the row of its bank, and that is the one before this.
        """
        at, valid = Signal(made_access(self.config)), Signal()
        bank, matches = Signal(self.banks), Signal()
        here = Place(self.config, at.address)
        comes = Place(self.config, source.payload.address)
        m.d.comb += source.ready.eq(~valid | self.passes)
        with m.If(source.ready):
            m.d.sync += [
                valid.eq(source.valid), at.eq(source.payload), bank.eq(1 << comes.way_bank),
                matches.eq(comes.row == Mux(self.passes & (comes.way_bank == here.way_bank),
                                            here.row, Array(rows)[comes.way_bank]))]
        return at, valid, bank, matches

    def _close(self, m: Module, source, sink):
        """The first stage: at most a precharge for each access; (place, precharge)."""
        org = self.config.dram
        rows = [Signal(ceil_log2(org.rows), name=f"row{i}") for i in range(self.banks)]
        at, valid, bank, matches = self._look_up(m, source, rows)
        place = Place(self.config, at.address)
        held, pending = (Signal(self.banks, name=n) for n in ("held", "pending"))
        granted, asks, holds, right = Signal(), Signal(), Signal(), Signal()
        precharge, made, accessed = Signal(), Signal(), Signal(self.banks)
        bundle = Cat(bank.word_select(b, org.bank_groups).any() for b in range(org.bundles))
        m.d.comb += [
            self.wants.eq(Mux(valid, bundle, 0)),
            granted.eq((self.wants & self.grant).any()),
            holds.eq((held & bank).any()), right.eq(matches | ~holds),
            self.may_pass.eq(granted & right & sink.ready), precharge.eq(asks & granted),
            sink.valid.eq(self.passes),
            sink.payload.address.eq(at.address), sink.payload.write.eq(at.write),
            sink.payload.activate.eq(~holds),
        ]
        closes = (self.row.command == DramCommand.PRE) & self.row_taken
        m.d.sync += [
            asks.eq(granted & ~right & ~(pending & bank).any() & ~closes
                    & (self.soon_precharge & bank).any()),
            made.eq(self.access.valid & self.access.ready),
            accessed.eq(1 << Place(self.config, self.access.payload.address).way_bank)]
        self.first, self.closes = (valid, place, bank), asks
        self.counts, self.made, self.accessed = [], made, accessed
        for index, row in enumerate(rows):
            count = Signal(range(2 * AHEAD + 8), name=f"count{index}")
            self.counts.append(count)
            m.d.comb += pending[index].eq(count != 0)
            m.d.sync += count.eq(count + (self.passes & bank[index]) - (made & accessed[index]))
            with m.If(self.passes & bank[index]):
                m.d.sync += [row.eq(place.row), held[index].eq(1)]
            with m.Elif((closes & bank[index]) | self.closed[index // org.bank_groups]):
                m.d.sync += held[index].eq(0)
        for b in range(org.bundles):
            m.d.comb += self.idle[b].eq(~pending.word_select(b, org.bank_groups).any())
        return at, precharge

    def _open(self, m: Module, source, sink):
        """The second stage: at most an activate for each access; (place, activate)."""
        place = Place(self.config, source.payload.address)
        self.opens = asks = Signal()
        activate, moves = Signal(), Signal()
        m.d.sync += asks.eq(source.valid & source.payload.activate & ~(activate & self.row_taken)
                            & self.soon_activate.bit_select(place.way_bank, 1))
        m.d.comb += [
            activate.eq(asks & sink.ready & self.may_open.bit_select(place.rank, 1)),
            moves.eq(source.valid & (~source.payload.activate | (activate & self.row_taken))),
            sink.valid.eq(moves), sink.payload.address.eq(source.payload.address),
            sink.payload.write.eq(source.payload.write), source.ready.eq(moves & sink.ready),
        ]
        return place, activate

    def elaborate(self, platform):
        m = Module()
        config = self.config
        written = data.StructLayout({name: shape for name, shape in host_access(config).members
                                     .items() if name in ("data", "mask")})
        made = made_access(config)
        m.submodules.arrived = arrived = Queue(made, depth=4)
        m.submodules.closed_rows = closed = Queue(prepared_access(config), depth=AHEAD)
        m.submodules.opened_rows = opened = Queue(made, depth=AHEAD)
        m.submodules.ready = ready = Ready(config, made)
        self.stages = closed, opened, ready
        m.submodules.written = values = Queue(written, depth=2 * AHEAD + 8)
        connect(m, opened.o, ready.i)
        connect(m, ready.o, wiring.flipped(self.access))
        request = self.host.payload
        m.d.comb += [
            self.host.ready.eq(arrived.i.ready & values.i.ready),
            arrived.i.valid.eq(self.host.valid & values.i.ready),
            values.i.valid.eq(self.host.valid & arrived.i.ready),
            arrived.i.payload.address.eq(request.address),
            arrived.i.payload.write.eq(request.write),
            values.i.payload.data.eq(request.data), values.i.payload.mask.eq(request.mask),
            ready.soon_access.eq(self.soon_access), self.can.eq(ready.can),
            self.data.eq(values.o.payload.data), self.mask.eq(values.o.payload.mask),
        ]
        m.d.sync += values.o.ready.eq(transfer(self.access))
        opening, activate = self._open(m, closed.o, opened.i)
        at, precharge = self._close(m, arrived.o, closed.i)
        with m.If(activate):
            m.d.comb += [self.row.command.eq(DramCommand.ACT), self.row.row.eq(opening.row),
                         self.row_place.eq(closed.o.payload.address),
                         *opening.name_bank(self.row)]
        with m.Elif(precharge):
            m.d.comb += [self.row.command.eq(DramCommand.PRE), self.row_place.eq(at.address),
                         *Place(config, at.address).name_bank(self.row)]
        return m


class HostAgent(wiring.Component):
    """A :class:`HostWay` for each part of a bundle; row and column commands go into slot 1.

    Accesses to one part are made in order, those to several parts as their rows are open: while one
    part's next rows wait for nFAW or to be closed, the others go on. Of ways that could go on in
    the same clock they take turns. A row command goes out every second clock at most.

    Parameters
    ----------
    config : Config

    Members
    -------
    host : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    wants : Out(bundles), the bundles of accesses in the first stage
    grant : In(bundles), they may pass, one a clock
    passed, idle : Out(bundles), an access passes; none of this bundle is on its way
    closed : In(bundles), all banks of the bundle are closed in this clock
    soon_activate, soon_access, soon_precharge : In(banks), of the next clock, by bundle and lane
    may_open : In(ranks), the rank may take an activate of the host
    row, column : Out, commands of this clock
    bank : Out, of ``row``; ``accessed`` : Out, of ``column``; ``part`` : Out, its part
    data, mask : Out, what a WR of the clock before writes
    """

    def __init__(self, config: Config):
        self.config = config
        org = config.dram
        bundles, self.banks = org.bundles, org.bundles * org.bundle_banks
        super().__init__({
            "host": In(stream.Signature(host_access(config))),
            "wants": Out(bundles), "grant": In(bundles), "passed": Out(bundles),
            "idle": Out(bundles), "closed": In(bundles),
            "soon_activate": In(self.banks), "soon_access": In(self.banks),
            "soon_precharge": In(self.banks), "may_open": In(org.ranks),
            "row": Out(row_command(config)), "column": Out(column_command(config)),
            "bank": Out(range(self.banks)), "accessed": Out(range(self.banks)),
            "part": Out(range(org.parts)),
            "data": Out(config.granule_bits), "mask": Out(config.granule_bytes)})

    def _turns(self, m: Module, name: str, ready, moves=None):
        """One bit of ``ready``, the first after that of the last turn, as a number and as bits."""
        count = len(ready)
        last, number, chosen = (Signal(range(count), name=f"{name}_last"),
                                Signal(range(count), name=f"{name}_number"),
                                Signal(count, name=f"{name}_chosen"))
        with m.Switch(last):
            for before in range(count):
                with m.Case(before):
                    for offset in reversed(range(1, count + 1)):
                        way = (before + offset) % count
                        with m.If(ready[way]):
                            m.d.comb += number.eq(way)
        m.d.comb += chosen.eq(ready.any() << number)
        with m.If(ready.any() if moves is None else moves):
            m.d.sync += last.eq(number)
        return number, chosen

    def _access(self, m: Module, ways) -> None:
        """Column commands."""
        m.submodules.timers = timers = PathTimers(self.config, host=True)
        ready = Signal(len(ways))
        for way, port in enumerate(ways):
            at = Place(self.config, port.access.payload.address)
            m.d.comb += ready[way].eq(port.can & timers.free.bit_select(at.bus_group, 1))
        issue = Signal()
        number, chosen = self._turns(m, "access", ready, issue)
        access, last = Signal(made_access(self.config)), Signal.like(number)
        m.d.comb += access.eq(Array(port.access.payload.as_value() for port in ways)[number])
        place, write = Place(self.config, access.address), access.write
        m.d.sync += last.eq(number)
        m.d.comb += [
            timers.group.eq(place.bus_group), self.accessed.eq(place.bank), self.part.eq(number),
            issue.eq(ready.any() & Mux(write, timers.may_write, timers.may_read)),
            timers.read.eq(issue & ~write), timers.write.eq(issue & write),
            *(port.access.ready.eq(issue & chosen[way]) for way, port in enumerate(ways)),
            self.data.eq(Array(port.data for port in ways)[last]),
            self.mask.eq(Array(port.mask for port in ways)[last]),
        ]
        with m.If(issue):
            m.d.comb += [self.column.command.eq(Mux(write, DramCommand.WR, DramCommand.RD)),
                         self.column.column.eq(place.column), *place.name_bank(self.column)]

    def elaborate(self, platform):
        m = Module()
        config, org = self.config, self.config.dram
        ways = []
        for part in range(org.parts):
            m.submodules[f"way{part}"] = way = shared(HostWay(config), "host_way")
            ways.append(way)
        part = Place(config, self.host.payload.address).low
        may_pass, asks = Signal(len(ways)), Signal(len(ways))
        _, passes = self._turns(m, "pass", may_pass)
        number, taken = self._turns(m, "row", asks)
        commanded = Signal()
        m.d.sync += commanded.eq(asks.any())
        for index, way in enumerate(ways):
            lanes = [b * org.bundle_banks + index * org.bank_groups + g
                     for b in range(org.bundles) for g in range(org.bank_groups)]
            m.d.comb += [
                way.host.payload.eq(self.host.payload),
                way.host.valid.eq(self.host.valid & (part == index)),
                way.grant.eq(self.grant), way.closed.eq(self.closed),
                way.may_open.eq(self.may_open),
                *(getattr(way, name).eq(Cat(getattr(self, name)[i] for i in lanes))
                  for name in ("soon_activate", "soon_access", "soon_precharge")),
                may_pass[index].eq(way.may_pass), way.passes.eq(passes[index]),
                asks[index].eq((way.row.command != DramCommand.NOP) & ~commanded),
                way.row_taken.eq(taken[index]),
            ]
            with m.If(taken[index]):
                m.d.comb += self.row.eq(way.row)
        place = Array(way.row_place for way in ways)[number]
        m.d.comb += [
            self.host.ready.eq(Array(way.host.ready for way in ways)[part]),
            self.bank.eq(Place(config, _named(m, place)).bank),
            self.wants.eq(_any(way.wants for way in ways)),
            self.idle.eq(~_any(~way.idle for way in ways)),
            self.passed.eq(_any(Mux(passes[i], way.wants, 0) for i, way in enumerate(ways))),
        ]
        self._access(m, ways)
        return m


def _named(m: Module, value) -> Signal:
    """A signal, of which parts can be taken."""
    signal = Signal(len(value))
    m.d.comb += signal.eq(value)
    return signal


def _any(values):
    """Bitwise or."""
    result = 0
    for value in values:
        result = result | value
    return result
