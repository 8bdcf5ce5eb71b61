# SPDX-License-Identifier: BSD-2-Clause
"""Typed streams: a queue that keeps its payload's shape, and a connection that checks it."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out


def transfer(port) -> Value:
    """1 in a clock in which ``port`` hands over a payload."""
    return port.valid & port.ready


def connect(m: Module, source, sink) -> None:
    """Connect two streams whose payloads have the same shape.

    Amaranth's own ``connect`` compares widths alone, so two different structs of equal width
    would connect silently; here they are a ``TypeError``.

    Parameters
    ----------
    m : Module
    source, sink : stream interfaces
        One to be driven by the other; ports of the component that is being elaborated are given
        as ``wiring.flipped(self.port)``, as for ``wiring.connect``.
    """
    shapes = [_signature(port) for port in (source, sink)]
    if shapes[0] != shapes[1]:
        raise TypeError(f"cannot connect streams of different payloads: {shapes[0]!r} and "
                        f"{shapes[1]!r}")
    wiring.connect(m, source, sink)


def _signature(port) -> stream.Signature:
    signature = port.signature
    if isinstance(signature, wiring.FlippedSignature):
        signature = signature.flip()
    if not isinstance(signature, stream.Signature):
        raise TypeError(f"not a stream: {port!r}")
    return signature


class Queue(wiring.Component):
    """First in, first out; keeps the shape of what it holds.

    ``i.ready`` and ``o.valid`` are functions of registers, the memory is read synchronously.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads it holds, at least 2.

    Members
    -------
    i : In, stream of ``shape``
    o : Out, stream of ``shape``; valid from the second clock after an empty queue took a payload
    level : Out, payloads held
    """

    def __init__(self, shape, *, depth: int):
        if depth < 2:
            raise ValueError(f"a queue of depth {depth} cannot take a payload each clock: "
                             f"at least 2")
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        payload = Value.cast(self.i.payload)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=len(payload), depth=self.depth)
        m.d.comb += [
            fifo.w_data.eq(payload), fifo.w_en.eq(self.i.valid), self.i.ready.eq(fifo.w_rdy),
            Value.cast(self.o.payload).eq(fifo.r_data), self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready), self.level.eq(fifo.level),
        ]
        return m


class SkidBuffer(wiring.Component):
    """A register between two streams, of two places used in turn, that costs no clock in a row.

    Neither side's ``valid`` or ``ready`` depends on the other's in the same clock, and taking a
    payload moves none: only which place is next.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.

    Members
    -------
    i : In, stream of ``shape``
    o : Out, stream of ``shape``; valid from the clock after a payload was taken
    """

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        places = [Signal(self.shape, name=f"place_{n}", reset_less=True) for n in range(2)]
        level, first, last = Signal(range(3)), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(level != 2), self.o.valid.eq(level != 0),
            Value.cast(self.o.payload).eq(Mux(first, *map(Value.cast, reversed(places)))),
        ]
        m.d.sync += [level.eq(level + transfer(self.i) - transfer(self.o)),
                     first.eq(first ^ transfer(self.o)), last.eq(last ^ transfer(self.i))]
        # A place that is free takes whatever is there. Its enable does not wait for ``valid``,
        # which may come late and would have as many registers to reach as a payload has bits.
        for index, place in enumerate(places):
            with m.If(self.i.ready & (last == index)):
                m.d.sync += place.eq(self.i.payload)
        return m
