# SPDX-License-Identifier: BSD-2-Clause
"""Critical paths: what the tools report is put to the right register."""

import json

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from logicpim.cli.main import main
from logicpim.synth import ecp5, sta
from logicpim.synth.harness import Harness


class Sum(wiring.Component):
    """More bits than a chain of the harness has."""

    a: In(70)
    b: In(70)
    o: Out(140)

    def elaborate(self, platform):
        m = Module()
        product = Signal(140)
        m.d.sync += product.eq(self.a * self.b)
        m.d.comb += self.o.eq(product)
        return m


def test_harness_reaches_every_bit():
    """Random seeds go through: inputs take both values, each by itself, and outputs are seen."""
    harness = Harness(Sum())
    seen, left = [set() for _ in range(140)], []

    async def bench(ctx):
        value = 1
        for _ in range(600):
            value = value * 5 % 65537
            ctx.set(harness.seeds, value & 0xFFFF)
            await ctx.tick()
            inputs = ctx.get(harness.component.a) | ctx.get(harness.component.b) << 70
            for i, values in enumerate(seen):
                values.add(inputs >> i & 1)
            left.append(ctx.get(harness.o))

    simulator = Simulator(harness)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert all(values == {0, 1} for values in seen)
    assert 200 < sum(left) < 400


@pytest.mark.parametrize("cell, register", [
    ("dut.dot.align_term_3_TRELLIS_FF_Q_12", "dot.align_term_*"),
    ("dut.adder.add_total_TRELLIS_FF_Q", "adder.add_total"),
    ("dut.product_MULT18X18D_P0", "product"),
    ("harness_out_TRELLIS_FF_Q_7", "(outputs)"),
    ("port$228$0_TRELLIS_FF_Q_78", "harness_in"),
    ("harness_in_TRELLIS_FF_Q_1", "harness_in"),
])
def test_registers_of_cells(cell, register):
    assert ecp5.register(cell) == register


def test_stages_are_the_worst_by_register():
    clock = "posedge clk"

    def net(event, *ends):
        return {"event": event, "endpoints": [
            {"cell": cell, "event": to, "delay": [ns / 2, ns]} for cell, to, ns in ends]}

    assert ecp5.stages([
        net(clock, ("dut.a_TRELLIS_FF_Q_1", clock, 3.0), ("dut.a_TRELLIS_FF_Q_2", clock, 5.0)),
        net(clock, ("dut.b_TRELLIS_FF_Q", clock, 7.0), ("harness_in_TRELLIS_FF_Q", clock, 9.0)),
        net("<async>", ("dut.a_TRELLIS_FF_Q_1", clock, 50.0)),
        net(clock, ("o$tr_io", "<async>", 50.0)),
    ]) == {"b": 7.0, "a": 5.0}


def test_stages_of_standard_cells():
    report = """\
                                     Required  Actual
Endpoint                               Delay   Delay   Slack
------------------------------------------------------------
dot.sum_total[31]$_DFF_P_/D (DFFHQNx1_ASAP7_75t_R) 1519.76 1492.47   27.28 (MET)
dot/align_term_3[7]$_DFF_P_/D (DFFHQNx1_ASAP7_75t_R) 1500.00 1600.00 -100.00 (VIOLATED)
dot.sum_total[30]$_DFF_P_/D (DFFHQNx1_ASAP7_75t_R) 1519.76 1400.00  119.76 (MET)
o[3] (output) 1538.00 1000.00  538.00 (MET)
"""
    assert sta.stages(report, 1538) == {
        "dot.align_term_*": 1.638, "dot.sum_total": 1.511, "(outputs)": 1.0}


def test_complaints(capsys):
    assert main(["timing", "--module", "pump"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("logicpim: error: unknown module 'pump'; known are")
    with pytest.raises(SystemExit) as stop:
        main(["timing", "--mhz", "0"])
    assert stop.value.code == 2


@pytest.mark.full
def test_walker_on_an_ecp5(capsys):
    assert main(["timing", "--config", "small", "--module", "walker", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["modules"]["walker"]
    slowest = max(found["stages"].values())
    assert found["fmax_mhz"] > 100
    assert 1000 / slowest == pytest.approx(found["fmax_mhz"], rel=0.05)
    assert found["flip_flops"] > 40 and found["multipliers"] == 0
