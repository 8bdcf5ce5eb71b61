# SPDX-License-Identifier: BSD-2-Clause
"""The Verilog text: each module once, simple names, no places, the same bytes every time."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.artefacts import artefacts
from logicpim.rtl.generate.share import shared
from logicpim.rtl.generate.verilog import emit
from logicpim.spec.config import Config
from logicpim.spec.errors import ConfigError
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


class Leaf(wiring.Component):
    """A memory with an odd name or two around it."""

    def __init__(self, init):
        self.init = init
        super().__init__({"address": In(3), "data": In(8), "enable": In(1), "q": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = memory = Memory(shape=8, depth=8, init=self.init)
        write, read = memory.write_port(), memory.read_port()
        keyword = Signal(8, name="reg")
        same = [Signal(8, name="same") for _ in range(2)]
        m.d.comb += [write.addr.eq(self.address), read.addr.eq(self.address),
                     write.data.eq(self.data), write.en.eq(self.enable)]
        m.d.sync += [keyword.eq(read.data), same[0].eq(keyword), same[1].eq(same[0])]
        with m.Switch(self.address):
            for value in range(3):
                with m.Case(value):
                    m.d.comb += self.q.eq(same[value % 2] + value)
        return m


class Root(wiring.Component):
    """Leaves, shared and not."""

    def __init__(self, *inits):
        self.inits = inits
        super().__init__({"address": In(3), "q": Out(8)})

    def elaborate(self, platform):
        m = Module()
        total = 0
        for i, init in enumerate(self.inits):
            m.submodules[f"leaf{i}"] = leaf = shared(Leaf(init), "leaf")
            m.d.comb += [leaf.address.eq(self.address), leaf.data.eq(i), leaf.enable.eq(1)]
            total = total + leaf.q
        m.submodules.private = private = Leaf([])
        m.d.comb += [self.q.eq(total + private.q), private.address.eq(self.address)]
        return m


def small_verilog(*inits, **options):
    return emit(Config(name="trial"), lambda: Root(*inits), "root", **options)


def test_modules_and_files():
    verilog = small_verilog([], [], [1, 2])
    assert list(verilog)[0] == "logicpim_leaf" and list(verilog)[-1] == "root"
    assert len(verilog) == 3
    assert re.findall(r"^module (\w+)", verilog["root"], re.M) == ["root", "root__private"]
    assert verilog["root"].count("  logicpim_leaf ") == 2
    for text in verilog.values():
        assert text.startswith("// LogicPIM ") and "configuration trial (" in text.split("\n")[0]
    inline = re.findall(r"module (\w+).*\);\n  /\* verilator no_inline_module \*/",
                        "".join(verilog.values()))
    assert inline == list(verilog)[:-1]


def test_prefix():
    assert list(small_verilog([], prefix="mine_")) == ["mine_leaf", "root"]


def test_names_are_simple():
    text = "".join(small_verilog([], [3]).values())
    assert "\\" not in text and "$" not in text
    assert re.search(r"reg \[7:0\] reg_2 = ", text) and re.search(r"reg \[7:0\] same_\w+ = ", text)


def test_memories_stay_memories():
    zero, some, _ = small_verilog([], [7, 8]).values()
    assert "reg [7:0] table [7:0];" in zero.replace("table_2", "table")
    assert "`ifndef SYNTHESIS" in zero and zero.count("initial for") == 1
    assert "8'h07" in some and "initial for" not in some
    # What is read is known before the first read, too.
    assert len(re.findall(r"^  initial _\d+_ = 0;$", zero, re.M)) == 1


def test_arms_do_not_overlap():
    text = "".join(small_verilog([]).values())
    arms = re.findall(r"^      (\d+'b[01?]+):", text, re.M)
    assert "3'b100" in arms and "3'b?10" in arms and "3'b1??" not in arms


def test_channel(small):
    files, modules = small
    text = "".join(text for name, text in files.items() if name.endswith(".v"))
    assert Counter(modules).most_common(1)[0][1] == 1
    assert len(re.findall(r"^module ", text, re.M)) == len(modules)
    assert "\\" not in text
    assert not re.search(r"\.py|/(?:home|work|root|tmp|usr)/", text), "a place on some machine"
    assert not re.search(r"always @\*|always_comb", text), "Icarus would leave X at time 0"
    assert re.search(r"^module channel\(", text, re.M)
    assert text.count("  logicpim_processing_unit ") == SMALL.tile.tokens * SMALL.tile.rows
    stored = sum(int(w or 0) + 1 for w in re.findall(r"^  reg (?:\[(\d+):0\] )?\w+ =", text, re.M))
    assert stored < SMALL.input_buffer_bytes * 8, "a buffer in flip-flops"


@pytest.mark.full
def test_channel_is_small():
    """Equal modules once: a module for each of its many banks would show."""
    files, modules = artefacts(PRESETS["channel"])
    assert sum(len(text) for name, text in files.items() if name.endswith(".v")) < 1 << 20
    assert len(modules) < 180


def test_same_bytes_again(small):
    """Whatever the hash seed and the folder."""
    program = ("import sys, hashlib; from logicpim.rtl.generate.artefacts import artefacts; "
               "from logicpim.spec.presets import PRESETS; files, _ = artefacts(PRESETS['small']);"
               "print(hashlib.sha256(repr(files).encode()).hexdigest())")
    want = hashlib.sha256(repr(small[0]).encode()).hexdigest()
    for hash_seed, folder in (("1", "/"), ("2", Path(__file__).parent)):
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, text=True,
                              env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True)
        assert done.stdout.strip() == want


@pytest.mark.parametrize("prefix", ["", "1a", "a b", "a.b", "ä"])
def test_prefix_must_be_a_name(prefix):
    with pytest.raises(ConfigError, match="not the beginning of a Verilog name"):
        artefacts(SMALL, prefix)
