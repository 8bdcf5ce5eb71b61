# SPDX-License-Identifier: BSD-2-Clause
"""Verilator, Icarus and Yosys accept what is generated, and refuse what is wrong with it."""

import json
import re
import shutil

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


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack") / "out"
    config = PRESETS["small"].replace(stack=True, channels=2, host="axi", functions=False)
    write_folder(folder, artefacts(config)[0])
    return folder


def test_parts(stack):
    """A stack in parts: what is there once for each channel, and all the rest; every module."""
    names = accept.blocks(stack, "axi_stack")
    assert sorted(names) == ["logicpim_axi_bridge", "logicpim_stack_channel"]
    assert accept.verilator(stack, "axi_stack", parts=True) == []
    assert accept.blocks(stack, "logicpim_axi_bridge") == []


@pytest.mark.parametrize("name", ["axi_stack", "logicpim_axi_bridge", "logicpim_stack_channel",
                                  "logicpim_processing_unit"])
def test_faults_in_parts(stack, tmp_path, name):
    """Wherever the fault is, in the stack itself, in a part or below one."""
    shutil.copytree(stack, tmp_path / "out")
    path = tmp_path / "out" / f"{name}.v"
    path.write_text(re.sub("^endmodule", LATCH, path.read_text(), count=1, flags=re.MULTILINE))
    found = accept.verilator(tmp_path / "out", "axi_stack", parts=True)
    assert any("LATCH" in line for line in found)


def test_a_port_of_a_part(stack, tmp_path):
    """A part is held against the stack around it by its ports."""
    shutil.copytree(stack, tmp_path / "out")
    path = tmp_path / "out" / "logicpim_stack_channel.v"
    path.write_text(re.sub(r"^  input \[(\d+):0\] host_req_address",
                           r"  input [\1-1:0] host_req_address", path.read_text(), count=1,
                           flags=re.MULTILINE))
    found = accept.verilator(tmp_path / "out", "axi_stack", parts=True)
    assert any("host_req_address" in line and "WIDTH" in line for line in found)


@pytest.mark.full
@pytest.mark.parametrize("preset, host", [("channel", "native"), ("paper", "native"),
                                          ("paper", "axi")])
def test_paper_size(tmp_path, preset, host):
    files, modules = artefacts(PRESETS[preset].replace(host=host))
    write_folder(tmp_path / "out", files)
    top = json.loads(files["manifest.json"])["top"]
    assert len(modules) > 150
    assert not any(accept.accept(tmp_path / "out", top, parts=True).values())


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
SHORT = "  wire [3:0] short;\n  assign short = 8'd200;\nendmodule"
LATCH = "  reg latch;\n  always @* if (clk) latch = rst;\nendmodule"
TWICE = "  wire twice;\n  assign twice = !rst;\n  assign twice = !clk;\nendmodule"
MISSING = "  nowhere there (.a(clk));\nendmodule"


@pytest.mark.parametrize("tool, new, complaint", [
    ("verilator", LOOP, "UNOPTFLAT"),
    ("verilator", LATCH, "LATCH"),
    ("verilator", SHORT, "WIDTHTRUNC"),
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
