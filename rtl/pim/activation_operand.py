# SPDX-License-Identifier: BSD-2-Clause
"""The two operands of an activation: decoded, clamped, normalised."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.number import Number, Unpacker
from logicpim.rtl.pim.pipeline import leading_zeros
from logicpim.spec.functions import SWIGLU_LIMIT, Function
from logicpim.spec.isa import Format


class ActivationMode(data.Struct):
    """What is computed; constant while there are elements in a lane."""

    function: Function
    gated: unsigned(1)
    input_format: Format
    output_format: Format


class Normal(data.Struct):
    """``(-1)**sign * significand * 2**(exponent - 23)``, bit 23 set but in zero."""

    significand: unsigned(24)
    exponent: signed(10)
    sign: unsigned(1)
    zero: unsigned(1)
    infinite: unsigned(1)
    nan: unsigned(1)


class Operand(wiring.Component):
    """What the operands have in common: ports and the way from a bit pattern.

    Members
    -------
    mode : In, :class:`ActivationMode`
    i : In, as for :class:`~logicpim.rtl.pim.number.Unpacker`
    o : Out, :class:`Normal`, ``latency`` clocks later
    """

    mode: In(ActivationMode)
    i: In(32)
    o: Out(Normal)

    def _unpack(self, m, *, clamp, below):
        """The number in ``i``; if ``clamp``, not above 7 and, if ``below``, not under -7."""
        m.submodules.unpacker = unpacker = Unpacker()
        m.d.comb += [unpacker.i.eq(self.i), unpacker.format.eq(self.mode.input_format)]
        number, limit = Signal(Number), Const(SWIGLU_LIMIT << 21, 24)
        magnitude = Cat(unpacker.o.significand, unpacker.o.exponent)
        beyond = Signal()
        m.d.comb += [
            beyond.eq((unpacker.o.infinite | (magnitude > Cat(limit, Const(129, 8))))
                      & clamp & ~unpacker.o.nan & (below | ~unpacker.o.sign)),
            number.eq(unpacker.o),
        ]
        with m.If(beyond):
            m.d.comb += [number.significand.eq(limit), number.exponent.eq(129),
                         number.infinite.eq(0)]
        return number

    def _normalise(self, m, later, number, significand, room):
        """Drives ``o`` with a number of this ``significand``, which is ``room`` bits too wide."""
        zeros = later.register("zeros", leading_zeros(m, significand))
        wide, number = later(significand, 1), later(number, 1)
        o = Signal(Normal, reset_less=True)
        m.d.sync += [
            o.significand.eq((wide << zeros)[room:len(wide)]),
            o.exponent.eq(number.exponent - zeros + (room - 127)),
            o.sign.eq(number.sign), o.zero.eq(~wide.any() & ~number.infinite & ~number.nan),
            o.infinite.eq(number.infinite), o.nan.eq(number.nan),
        ]
        m.d.comb += self.o.eq(o)


class GateOperand(Operand):
    """x of f(x): clamped for SWIGLU."""

    latency = 3

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        number = self._unpack(m, clamp=self.mode.function == Function.SWIGLU, below=0)
        number = later(number, 1)
        significand = Signal(24)
        m.d.comb += significand.eq(number.significand)
        self._normalise(m, later, number, significand, 0)
        return m


class UpOperand(Operand):
    """What f(x) is multiplied by: 1, or up, or, for SWIGLU, clamped up plus 1."""

    latency = 5

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        add = Signal()
        m.d.comb += add.eq((self.mode.function == Function.SWIGLU) & self.mode.gated)
        number = self._unpack(m, clamp=add, below=1)
        with m.If(~self.mode.gated):
            m.d.comb += number.eq(Number.const({"significand": 1 << 23, "exponent": 127}))
        number = later(number, 1)

        # For the sum in units of 2**-24, towards zero; clamped, the exponent is at most 129.
        distance = Signal(8)
        m.d.comb += distance.eq(129 - number.exponent)
        units = later.register("units", Mux(
            add, Mux(distance[5:].any(), 0, Cat(Const(0, 3), number.significand) >> distance[:5]),
            number.significand), unsigned(28))
        number = later(number, 1)
        total = Signal(signed(30))
        m.d.comb += total.eq(Mux(number.sign, -units, units) + (1 << 24))
        negative = Signal()
        m.d.comb += negative.eq(total[-1])
        significand = later.register("significand", Mux(
            add, Mux(negative, -total, total)[:28], units))
        after = Signal(Number, reset_less=True)
        m.d.sync += after.eq(number)
        with m.If(add):
            m.d.sync += [after.exponent.eq(126), after.sign.eq(negative)]
        self._normalise(m, later, after, significand, 4)
        return m
