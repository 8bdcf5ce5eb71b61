# SPDX-License-Identifier: BSD-2-Clause
"""The host agent with a lemma about what is under way in it."""

from contextlib import contextmanager

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.bank import host as bank_host
from logicpim.rtl.bank.host import HostAgent, HostWay, Place
from logicpim.rtl.stream import transfer


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
    """Asserts that what a way counts for each bank is what its stages hold.

    Without this the prover would have to find it, access by access.
    """

    def elaborate(self, platform):
        with _instead("Queue", TwoDeep):
            m = super().elaborate(platform)
        m.submodules.lemma = Lemma(self)
        return m


class Lemma(wiring.Component):
    """That of :class:`CountedWay`; elaborated behind the stages."""

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
            here = [valid & (Place(way.config, payload.address).way_bank == index)
                    for valid, payload in held]
            m.d.comb += Assert(count == sum(here) + (way.made & way.accessed[index]))
        m.d.comb += [Assert(~ready.waits | ready.o.valid), Assert(~ready.can | ready.o.valid),
                     Assert(closed.level <= 2), Assert(opened.level <= 2)]
        return m


class CountedAgent(HostAgent):
    """A host agent whose ways are :class:`CountedWay`."""

    def elaborate(self, platform):
        with _instead("HostWay", CountedWay):
            return super().elaborate(platform)
