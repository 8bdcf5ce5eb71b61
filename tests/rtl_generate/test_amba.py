# SPDX-License-Identifier: BSD-2-Clause
"""Memory map and register map: equal in C, SystemRDL, documentation and the table."""

import subprocess
from pathlib import Path

import pytest

from logicpim.rtl.generate.amba import map_table, register_tables, system_rdl
from logicpim.rtl.generate.header import c_header
from logicpim.rtl.tsv.lanes import groups
from logicpim.spec.device import Counter, LaneRegister, Region
from logicpim.spec.errors import ConfigError
from logicpim.spec.host import (
    BOUNDARY,
    REGISTERS,
    Access,
    address_bits,
    control_bits,
    counter_offset,
    memory_map,
)
from logicpim.spec.presets import PRESETS

AXI = PRESETS["small"].replace(host="axi")
STACK = AXI.replace(stack=True, channels=4)
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("config", [*PRESETS.values(), PRESETS["small"].replace(
    input_buffer_bytes=1 << 17, temp_buffer_bytes=1 << 9)], ids=lambda c: c.name)
def test_windows(config):
    """They do not touch, and a window's offset bits are those of its size."""
    windows = memory_map(config)
    assert [w.region for w in windows] == [Region.DRAM, Region.INPUT, Region.TEMP]
    assert windows[0].size == config.capacity_bytes and windows[0].base == 0
    for window in windows:
        assert window.base % BOUNDARY == window.base % window.size == 0
    for before, after in zip(windows, windows[1:], strict=False):
        assert before.end <= after.base
    assert windows[-1].end <= 1 << address_bits(config)


def test_documentation_is_up_to_date():
    text = (DOCS / "integration.md").read_text()
    assert register_tables(PRESETS["paper"]) in text and map_table(PRESETS["channel"]) in text


def test_header(tmp_path):
    (tmp_path / "logicpim.h").write_text(c_header(AXI))
    (tmp_path / "a.c").write_text(
        '#include "logicpim.h"\n'
        f"_Static_assert(LOGICPIM_AXI_TEMP_BASE == {memory_map(AXI)[2].base}, \"\");\n"
        f"_Static_assert(LOGICPIM_REG_COMPLETION == {REGISTERS['completion'].offset}, \"\");\n"
        "_Static_assert(LOGICPIM_REG_COMPLETION_VALID == 0x80000000u, \"\");\n"
        "_Static_assert(LOGICPIM_REG_DIGEST_VALUE == 0x" + AXI.digest[:8] + ", \"\");\n")
    subprocess.run(["cc", "-Wall", "-Werror", "-c", "a.c"], cwd=tmp_path, check=True)
    assert "CHANNEL_STRIDE" not in c_header(AXI) and "REG_CHANNELS" not in c_header(AXI)
    assert "#define LOGICPIM_REG_CHANNEL_STRIDE 0x1000\n" in c_header(STACK)
    assert "#define LOGICPIM_REG_CHANNELS_VALUE 0xf" in c_header(STACK)
    assert "AXI" not in c_header(PRESETS["small"])


LANES = AXI.replace(lane_repair=True)


def compiled(config, folder):
    """The registers that the SystemRDL compiler finds."""
    compiler = pytest.importorskip("systemrdl", reason="pip install systemrdl-compiler")
    (folder / "a.rdl").write_text(system_rdl(config))
    rdl = compiler.RDLCompiler()
    rdl.compile_file(str(folder / "a.rdl"))
    nodes = rdl.elaborate().top.descendants(unroll=True)
    return [node for node in nodes if isinstance(node, compiler.node.RegNode)]


def test_rdl_of_a_stack(tmp_path):
    """The set of channels, and the counters of each."""
    for config, words, bits in ((STACK, 1, 15), (STACK.replace(channels=64), 2, 19)):
        found = {n.get_path(): n for n in compiled(config, tmp_path)}
        chosen = [n for path, n in found.items() if path.startswith("logicpim.channels")]
        assert [n.absolute_address for n in chosen] == [0x18, 0x1c][:words]
        assert sum(f.width for n in chosen for f in n.fields()) == config.channels
        assert control_bits(config) == bits
        for channel in range(config.channels):
            for counter in Counter:
                node = found[f"logicpim.channel[{channel}].{counter.name.lower()}"]
                at = counter_offset(counter, channel)
                assert node.absolute_address == at == 0x1000 * (1 + channel) + 8 * counter
                assert at < 1 << control_bits(config)


def test_rdl_of_lanes(tmp_path):
    found = [(n.inst_name, n.absolute_address) for n in compiled(LANES, tmp_path)]
    assert ("lane_test", 0x1000 + 8 * LaneRegister.TEST) in found
    assert [at for name, at in found if name == "lane_group"] == [
        0x1000 + 8 * (LaneRegister.GROUPS + i) for i in range(len(groups(LANES)))]


def test_rdl(tmp_path):
    """The SystemRDL compiler finds every register and field of the table, and no others."""
    found = {}
    for register in compiled(AXI, tmp_path):
        found.setdefault(register.inst_name, []).append(register)
    assert found.keys() == REGISTERS.keys() | {c.name.lower() for c in Counter}
    for name, register in REGISTERS.items():
        nodes = found[name]
        assert [n.absolute_address for n in nodes] == [
            register.offset + 4 * i for i in range(register.count)]
        fields = {f.inst_name: f for f in nodes[0].fields()}
        assert fields.keys() == {f.name for f in register.fields}
        for field in register.fields:
            node, access = fields[field.name], field.access or register.access
            assert (node.low, node.width) == (field.lsb, field.width)
            assert node.is_sw_readable == access.readable
            assert node.is_sw_writable == access.writable
            assert (node.get_property("onwrite") is not None) == (access is Access.W1C)
    for counter in Counter:
        assert found[counter.name.lower()][0].absolute_address == 0x1000 + 8 * counter


@pytest.mark.parametrize("changes, words", [
    ({"host": "ahb"}, 'host must be "native" or "axi"'),
    ({"stack": True}, "stack needs channels of at least 2"),
    ({"line_fifo": 3}, "line_fifo must be a power of two"),
    ({"axi_data_bits": 48}, "axi_data_bits must be a power of two"),
    ({"axi_data_bits": 512}, "from 8 to 128"),
    ({"axi_id_bits": 0}, "axi_id_bits must be from 1 to 32"),
    ({"axi_id_bits": 4.0}, "axi_id_bits must be from 1 to 32"),
])
def test_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        AXI.replace(**changes)
