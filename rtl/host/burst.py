# SPDX-License-Identifier: BSD-2-Clause
"""The beats of AXI bursts, one after the other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.host import address_bits

from .ports import FIXED, WRAP, axi_address, bus_bytes


def beat(config: Config) -> data.StructLayout:
    """A beat of a burst: its byte ``address`` (one bit wider than a burst's, so that what runs
    past the last address does not come back at 0) and whether the burst is none that AXI has."""
    return data.StructLayout({"address": unsigned(address_bits(config) + 1),
                              "id": unsigned(config.axi_id_bits), "last": unsigned(1),
                              "illegal": unsigned(1)})


class BurstWalker(wiring.Component):
    """Turns each burst into its beats, one a clock, without a pause between bursts.

    A burst is *illegal*, which its beats then say, if its type is reserved, its size is above
    the width of the bus, or a WRAP or FIXED burst breaks the rules on its length or alignment.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of :func:`~.ports.axi_address`
    o : Out, stream of :func:`beat`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"i": In(stream.Signature(axi_address(config))),
                          "o": Out(stream.Signature(beat(config)))})

    def _illegal(self, burst):
        """Whether AXI knows no such burst."""
        widest = ceil_log2(bus_bytes(self.config))
        unaligned = (burst.addr & ((Const(1, 8) << burst.size) - 1)) != 0
        lengths = (burst.len == n - 1 for n in (2, 4, 8, 16))
        wrong_wrap = ~Cat(*lengths).any() | unaligned
        return ((burst.burst == 3) | (burst.size > widest)
                | (burst.burst == WRAP) & wrong_wrap
                | (burst.burst == FIXED) & (burst.len > 15))

    def elaborate(self, platform):
        m = Module()
        burst, left = Signal(axi_address(self.config)), Signal(8)
        address = Signal(address_bits(self.config) + 1)
        active, illegal = Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(active), self.o.payload.address.eq(address),
            self.o.payload.id.eq(burst.id), self.o.payload.illegal.eq(illegal),
            self.o.payload.last.eq(left == 0),
            self.i.ready.eq(~active | (self.o.ready & (left == 0))),
        ]
        low, around, following = (Signal.like(address, name=name)
                                  for name in ("low", "around", "following"))
        m.d.comb += [low.eq((Const(1, 8) << burst.size) - 1), following.eq((address | low) + 1),
                     around.eq((burst.len << burst.size) | low)]
        wrapped = (address & ~around) | (following & around)
        with m.If(active & self.o.ready):
            m.d.sync += left.eq(left - 1)
            with m.If(burst.burst != FIXED):
                m.d.sync += address.eq(Mux(burst.burst == WRAP, wrapped, following))
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), burst.eq(self.i.payload),
                         left.eq(self.i.payload.len), address.eq(self.i.payload.addr),
                         illegal.eq(self._illegal(self.i.payload))]
        return m
