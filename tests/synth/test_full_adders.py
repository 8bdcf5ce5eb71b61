# SPDX-License-Identifier: BSD-2-Clause
"""Full adders of a library in place of those of the design: the same sums, few inverters."""

import re

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal

from logicpim.synth import tools
from logicpim.synth.full_adders import INVERTED, KNOWN, PLAIN, PREPARE, alternate

OPERANDS, BITS = 5, 6

# An evaluation by Yosys itself, with the library's cell written out.
CELL = """\
module {name}(input {a}, {b}, {c}, output {carry}, {sum});
  assign {carry} = ~({a} & {b} | {c} & ({a} ^ {b}));
  assign {sum} = ~({a} ^ {b} ^ {c});
endmodule
"""


def adder_tree():
    m = Module()
    operands = [Signal(BITS, name=f"x{i}") for i in range(OPERANDS)]
    total = Signal(BITS + 3, name="total")
    m.d.comb += total.eq(sum(operands))
    return rtlil.convert(m, name="top", ports=[*operands, total], emit_src=False)


def test_sums_are_the_same(tmp_path, seed):
    cell = KNOWN[0]
    (tmp_path / "top.il").write_text(adder_tree())
    (tmp_path / "split.v").write_text(PREPARE)
    (tmp_path / "full_adders.v").write_text(cell.techmap())
    (tmp_path / "cell.v").write_text(CELL.format(**vars(cell)))
    prepare = "techmap -map split.v\nopt_expr -undriven -fine\nopt_clean\n" * 4
    tools.yosys(f"read_rtlil top.il\nalumacc\nmaccmap\nopt -fast\n{prepare}"
                f"write_rtlil middle.il\n", tmp_path)
    middle = (tmp_path / "middle.il").read_text()
    changed = alternate(middle)
    kinds = [changed.count(f"cell {kind} ") for kind in (PLAIN, INVERTED)]
    assert min(kinds) > 2 and sum(kinds) == middle.count("cell $fa ")
    (tmp_path / "changed.il").write_text(changed)

    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1 << BITS, (20, OPERANDS))
    evaluate = "".join(
        "tee -q -a sums.txt eval " + " ".join(f"-set x{i} {v}" for i, v in enumerate(row))
        + " -show total top\n" for row in values.tolist())
    tools.yosys(f"read_rtlil changed.il\ntechmap -map full_adders.v\nstat\ndelete {cell.name}\n"
                f"read_verilog cell.v\nhierarchy -top top\nflatten\n{evaluate}", tmp_path)
    found = re.findall(r"Eval result: \\total = \d+'([01]+)", (tmp_path / "sums.txt").read_text())
    assert [int(bits, 2) for bits in found] == values.sum(1).tolist()


def test_neighbours_differ():
    """A row of adders, each fed by the one before: no inverter is needed between two."""
    cells = "".join(f"""\
  cell $fa $fa{i}
    parameter \\WIDTH 1
    connect \\A \\a [{i}]
    connect \\B \\b [{i}]
    connect \\C {f'$carry{i - 1}' if i else '1'}
    connect \\X $carry{i}
    connect \\Y \\sum [{i}]
  end
""" for i in range(8))
    changed = alternate(f"module \\row\n{cells}end\n")
    kinds = re.findall(r"^  cell (\S+) \$fa\d", changed, re.MULTILINE)
    assert kinds == [PLAIN, INVERTED] * 4 or kinds == [INVERTED, PLAIN] * 4


def test_modules_without_are_left_alone():
    text = "module \\top\n  wire \\a\nend\n"
    assert alternate(text) == text
