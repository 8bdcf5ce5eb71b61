# SPDX-License-Identifier: BSD-2-Clause
"""Sharing: equal components become one module, different ones do not."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from logicpim.rtl.generate.share import share_key, shared, sharing, to_rtlil
from logicpim.spec.presets import PRESETS


class Adder(wiring.Component):
    """Adds one ``delay`` clocks later."""

    def __init__(self, width, *, delay=1):
        self.width, self.delay = width, delay
        super().__init__({"a": In(data.StructLayout({"x": width})), "y": Out(width)})

    def elaborate(self, platform):
        m = Module()
        value = self.a.x + 1
        for _ in range(self.delay):
            stage = Signal(self.width)
            m.d.sync += stage.eq(value)
            value = stage
        m.d.comb += self.y.eq(value)
        return m


class Pair(wiring.Component):
    """Two adders in turn behind a stream, sharing one module."""

    def __init__(self, width, delays=(1, 1)):
        self.width, self.delays = width, delays
        super().__init__({"i": In(stream.Signature(width, always_ready=True)), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.one = one = shared(Adder(self.width, delay=self.delays[0]), "adder")
        m.submodules.two = two = shared(Adder(self.width, delay=self.delays[1]), "adder")
        m.d.comb += [one.a.x.eq(self.i.payload), two.a.x.eq(one.y), self.o.eq(two.y)]
        return m


class Top(wiring.Component):
    """Pairs, themselves shared."""

    o: Out(8)

    def __init__(self, *pairs):
        self.pairs = pairs
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        for number, pair in enumerate(self.pairs):
            m.submodules[f"pair{number}"] = pair = shared(pair, "pair")
            m.d.comb += pair.i.payload.eq(self.o)
        m.d.comb += self.o.eq(pair.o)
        return m


def modules(*pairs):
    with sharing("p_") as registry:
        text = to_rtlil(Top(*pairs), "top")
    return registry.modules, text


def test_equal_components_are_one_module():
    made, text = modules(Pair(8), Pair(8), Pair(8))
    assert list(made) == ["p_adder", "p_pair"]
    assert text.count("cell \\p_pair ") == 3 and made["p_pair"].count("cell \\p_adder ") == 2
    assert "connect \\clk \\clk [0]" in text and "connect \\rst \\rst [0]" in text


def test_different_components_are_different_modules():
    made, _ = modules(Pair(8), Pair(8, (2, 1)), Pair(8, (1, 2)))
    names = sorted(made)
    assert [name.split("_")[1] for name in names] == ["adder"] * 2 + ["pair"] * 3
    for name, text in made.items():
        assert f"module \\{name}\n" in text


def test_without_clock():
    made, text = modules(Pair(8, (0, 0)))
    assert "clk" not in text and "clk" not in made["p_pair"]


def test_nothing_is_shared_outside():
    adder = Adder(4)
    assert shared(adder, "adder") is adder
    dut = Pair(8)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        ctx.set(dut.i.payload, 5)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.o) == 7

    sim.add_testbench(bench)
    sim.run()


def test_key():
    assert share_key(Pair(8)) == share_key(Pair(8))
    assert share_key(Pair(8)) != share_key(Pair(9))
    assert share_key(Pair(8)) != share_key(Pair(8, (1, 2)))
    adder = Adder(8)
    adder.config = PRESETS["channel"]
    assert share_key(adder) != share_key(Adder(8))


def test_key_refuses_what_it_cannot_compare():
    adder = Adder(8)
    adder.state = Signal(4)
    with pytest.raises(TypeError, match="Adder.state is no plain value"):
        share_key(adder)
    adder.share_key = {"width": 8}
    assert share_key(adder)[2] == {"width": 8}


def test_port_named_as_the_clock():
    class Clash(wiring.Component):
        clk: In(1)

        def elaborate(self, platform):
            return Module()

    with pytest.raises(TypeError, match="port named clk"):
        to_rtlil(Clash(), "clash")
