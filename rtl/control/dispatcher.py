# SPDX-License-Identifier: BSD-2-Clause
"""Dispatcher and collector of a stack: one operation to many channels, many completions to one."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.isa import Status

from .broadcaster import dealt_job, dealt_job_of
from .descriptor import COMPLETION, operation


def expected(config: Config) -> data.StructLayout:
    """An instruction on its way: the channels that will complete it, none if it was refused."""
    return data.StructLayout({"tag": unsigned(16), "status": Status,
                              "channels": unsigned(config.channels)})


class Dispatcher(wiring.Component):
    """Hands an operation to all channels of its set in one clock.

    It waits until each of them has room, the broadcaster too for dealt operands. A refused one
    reaches no channel. So the channels' operations, dealt jobs and expected completions are in one
    order, that of the program.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of operations; ``chosen`` : In, the set of channels, valid with it
    valid : Out, ready : In, a bit a channel; op : Out, for those that are valid
    dealt : Out, stream of :func:`~logicpim.rtl.control.broadcaster.dealt_job`
    o : Out, stream of :func:`expected`
    refused : Out, a bit a channel: a pulse for an instruction that will not come
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(operation(config))), "chosen": In(config.channels),
            "valid": Out(config.channels), "ready": In(config.channels),
            "op": Out(operation(config)),
            "dealt": Out(stream.Signature(dealt_job(config))),
            "o": Out(stream.Signature(expected(config))), "refused": Out(config.channels)})

    def elaborate(self, platform):
        m = Module()
        op = self.i.payload
        good, go = Signal(), Signal()
        chosen = Mux(good, self.chosen, 0)
        m.d.comb += [
            good.eq(op.status == Status.OK),
            go.eq(self.i.valid & self.o.ready & (~chosen | self.ready).all()
                  & (self.dealt.ready | ~(good & op.dealt))),
            self.i.ready.eq(go), self.o.valid.eq(go), self.dealt.valid.eq(go & good & op.dealt),
            self.op.eq(op), self.valid.eq(Mux(go, chosen, 0)),
            self.refused.eq(Mux(go & ~good, self.chosen, 0)),
            self.o.payload.tag.eq(op.tag), self.o.payload.status.eq(op.status),
            self.o.payload.channels.eq(chosen),
            *(self.dealt.payload[name].eq(value) for name, value in
              dealt_job_of(self.config, op, self.chosen).items()),
        ]
        return m


class Collector(wiring.Component):
    """Makes one completion of those of all channels of a set, in program order.

    ``DATA_ERROR`` of one channel is the completion's status. The oldest instruction is the oldest
    of each of its channels, so their completions are, or will be, at the heads of their
    queues, and what follows waits there.

    Parameters
    ----------
    config : Config
    depth : int
        Instructions that may be on their way.

    Members
    -------
    i : In, stream of :func:`expected`
    done : In, a stream of completions from each channel
    o : Out, stream of completions
    """

    def __init__(self, config: Config, *, depth: int):
        self.config, self.depth = config, depth
        super().__init__({
            "i": In(stream.Signature(expected(config))),
            "done": In(stream.Signature(COMPLETION)).array(config.channels),
            "o": Out(stream.Signature(COMPLETION))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.expected = waiting = Queue(expected(self.config), depth=self.depth)
        connect(m, wiring.flipped(self.i), waiting.i)
        head = waiting.o.payload
        here, spoilt = Signal(self.config.channels), Signal(self.config.channels)
        m.d.comb += [
            here.eq(Cat(done.valid for done in self.done)),
            spoilt.eq(Cat(done.payload.status == Status.DATA_ERROR for done in self.done)),
            self.o.valid.eq(waiting.o.valid & (~head.channels | here).all()),
            self.o.payload.tag.eq(head.tag), self.o.payload.status.eq(head.status),
            waiting.o.ready.eq(transfer(self.o)),
            *(done.ready.eq(transfer(self.o) & head.channels[index])
              for index, done in enumerate(self.done)),
        ]
        with m.If((head.channels & spoilt).any()):
            m.d.comb += self.o.payload.status.eq(Status.DATA_ERROR)
        return m
