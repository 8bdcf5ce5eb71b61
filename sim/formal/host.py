# SPDX-License-Identifier: BSD-2-Clause
"""The host agent with a lemma about what is under way in it."""

from contextlib import contextmanager

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.bank import host as bank_host
from logicpim.rtl.bank.host import HostAgent, HostWay, Place
from logicpim.rtl.stream import transfer
from logicpim.spec.dram import DramCommand


@contextmanager
def _instead(name: str, other):
    """While open, what the module of the host agent calls ``name`` is another class."""
    before = getattr(bank_host, name)
    setattr(bank_host, name, other)
    try:
        yield
    finally:
        setattr(bank_host, name, before)


class TwoDeep(wiring.Component):
    """A queue of two in registers, in place of :class:`~logicpim.rtl.stream.Queue`, whose memory
    no lemma can name.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        Of the queue that it stands for.

    Members
    -------
    i, o, level : as of :class:`~logicpim.rtl.stream.Queue`
    """

    def __init__(self, shape, *, depth: int):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "level": Out(2)})

    def elaborate(self, platform):
        m = Module()
        self.behind, takes, gives = Signal(self.shape), transfer(self.i), transfer(self.o)
        m.d.comb += [self.i.ready.eq(self.level != 2), self.o.valid.eq(self.level != 0)]
        m.d.sync += self.level.eq(self.level + takes - gives)
        with m.If(gives | (self.level == 0)):
            m.d.sync += self.o.payload.eq(Mux(self.level == 2, self.behind, self.i.payload))
        with m.If(takes):
            m.d.sync += self.behind.eq(self.i.payload)
        return m


class CountedWay(HostWay):
    """Asserts what its stages know of each other (:class:`Lemma`).

    Without that the prover would have to find it, access by access.
    """

    def elaborate(self, platform):
        with _instead("Queue", TwoDeep):
            m = super().elaborate(platform)
        m.submodules.lemma = Lemma(self)
        return m


class Lemma(wiring.Component):
    """What a way counts for each bank is what its stages hold; what asks for a command stands in
    its stage, for a bank whose timers said in the clock before that it may.

    Elaborated behind the stages.
    """

    def __init__(self, way):
        self.way = way
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        way, (closed, opened, ready) = self.way, self.way.stages
        held = [(queue.level != 0, queue.o.payload) for queue in (closed, opened)]
        held += [(queue.level == 2, queue.behind) for queue in (closed, opened)]
        held += [(ready.o.valid, ready.o.payload), (ready.waits, ready.behind)]
        for index, count in enumerate(way.counts):
            here = [valid & (self._bank(payload) == index) for valid, payload in held]
            m.d.comb += Assert(count == sum(here) + (way.made & way.accessed[index]))
        m.d.comb += [Assert(~ready.waits | ready.o.valid), Assert(closed.level <= 2),
                     Assert(opened.level <= 2)]
        self._requests(m, way, closed.o, ready)
        return m

    def _bank(self, payload):
        return Place(self.way.config, payload.address).way_bank

    def _requests(self, m: Module, way, opening, ready) -> None:
        was = {}
        for name in ("activate", "precharge", "access"):
            was[name] = Signal(way.banks, name=f"was_{name}")
            m.d.sync += was[name].eq(getattr(way, f"soon_{name}"))
        valid, place, bank = way.first
        idle = Cat(count == 0 for count in way.counts)
        precharged, which = Signal(), Signal(way.banks)
        m.d.sync += [precharged.eq(way.closes & (way.row.command == DramCommand.PRE)
                                   & way.row_taken), which.eq(bank)]
        m.d.comb += [
            Assert(~valid | (bank == 1 << place.way_bank)),
            Assert(~way.closes | (valid & (bank & idle & was["precharge"]).any())),
            Assert(~(precharged & ready.o.valid
                     & which.bit_select(self._bank(ready.o.payload), 1))),
            Assert(~way.opens | (opening.valid & opening.payload.activate
                                 & was["activate"].bit_select(self._bank(opening.payload), 1))),
            Assert(~ready.can | (ready.o.valid & was["access"].bit_select(
                self._bank(ready.o.payload), 1)))]


class CountedAgent(HostAgent):
    """A host agent whose ways are :class:`CountedWay`."""

    def elaborate(self, platform):
        with _instead("HostWay", CountedWay):
            return super().elaborate(platform)
