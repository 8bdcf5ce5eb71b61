# SPDX-License-Identifier: BSD-2-Clause
"""Netlists in simulation: what judges them, what they are written with, and whether they hold."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from logicpim.cli.main import main
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import ToolError
from logicpim.spec.isa import Buffer
from logicpim.spec.presets import load_config
from logicpim.synth import ecp5_models, netlist_check
from logicpim.synth.liberty import Library

SMALL = load_config("small", [])
LIBERTY = os.environ.get("LOGICPIM_LIBERTY", "").split()

FLIP_FLOP = """\
  TRELLIS_FF #(
    .CEMUX("{ce}"),
    .CLKMUX("CLK"),
    .LSRMUX("{lsr}"),
    .REGSET("SET")
  ) name (
    .CE(on),
    .CLK(clk),
    .DI(\\a.b [3]),
    .LSR({reset}),
    .Q(q)
  );
"""


class Wrong(ReferenceDevice):
    """A device that gets one bit of its last results wrong."""

    def execute(self, programs):
        done = super().execute(programs)
        last = list(programs[0])[-1].result_line * self.config.line_bytes
        self._buffer(0, Buffer.TEMP)[last] ^= 1
        return done


def test_the_golden_model_agrees_with_itself(seed):
    seen = []
    with ReferenceDevice(SMALL) as device:
        assert netlist_check.compare(SMALL, device, 40, seed, lambda *at: seen.append(at)) == 0
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_one_wrong_bit_is_found(seed):
    with Wrong(SMALL) as device:
        assert netlist_check.compare(SMALL, device, 20, seed) == 20


def test_gemms_are_of_every_kind(seed):
    random = np.random.default_rng(seed)
    config = SMALL.replace(formats=("fp16", "bf16", "int8"))
    gemms = [netlist_check.random_gemm(config, random) for _ in range(300)]
    for name, values in (("transpose", {0, 1}), ("accumulate", {0, 1}),
                         ("weight_format", set(config.weight_formats)),
                         ("input_format", set(config.input_formats)),
                         ("output_format", set(config.output_formats))):
        assert {getattr(insn, name) for insn in gemms} == values, name
    assert max(insn.m for insn in gemms) > config.tile.max_tokens
    assert len({insn.interleave for insn in gemms}) == config.dram.bundles.bit_length()


@pytest.mark.parametrize("init", [0x8000, 0x0001, 0x1234])
def test_a_table_is_a_constant_that_its_inputs_index(init):
    text = (f"  LUT4 #(\n    .INIT(16'h{init:04x})\n  ) name (\n    .A(a),\n    .B(1'h0),\n"
            f"    .C(\\c.d [1]),\n    .D(d),\n    .Z(\\z [0])\n  );\n")
    assert ecp5_models.spelled_out(text) == (
        f"  assign \\z [0] = 16'h{init:04x} >> {{d, \\c.d [1], 1'h0, a}};\n")


@pytest.mark.parametrize("ce, reset, becomes", [
    ("1", "1'h0", "\\a.b [3]"), ("CE", "1'h0", "on ? \\a.b [3] : flip_flop_0"),
    ("1", "rst", "rst ? 1'h1 : \\a.b [3]"),
    ("CE", "rst", "rst ? 1'h1 : on ? \\a.b [3] : flip_flop_0")])
def test_a_flip_flop_is_a_register(ce, reset, becomes):
    text = ecp5_models.spelled_out(FLIP_FLOP.format(ce=ce, lsr="LSR", reset=reset))
    assert text.splitlines()[-1] == f"  always @(posedge clk) flip_flop_0 <= {becomes};"
    assert "reg flip_flop_0 = 1'h1;" in text and "assign q = flip_flop_0;" in text


def test_another_kind_of_reset_has_no_model():
    with pytest.raises(ToolError, match="LSRMUX"):
        ecp5_models.spelled_out(FLIP_FLOP.format(ce="1", lsr="INV", reset="rst"))


def test_every_cell_of_an_ecp5_has_a_model():
    text = ecp5_models.text()
    for cell in ("PFUMX", "L6MUX21", "CCU2C", "TRELLIS_DPR16X4", "MULT18X18D", "DP16KD"):
        assert len(re.findall(rf"^module {cell}\b", text, re.MULTILINE)) == 1


def test_clock_gates_are_told_by_their_pins(gates, flip_flops):
    pins = {"out": "G", "clock": "CP", "enable": "E", "test": "T"}
    cell = "\n".join(["cell (GATE) {", "area : 1.0;",
                      'clock_gating_integrated_cell : "latch_posedge";', "statetable () { }",
                      *(f"pin ({pin}) {{\nclock_gate_{role}_pin : true;\n}}"
                        for role, pin in pins.items()), "}\n}"])
    gates.write_text(gates.read_text().rstrip().removesuffix("}") + cell)
    assert Library([gates, flip_flops]).clock_gates == {"GATE": pins}


@pytest.mark.parametrize("words", [["cells"], ["ecp5", "--liberty", "x.lib"]])
def test_liberty_goes_with_cells(words, capsys):
    assert main(["netlist", *words]) == 2
    assert "--liberty goes with `cells`" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize("target", ["ecp5", "cells"])
def test_netlists_give_the_same_bits(target, capsys):
    options = []
    if target == "cells":
        if not LIBERTY or not all(Path(name).exists() for name in LIBERTY):
            pytest.skip("LOGICPIM_LIBERTY names no liberty files of ASAP7")
        options = ["--liberty", *LIBERTY]
    assert main(["netlist", target, *options, "--gemms", "100", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["matches_reference"] and not result["wrong"] and result["clocks"] > 5000
