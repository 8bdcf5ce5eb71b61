# SPDX-License-Identifier: BSD-2-Clause
"""Verilator, Icarus and Yosys accept what is generated, and refuse what is wrong with it."""

import re

import pytest

from logicpim.rtl.generate.artefacts import artefacts, write_folder
from logicpim.spec.presets import PRESETS, load_config
from logicpim.synth import accept


@pytest.fixture(scope="module")
def files():
    return artefacts(PRESETS["small"])[0]


@pytest.fixture
def folder(tmp_path, files):
    write_folder(tmp_path / "out", files)
    return tmp_path / "out"


def edit(folder, pattern, new):
    """Plants a fault in the top module."""
    path = folder / "channel.v"
    at = path.read_text().index("module channel(")
    head, top = path.read_text()[:at], path.read_text()[at:]
    changed = re.sub(pattern, new, top, count=1, flags=re.MULTILINE)
    assert changed != top
    path.write_text(head + changed)


def test_verilator(folder):
    assert accept.verilator(folder) == []


@pytest.mark.icarus
def test_icarus(folder):
    assert accept.icarus(folder) == []


def test_yosys(folder):
    assert accept.yosys(folder) == []


@pytest.mark.parametrize("changes", [
    {}, pytest.param({"axi_data_bits": 32, "axi_id_bits": 1}, marks=pytest.mark.full),
    pytest.param({"ecc": True, "lane_repair": True}, marks=pytest.mark.full)])
def test_axi(tmp_path, changes):
    write_folder(tmp_path / "out", artefacts(PRESETS["small"].replace(host="axi", **changes))[0])
    assert not any(accept.accept(tmp_path / "out", "axi_channel").values())


@pytest.mark.full
@pytest.mark.parametrize("host, top", [("native", "stack"), ("axi", "axi_stack")])
def test_stack(tmp_path, host, top):
    """Of four channels: Icarus and Verilator take up every instance by itself."""
    config = PRESETS["small"].replace(stack=True, channels=4, formats=("fp16", "int8"), host=host)
    write_folder(tmp_path / "out", artefacts(config)[0])
    assert not any(accept.accept(tmp_path / "out", top).values())


@pytest.mark.full
def test_paper_size(tmp_path):
    write_folder(tmp_path / "out", artefacts(PRESETS["channel"])[0])
    assert not any(accept.accept(tmp_path / "out").values())


@pytest.mark.full
@pytest.mark.parametrize("changes", [
    ["tile.tokens=1", "tile.groups=1"],
    ["tile.tokens=8", "tile.groups=4", "temp_buffer_bytes=16384", "input_buffer_bytes=8192"],
    ["tile.rows=2", "dram.bundle_banks=2", "tile.depth=16"],
    ["tile.rows=8", "tile.depth=8", "dram.bundle_banks=8", "dram.ranks=2"],
    ["dram.bank_groups=1", "dram.banks_per_group=8", "dram.columns=4", "word_fifo=4"],
    ["queue_depth=2", "host_burst=1", "refresh=false"],
])
def test_odd_configurations(tmp_path, changes):
    write_folder(tmp_path / "out", artefacts(load_config("small", changes))[0])
    assert not any(accept.accept(tmp_path / "out").values())


@pytest.mark.full
@pytest.mark.parametrize("changes", [["ecc=true"], ["lane_repair=true", "lane_group=32"],
                                     ["ecc=true", "lane_repair=true"]])
def test_integrity(tmp_path, changes):
    write_folder(tmp_path / "out", artefacts(load_config("small", changes))[0])
    assert not any(accept.accept(tmp_path / "out").values())
    if len(changes) == 2:
        assert not any(accept.accept(tmp_path / "out", "dram_lanes").values())


LOOP = """\
  wire loop_a;
  wire loop_b;
  assign loop_a = !loop_b & rst;
  assign loop_b = !loop_a & rst;
  always @(posedge clk) if (loop_b) $display("loop");
endmodule"""
LATCH = "  reg latch;\n  always @* if (clk) latch = rst;\nendmodule"
TWICE = "  wire twice;\n  assign twice = !rst;\n  assign twice = !clk;\nendmodule"
MISSING = "  nowhere there (.a(clk));\nendmodule"


@pytest.mark.parametrize("tool, new, complaint", [
    ("verilator", LOOP, "UNOPTFLAT"),
    ("verilator", LATCH, "LATCH"),
    ("verilator", "  wire [3:0] short;\n  assign short = 8'd200;\nendmodule", "WIDTHTRUNC"),
    ("verilator", MISSING, "nowhere"),
    ("icarus", MISSING, "nowhere"),
    ("icarus", "  assign undeclared = clk;\nendmodule", "undeclared"),
    ("yosys", LOOP, "found logic loop"),
    ("yosys", TWICE, "conflicting drivers"),
    ("yosys", MISSING, "nowhere"),
])
def test_faults_are_seen(folder, tool, new, complaint, request):
    if tool == "icarus" and "icarus" not in accept.accept_tools():
        pytest.skip("Icarus Verilog is missing: apt-get install iverilog")
    edit(folder, "^endmodule", new)
    assert any(complaint in line for line in accept.TOOLS[tool](folder))
