# SPDX-License-Identifier: BSD-2-Clause
"""One activation a clock: f(x), or f(x) times up."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.activation_operand import ActivationMode, GateOperand, UpOperand
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.exponential import Exponential
from logicpim.rtl.pim.multiplier import Multiplier, multiply
from logicpim.rtl.pim.number import Rounder
from logicpim.rtl.pim.quadratic import QuadraticUnit
from logicpim.spec.functions import (
    ARGUMENT_BITS,
    EXP_FRACTION,
    FACTORS,
    GELU_CUBIC_FIXED,
    RECIPROCAL_ARGUMENT,
    RECIPROCAL_FRACTION,
    Function,
    reciprocal_table,
)

_FACTOR_BITS = 27
"""Of what x is multiplied by; at 32 and more the argument is too great for any x of GELU."""


class SigmoidArgument(wiring.Component):
    """t such that the sigmoid of a function's ``abs(x)`` is 1 / (1 + 2**-t).

    Members
    -------
    function : In, :class:`~logicpim.spec.functions.Function`
    significand, exponent : In, of x
    t : Out, in units of 2**-20, saturated; ``latency`` clocks later

    One value each clock.
    """

    function: In(Function)
    significand: In(24)
    exponent: In(signed(10))
    t: Out(ARGUMENT_BITS)

    latency = 3 * Multiplier.latency + 2

    def elaborate(self, platform):
        m = Module()
        later, step = Delay(m), Multiplier.latency
        exponent, significand = Signal(signed(10)), Signal(24)
        m.d.comb += [exponent.eq(self.exponent), significand.eq(self.significand)]

        # GELU: the factor of x is linear + cubic * x**2.
        square = multiply(m, "square", significand, significand)
        cubic = multiply(m, "cubic", square[24:], Const(GELU_CUBIC_FIXED, 22))
        at_cubic = later(exponent, 2 * step)
        places, extra = Signal(signed(11)), Signal(29)
        m.d.comb += [
            places.eq(4 - at_cubic),
            extra.eq(Mux(places < 0, cubic[17:], cubic[17:] >> Cat(Const(0, 1), places[:4]))),
        ]
        with m.If((self.function != Function.GELU) | (places > 15)):
            m.d.comb += extra.eq(0)
        constant = Signal(24)
        with m.Switch(self.function):
            for function, value in FACTORS.items():
                with m.Case(function):
                    m.d.comb += constant.eq(value)
        factor = later.register("factor", constant + extra)

        product = multiply(m, "product", later(significand, 2 * step + 1), factor[:_FACTOR_BITS])
        great = later.register("great", factor[_FACTOR_BITS:].any())
        down = Signal(signed(11))
        m.d.comb += down.eq(8 - later(exponent, 3 * step + 1))
        shifted = Signal(34)
        m.d.comb += shifted.eq(Mux(down[6:].any(), 0, product[17:] >> down[:6]))
        saturated = later(great, step - 1) | (down < 0) | shifted[ARGUMENT_BITS:].any()
        t = later.register("t", shifted[:ARGUMENT_BITS] | saturated.replicate(ARGUMENT_BITS))
        m.d.comb += self.t.eq(t)
        return m


class ActivationLane(wiring.Component):
    """Computes f(x) or f(x) * up, the bits of docs/functions.md.

    Members
    -------
    mode : In, :class:`~logicpim.rtl.pim.activation_operand.ActivationMode`
    gate, up : In, x and up, as for :class:`~logicpim.rtl.pim.number.Unpacker`
    o : Out, FP16 or BF16, ``latency`` clocks later

    One element each clock.
    """

    mode: In(ActivationMode)
    gate: In(32)
    up: In(32)
    o: Out(16)

    # Clocks after the input at which there are: t, 2**-t, 1 / (1 + 2**-t), the product.
    _ARGUMENT = GateOperand.latency + SigmoidArgument.latency
    _EXPONENTIAL = _ARGUMENT + Exponential.latency
    _RECIPROCAL = _EXPONENTIAL + 1 + QuadraticUnit.latency
    _PRODUCT = _RECIPROCAL + 2 * Multiplier.latency
    latency = _PRODUCT + Rounder.latency

    def elaborate(self, platform):
        m = Module()
        later, mode = Delay(m), self.mode
        m.submodules.gate_operand = gate = GateOperand()
        m.submodules.up_operand = up = UpOperand()
        m.submodules.argument = argument = SigmoidArgument()
        m.submodules.exponential = exponential = shared(Exponential(), "exponential")
        m.submodules.reciprocal = reciprocal = shared(QuadraticUnit(reciprocal_table()),
                                                      "reciprocal")
        m.submodules.rounder = rounder = Rounder(49, slack=3)
        m.d.comb += [
            gate.mode.eq(mode), gate.i.eq(self.gate), up.mode.eq(mode), up.i.eq(self.up),
            argument.function.eq(mode.function), argument.significand.eq(gate.o.significand),
            argument.exponent.eq(gate.o.exponent), exponential.t.eq(argument.t),
        ]
        x, y = later(gate.o, UpOperand.latency - GateOperand.latency), up.o
        falls, exponent, special = self._combine(m, later, x, y)

        # f(x) is x / (1 + e) or, for negative x, x * e / (1 + e), with e = 2**-t.
        now = self._EXPONENTIAL - UpOperand.latency - 1
        falls, places = later(falls, now), exponential.places
        q = Signal(RECIPROCAL_ARGUMENT + 1)
        m.d.comb += q.eq(Cat(Const(0, RECIPROCAL_ARGUMENT - EXP_FRACTION),
                             exponential.significand) >> places)
        m.d.comb += reciprocal.i.eq(later.register("q", Mux(
            mode.function == Function.RELU, 0, q[:-1] | q[-1].replicate(RECIPROCAL_ARGUMENT))))
        scale = later.register("scale", later(exponent, now) - Mux(falls, places, 0), signed(12))

        y_significand = later.name("y_significand", y.significand)
        x_significand = later.name("x_significand", gate.o.significand)
        b = multiply(m, "up_part", later(y_significand, now + 1),
                     Mux(falls, exponential.significand, 1 << EXP_FRACTION))
        a = multiply(m, "x_part", later(x_significand, self._RECIPROCAL - GateOperand.latency),
                     reciprocal.o)
        b = later.name("b_kept", b[EXP_FRACTION:])
        product = multiply(m, "product", a[RECIPROCAL_FRACTION:-1],
                           later(b, 1 + QuadraticUnit.latency))
        special = later(special, self._PRODUCT - UpOperand.latency - 1)
        m.d.comb += [
            rounder.value.eq(product), rounder.format.eq(mode.output_format),
            rounder.exponent.eq(later(scale, self._PRODUCT - self._EXPONENTIAL - 1)),
            Cat(rounder.sign, rounder.zero, rounder.infinite, rounder.nan).eq(special),
            self.o.eq(rounder.o),
        ]
        return m

    def _combine(self, m, later, x, y):
        """Whether x falls on the small side; the exponent before that; sign and special results."""
        relu = self.mode.function == Function.RELU
        vanishes, infinite = Signal(), Signal()
        m.d.comb += [
            vanishes.eq(x.zero | x.sign & (relu | x.infinite) & ~x.nan),
            infinite.eq(x.infinite & ~vanishes | y.infinite),
        ]
        zero = vanishes | y.zero
        return (later.register("falls", x.sign & ~relu),
                later.register("exponent", x.exponent + y.exponent - 46, signed(12)),
                later.register("special", Cat((x.sign & ~relu) ^ y.sign, zero, infinite,
                                              x.nan | y.nan | infinite & zero)))
