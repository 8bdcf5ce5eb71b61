# SPDX-License-Identifier: BSD-2-Clause
"""Answers of host accesses in the order of the accesses, as the parts of a bundle are not."""

from amaranth.hdl import Array, Cat, Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import host_access
from logicpim.rtl.stream import Queue, transfer
from logicpim.spec.config import Config

from .host import Place


class HostOrder(wiring.Component):
    """Passes accesses on to the controller and keeps what comes back until its turn.

    Parameters
    ----------
    config : Config
    depth : int
        Accesses under way at most.

    Members
    -------
    i : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    o : Out, the same, to the controller
    o_done, o_part, o_rdata : In, an access is done, its part, and the granule read; in order for
        each part
    done : Out(1), pulse for each access, in order
    rdata : Out, the granule read, valid with ``done``
    o_bad : In(1), bad : Out(1), with ``o_rdata`` and ``rdata``: the granule is not correct
    """

    def __init__(self, config: Config, depth: int):
        self.config, self.depth = config, depth
        access, part = host_access(config), range(config.dram.parts)
        super().__init__({
            "i": In(stream.Signature(access)), "o": Out(stream.Signature(access)),
            "o_done": In(1), "o_part": In(part), "o_rdata": In(config.granule_bits),
            "done": Out(1), "rdata": Out(config.granule_bits),
            "o_bad": In(1), "bad": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.turns = turns = Queue(unsigned(max(1, len(self.o_part))), depth=self.depth)
        answers = []
        for part in range(config.dram.parts):
            m.submodules[f"part{part}"] = queue = Queue(unsigned(config.granule_bits + 1),
                                                        depth=self.depth)
            answers.append(queue.o)
            m.d.comb += [queue.i.valid.eq(self.o_done & (self.o_part == part)),
                         queue.i.payload.eq(Cat(self.o_rdata, self.o_bad)),
                         queue.o.ready.eq(transfer(turns.o) & (turns.o.payload == part))]
        turn = turns.o.payload
        m.d.comb += [
            self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid & turns.i.ready),
            self.i.ready.eq(self.o.ready & turns.i.ready),
            turns.i.valid.eq(self.i.valid & self.o.ready),
            turns.i.payload.eq(Place(config, self.i.payload.address).low),
            turns.o.ready.eq(Array(answer.valid for answer in answers)[turn]),
            self.done.eq(transfer(turns.o)),
            Cat(self.rdata, self.bad).eq(Array(answer.payload for answer in answers)[turn]),
        ]
        return m
