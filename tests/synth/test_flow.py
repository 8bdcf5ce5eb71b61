# SPDX-License-Identifier: BSD-2-Clause
"""Bitstreams with the real tools: a small gateware on each board, then a whole channel."""

import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from logicpim.rtl.dram.block_ram import BankMemory
from logicpim.rtl.link.frames import FrameReceiver, FrameSender
from logicpim.rtl.link.uart import UartReceiver, UartTransmitter
from logicpim.rtl.pim.buffer import LineMemory
from logicpim.rtl.stream import connect
from logicpim.spec.errors import ToolError
from logicpim.spec.presets import PRESETS
from logicpim.synth import boards, floorplan, flow, spread, tools


class Echo(wiring.Component):
    """Sends every sound frame back: in the place of the prototype, with its ports."""

    def __init__(self, config, *, clock_hz, baud):
        self.divisor = round(clock_hz / baud)
        super().__init__({"clock": In(1), "reset": In(1), "rx": In(1), "tx": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.frames = frames = FrameReceiver(size=1024)
        m.submodules.sender = sender = FrameSender(size=1024)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        connect(m, frames.o, sender.i)
        connect(m, sender.o, transmitter.i)
        m.d.comb += [
            domain.clk.eq(self.clock), domain.rst.eq(self.reset), receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx), frames.valid.eq(receiver.valid),
            frames.byte.eq(receiver.data), frames.bad.eq(receiver.bad)]
        return m


@pytest.mark.parametrize("name, memory", [
    ("logicpim_bank_memory", BankMemory(words=512, bits=64)),
    ("queue", SyncFIFOBuffered(width=64, depth=512)),
    ("logicpim_line_memory", LineMemory(lines=512, line_bits=64, cells=2))])
def test_no_registers_around_memories(tmp_path, name, memory):
    """None as wide as their data: all promise what makes them needless."""
    members = memory.signature.members if hasattr(memory, "signature") else {}
    ports = [getattr(memory, member) for member in members] or [
        memory.w_data, memory.w_en, memory.w_rdy, memory.r_data, memory.r_en, memory.r_rdy]
    (tmp_path / "unit.il").write_text(rtlil.convert(memory, name=name, ports=ports))
    tools.yosys(f"read_rtlil unit.il\n{flow.MEMORIES}synth_ecp5 -top {name}\n"
                "tee -q -o stat.json stat -json\n", tmp_path)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["DP16KD"] == 2 and cells.get("TRELLIS_FF", 0) < 64


@pytest.mark.full
@pytest.mark.parametrize("name", boards.NAMES)
def test_pins_and_clock(monkeypatch, tmp_path, name):
    """The tools take each board's PLL, pins and options, and see the clock that was asked for."""
    monkeypatch.setattr(flow, "Prototype", Echo)
    board, notes = boards.board(name), []
    found = flow.build(board, PRESETS[name], tmp_path, 1, notes.append)
    assert found["fmax_mhz"] > board.clock_hz / 1e6 and found["brams"] == 2
    assert 100 < found["luts"] < 2000 < found["luts_of"] and found["dsps"] == 0
    family = flow.FAMILIES[board.family]
    assert (tmp_path / f"top.{family.bitstream}").stat().st_size > 10_000
    asked = f"at {flow.ASKED * board.clock_hz / 1e6:.2f} MHz"
    assert asked in (tmp_path / "nextpnr.log").read_text()
    top = json.loads((tmp_path / "netlist.json").read_text())["modules"]["top"]
    assert top.get("settings", {}) == family.settings


@pytest.mark.full
def test_a_missed_clock(monkeypatch, tmp_path):
    monkeypatch.setattr(flow, "Prototype", Echo)
    board = boards.board("ulx3s-85f").at(400_000_000)
    with pytest.raises(ToolError, match="the 400 MHz it is to run at"):
        flow.build(board, PRESETS["ulx3s-85f"], tmp_path, 1, lambda text: None)
    assert not (tmp_path / "top.bit").exists()


@pytest.mark.full
def test_a_channel(tmp_path):
    """The smallest channel, another board's preset, all the way, at a clock that leaves room."""
    config, board = PRESETS["tang-mega-138k"], boards.board("ulx3s-85f").at(25_000_000)
    found = flow.build(board, config, tmp_path, 1, lambda text: None)
    assert found["dsps"] >= config.tile.macs and found["brams"] >= 2
    # Of block RAM, what buffers the link's frames alone has no place in the plan.
    modules = json.loads((tmp_path / "netlist.json").read_text())["modules"]
    cells = [c for name, module in modules.items() for c in module["cells"].values()
             if c["type"] in (floorplan.RAM, floorplan.MULTIPLIER) and "BEL" in c["attributes"]]
    assert len(cells) == config.tile.macs + found["brams"] - 2
    assert (tmp_path / "top.bit").stat().st_size > 100_000


def test_rows_left_out():
    """As many as the design can spare, a third at most; fixed LUTs on places that there are."""
    assert [len(spread.rows_left_out(n)) for n in (0, 34_000, 50_000, 84_000)] == [28, 28, 3, 0]
    assert len(spread.ROWS) * len(spread.COLUMNS) * len(spread.SLOTS) == 83_640
    cell = {"type": "CCU2C", "attributes": {}, "connections": {}}
    modules = {
        "other": {"attributes": {}, "cells": {f"c{i}": cell for i in range(12_000)}},
        "top": {"attributes": {"top": "1"}, "cells": {f"c{i}": cell for i in range(1_000)} | {
            f"o{i}": {**cell, "type": "other"} for i in range(2)}}}
    added = spread.spread(modules, "top")
    places = {c["attributes"]["BEL"] for c in modules["top"]["cells"].values() if
              c["type"] == "LUT4"}
    assert added == len(places) == 3 * 123 * 8 and len(modules["other"]["cells"]) == 12_000
    assert len({place.split("/")[1] for place in places}) == 3
