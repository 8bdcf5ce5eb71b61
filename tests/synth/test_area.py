# SPDX-License-Identifier: BSD-2-Clause
"""Area by hierarchy: sums on a design and a library small enough to add up by hand."""

import gzip
import itertools
import json
import os

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from logicpim.cli.main import main
from logicpim.rtl.generate.share import shared
from logicpim.spec.errors import ToolError
from logicpim.spec.presets import load_config
from logicpim.synth import area
from logicpim.synth.liberty import Library
from logicpim.synth.modules import Choice

INVERTER, NAND, FLIP_FLOP = 1.0, 2.0, 5.0


class Leaf(wiring.Component):
    """A register of the NAND of two inputs, and, if deep, a memory."""

    a: In(1)
    b: In(1)
    o: Out(1)

    def __init__(self, depth: int = 0):
        self.depth = depth
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        late = Signal(reset_less=True)
        m.d.sync += late.eq(~(self.a & self.b))
        m.d.comb += self.o.eq(late)
        if self.depth:
            m.submodules.memory = memory = Memory(shape=16, depth=self.depth, init=[])
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [write.en.eq(self.a), write.data.eq(self.b.replicate(16)),
                         write.addr.eq(late.replicate(len(write.addr))), read.en.eq(self.b),
                         read.addr.eq(late.replicate(len(read.addr))),
                         self.o.eq(read.data.all())]
        return m


class Pair(wiring.Component):
    """Two leaves in a row and an inverter."""

    a: In(1)
    b: In(1)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.first = first = shared(Leaf(), "leaf")
        m.submodules.second = second = shared(Leaf(), "leaf")
        m.d.comb += [first.a.eq(self.a), first.b.eq(self.b), second.a.eq(first.o),
                     second.b.eq(self.b), self.o.eq(~second.o)]
        return m


class Inner(wiring.Component):
    """A private part of the top: a leaf and a register."""

    a: In(1)
    b: In(1)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.leaf = leaf = shared(Leaf(), "leaf")
        late = Signal(reset_less=True)
        m.d.comb += [leaf.a.eq(self.a), leaf.b.eq(self.b), self.o.eq(late)]
        m.d.sync += late.eq(leaf.o)
        return m


class Top(wiring.Component):
    """Three pairs, each with a bit of its own, an inner part and a memory."""

    def __init__(self):
        super().__init__({"a": In(4), "b": In(4), "o": Out(5)})

    def elaborate(self, platform):
        m = Module()
        parts = [shared(Pair(), "pair") for _ in range(3)] + [Inner(), shared(Leaf(64), "deep")]
        for i, part in enumerate(parts):
            m.submodules[f"part_{i}"] = part
            m.d.comb += [part.a.eq(self.a[i % 4]), part.b.eq(self.b[i % 4]),
                         self.o[i].eq(part.o)]
        return m


class Nothing(wiring.Component):
    """A register that nobody reads."""

    a: In(1)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        late = Signal()
        m.d.sync += late.eq(self.a)
        return m


def measured(component, library, **options):
    """The area of a component that is not in the table."""
    class Named(Choice):
        def make(self):
            return component()
    return area.measure(Named("top", load_config("small", []), 0), library, **options)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGICPIM_CACHE", str(tmp_path / "cache"))


def test_sums_of_the_hierarchy(gates, flip_flops):
    notes = []
    library = Library([gates, flip_flops])
    found = measured(Top, library, um2_per_bit=0.5, note=notes.append)
    blocks = {b["module"]: b for b in found["blocks"]}
    assert {name: b["count"] for name, b in blocks.items()} == \
        {"top": 1, "pair": 3, "leaf": 7, "top.part_3": 1, "deep": 1}
    assert blocks["leaf"]["um2_each"] == NAND + FLIP_FLOP
    assert blocks["leaf"]["um2"] == 7 * (NAND + FLIP_FLOP)
    assert blocks["pair"]["um2"] == 3 * INVERTER
    assert blocks["top.part_3"]["um2"] == FLIP_FLOP
    assert blocks["top"]["um2"] == 0
    assert blocks["deep"]["memory_bits"] == 16 * 64
    assert found["flip_flops"] == 7 + 1 + blocks["deep"]["flip_flops"]
    assert found["um2"]["cells"] == pytest.approx(sum(b["um2"] for b in found["blocks"]))
    assert found["um2"]["memory"] == 0.5 * 16 * 64
    assert found["um2"]["total"] == found["um2"]["cells"] + found["um2"]["memory"]
    assert [note.split()[1] for note in notes] == ["leaf", "pair", "deep", "top"]
    assert measured(Top, library, um2_per_bit=0.5) == found  # from what was kept


