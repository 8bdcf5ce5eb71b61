# SPDX-License-Identifier: BSD-2-Clause
"""2**-t: where softmax and the sigmoids get their exponentials."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.quadratic import QuadraticUnit
from logicpim.spec.functions import (
    ARGUMENT_BITS,
    ARGUMENT_FRACTION,
    EXP_FRACTION,
    exp2_table,
)


class Exponential(wiring.Component):
    """2**-t is ``significand * 2 ** (-places - 20)``.

    Members
    -------
    t : In, in units of 2**-20
    significand : Out, 2**20 to 2**21 - 1
    places : Out, 0 to 512
    significand and places are valid ``latency`` clocks after t.

    One value each clock.
    """

    t: In(ARGUMENT_BITS)
    significand: Out(EXP_FRACTION + 1)
    places: Out(ARGUMENT_BITS - ARGUMENT_FRACTION + 1)

    latency = 1 + QuadraticUnit.latency

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        m.submodules.quadratic = quadratic = shared(QuadraticUnit(exp2_table()), "exp2")
        whole, fraction = self.t[ARGUMENT_FRACTION:], self.t[:ARGUMENT_FRACTION]
        rise = later.register("rise", (-fraction)[:ARGUMENT_FRACTION])
        places = later.register("places", whole + fraction.any())
        m.d.comb += [
            quadratic.i.eq(rise), self.significand.eq(quadratic.o),
            self.places.eq(later(places, QuadraticUnit.latency)),
        ]
        return m
