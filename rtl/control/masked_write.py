# SPDX-License-Identifier: BSD-2-Clause
"""Masked writes where stored granules have check bits: read, merge, write whole."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import host_access
from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config

from .host import RESPONSES


class MaskedWrites(wiring.Component):
    """Passes host accesses on; a write whose mask is not full becomes a read and a full write.

    Promises one ``done`` for each access taken, in order, and that only full masks leave. A
    masked write waits for the accesses before it, and those behind wait for it. What cannot be
    corrected is not written: merged and encoded anew, the damage would be hidden.

    Parameters
    ----------
    config : Config
    under_way : int
        Most accesses passed on and not done.

    Members
    -------
    i, o : In, Out, streams of :func:`~logicpim.rtl.signatures.host_access`
    o_done, o_rdata, o_bad : In, an access passed on is done, in order; the granule read, and
        that it is not correct
    done, rdata, bad : Out, the same for those taken; ``bad`` of a masked write: nothing written
    """

    def __init__(self, config: Config, under_way: int = RESPONSES):
        self.config, self.under_way = config, under_way
        bits = config.granule_bits
        super().__init__({
            "i": In(stream.Signature(host_access(config))),
            "o": Out(stream.Signature(host_access(config))),
            "o_done": In(1), "o_rdata": In(bits), "o_bad": In(1),
            "done": Out(1), "rdata": Out(bits), "bad": Out(1)})

    def elaborate(self, platform):
        m = Module()
        access, out = self.i.payload, self.o.payload
        full = (1 << self.config.granule_bytes) - 1
        partial = access.write & ~access.mask.all()
        under_way = Signal(range(self.under_way + 1))
        merged = Signal(self.config.granule_bits)
        m.d.sync += under_way.eq(under_way + transfer(self.o) - self.o_done)
        m.d.comb += [
            out.eq(access), out.mask.eq(full),
            self.done.eq(self.o_done), self.rdata.eq(self.o_rdata), self.bad.eq(self.o_bad),
        ]
        with m.FSM():
            with m.State("PASS"):
                with m.If(partial):
                    m.d.comb += [out.write.eq(0), self.o.valid.eq(self.i.valid & (under_way == 0))]
                    with m.If(transfer(self.o)):
                        m.next = "READ"
                with m.Else():
                    m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
            with m.State("READ"):
                m.d.comb += self.done.eq(self.o_done & self.o_bad)
                m.d.sync += merged.eq(Cat(
                    Mux(mask, access.data.word_select(byte, 8), self.o_rdata.word_select(byte, 8))
                    for byte, mask in enumerate(access.mask)))
                with m.If(self.o_done):
                    m.next = "WRITE"
                    with m.If(self.o_bad):
                        m.d.comb += self.i.ready.eq(1)
                        m.next = "PASS"
            with m.State("WRITE"):
                m.d.comb += [self.o.valid.eq(1), out.data.eq(merged),
                             self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "PASS"
        return m
