# SPDX-License-Identifier: BSD-2-Clause
"""An asynchronous serial line: a byte at a time, 8 bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class UartReceiver(wiring.Component):
    """Bytes from a line, each sampled in the middle of its bits.

    Promises nothing about bytes on a noisy line but that a stop bit that is not there is told.

    Parameters
    ----------
    divisor : int
        Clocks of a bit, at least 4.

    Members
    -------
    rx : In, the line, at rest 1; it needs no synchroniser before
    valid : Out, pulse for each byte, in the middle of its stop bit
    data, bad : Out, with ``valid``: the byte; its stop bit is missing
    """

    def __init__(self, *, divisor: int):
        if divisor < 4:
            raise ValueError(f"a bit of {divisor} clocks cannot be sampled in its middle")
        self.divisor = divisor
        super().__init__({"rx": In(1), "valid": Out(1), "data": Out(8), "bad": Out(1)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(3, init=0b111)
        bits, left = Signal(9), Signal(range(11))
        timer = Signal(range(self.divisor))
        m.d.sync += [line.eq(Cat(self.rx, line)), self.valid.eq(0)]
        m.d.comb += [self.data.eq(bits), self.bad.eq(~bits[8])]
        with m.If(left == 0):
            m.d.sync += timer.eq(self.divisor // 2 - 1)
            with m.If(line[2] & ~line[1]):
                m.d.sync += left.eq(10)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1),
                         bits.eq(Cat(bits[1:], line[1])), self.valid.eq(left == 1)]
            with m.If((left == 10) & line[1]):  # no start bit in its middle: a spike
                m.d.sync += left.eq(0)
        return m


class UartTransmitter(wiring.Component):
    """Bytes onto a line.

    Parameters
    ----------
    divisor : int
        Clocks of a bit.

    Members
    -------
    i : In, stream of bytes; ready again with the end of the stop bit
    tx : Out, the line
    """

    def __init__(self, *, divisor: int):
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        bits, left, timer = Signal(10, init=1), Signal(range(11)), Signal(range(self.divisor))
        m.d.sync += self.tx.eq(bits[0])
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0):
            m.d.sync += timer.eq(self.divisor - 1)
            with m.If(self.i.valid):
                m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), left.eq(10)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1),
                         bits.eq(Cat(bits[1:], 1))]
        return m