def test_small_memories_are_flip_flops(gates, flip_flops):
    class Small(Leaf):
        def __init__(self):
            super().__init__(depth=4)

    found = measured(Small, Library([gates, flip_flops]))
    assert found["memory_bits"] == 0
    # Of words 0 and 3, whose 16 bits are equal; of the read port; and the address.
    assert found["flip_flops"] == 2 + 1 + 1


def test_what_vanishes(gates, flip_flops):
    with pytest.raises(ToolError, match="top vanished: it has registers, and none is left"):
        measured(Nothing, Library([gates, flip_flops]))


def test_unknown_cells(gates, flip_flops):
    with pytest.raises(ToolError, match="2 cells XOR9 of a have no counterpart"):
        area.block("a", {"NAND2": 1, "XOR9": 2, "$scopeinfo": 1}, {"b"},
                   Library([gates, flip_flops]))


def test_counts_multiply():
    blocks = {"a": area.Block("a", children={"b": 2, "c": 1}),
              "b": area.Block("b", children={"c": 3}), "c": area.Block("c"),
              "d": area.Block("d", children={"c": 9})}
    order = area.count(blocks, "a")
    assert {b.name: b.count for b in order} == {"a": 1, "b": 2, "c": 7}
    assert order[0].name == "a"
    for first, second in itertools.pairwise(order):
        assert first.name not in second.children


def complaint(capsys, *arguments):
    """The one line that the command ends with."""
    try:
        status = main(["area", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and len(err.splitlines()) == 1, err
    return err


def test_complaints(gates, flip_flops, tmp_path, capsys):
    both = ["--liberty", gates, flip_flops]
    assert "required: --liberty" in complaint(capsys)
    assert "No such file" in complaint(capsys, "--liberty", tmp_path / "none.lib")
    assert "no flip-flop in the liberty" in complaint(capsys, "--liberty", gates)
    assert "nothing but flip-flops" in complaint(capsys, "--liberty", flip_flops)
    assert "unknown module 'pump'; known are channel, gemm" in \
        complaint(capsys, *both, "--module", "pump")
    assert "must be an area above 0" in complaint(capsys, *both, "--memory-um2-per-bit", "-1")
    broken = tmp_path / "broken.lib.gz"
    broken.write_bytes(gzip.compress(gates.read_bytes())[:-20])
    assert "cannot read liberty file" in complaint(capsys, "--liberty", broken)
    broken.write_text("library (empty) {}")
    assert "no cells in" in complaint(capsys, "--liberty", broken)


ASAP7 = os.environ.get("LOGICPIM_LIBERTY", "").split()


@pytest.mark.skipif(not ASAP7, reason="LOGICPIM_LIBERTY names no liberty files of ASAP7")
@pytest.mark.parametrize("formats, most, exponent", [('["fp16"]', 175, 6),
                                                    ('["fp16", "bf16"]', 200, 8)])
def test_operand_bank_in_asap7(formats, most, exponent, capsys):
    assert main(["area", "--module", "operand_bank", "--set", f"formats={formats}", "--json",
                 "--liberty", *ASAP7]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 60 < 1e6 * found["mm2"]["total"] < most
    assert found["mm2"]["total"] == pytest.approx(found["mm2"]["operand_bank"]
                                                  + sum(v for k, v in found["mm2"].items()
                                                        if k.startswith("operand_bank.")))
    assert found["macs"] == 0 and found["memory_bits"] == 0
    # Significand, sign and infinity twice; NaN, nonzero, zero and exponent; whether one is NaN.
    assert found["flip_flops"] == 8 * (2 * (11 + 1 + 1) + 3 + exponent) + 1
    assert len(found["liberty"]) == len(ASAP7)
