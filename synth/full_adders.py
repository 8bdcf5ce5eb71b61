# SPDX-License-Identifier: BSD-2-Clause
"""Full adders of the library for those of the design, which ABC cannot see as such.

A library's full adder gives both outputs inverted, and so does a full adder with all inputs
inverted give both as they are. Adders that feed adders are therefore made of both kinds by turns,
as far as that goes, and few inverters are left between them.
"""

import re
from dataclasses import dataclass

PLAIN, INVERTED = "\\FULL_ADDER", "\\FULL_ADDER_OF_INVERTED"
"""Types that :func:`alternate` gives to cells: inverters behind it, or before it."""

_FULL_ADDER = re.compile(r"^  cell \$fa (\S+)\n(.*?)^  end$", re.MULTILINE | re.DOTALL)
_CONNECT = re.compile(r"^    connect \\([ABCXY]) (.*)$", re.MULTILINE)
_MODULE = re.compile(r"^module .*?^end$", re.MULTILINE | re.DOTALL)
_SWEEPS = 8


@dataclass(frozen=True)
class FullAdder:
    """A cell of a library with inverted outputs.

    Attributes
    ----------
    name : str
    a, b, c, carry, sum : str
        Its pins.
    """

    name: str
    a: str
    b: str
    c: str
    carry: str
    sum: str

    def techmap(self) -> str:
        """Verilog for Yosys' ``techmap``: both kinds as this cell and inverters."""
        return f"""\
(* blackbox *) module {self.name}(input {self.a}, {self.b}, {self.c},
  output {self.carry}, {self.sum});
endmodule
{self._kind(PLAIN, "", "~")}
{self._kind(INVERTED, "~", "")}"""

    def _kind(self, name, before, behind):
        return f"""\
(* techmap_celltype = "{name[1:]}" *)
module {name[1:]}_map(A, B, C, X, Y);
  parameter WIDTH = 1;
  input A, B, C; output X, Y;
  wire carry, sum;
  {self.name} _TECHMAP_REPLACE_ (.{self.a}({before}A), .{self.b}({before}B),
    .{self.c}({before}C), .{self.carry}(carry), .{self.sum}(sum));
  assign X = {behind}carry;
  assign Y = {behind}sum;
endmodule"""


KNOWN = (FullAdder("FAx1_ASAP7_75t_R", "A", "B", "CI", "CON", "SN"),)

PREPARE = """\
(* techmap_celltype = "$fa" *)
module split(A, B, C, X, Y);
  parameter WIDTH = 1;
  parameter _TECHMAP_CONSTMSK_A_ = 0;
  parameter _TECHMAP_CONSTMSK_B_ = 0;
  parameter _TECHMAP_CONSTMSK_C_ = 0;
  localparam KNOWN = |{_TECHMAP_CONSTMSK_A_, _TECHMAP_CONSTMSK_B_, _TECHMAP_CONSTMSK_C_};
  input [WIDTH-1:0] A, B, C;
  output [WIDTH-1:0] X, Y;
  wire _TECHMAP_FAIL_ = WIDTH == 1 && !KNOWN;
  genvar i;
  generate
    if (WIDTH == 1) begin
      assign Y = A ^ B ^ C;
      assign X = A & B | C & (A ^ B);
    end else for (i = 0; i < WIDTH; i = i + 1) begin:bits
      \\$fa #(.WIDTH(1)) bit (.A(A[i]), .B(B[i]), .C(C[i]), .X(X[i]), .Y(Y[i]));
    end
  endgenerate
endmodule
"""
"""For ``techmap``, again and again: a bit each, and gates where an input is known."""


def alternate(rtlil: str) -> str:
    """RTLIL whose full adders of a bit are of one of the two kinds."""
    return _MODULE.sub(lambda module: _alternate(module[0]), rtlil)


def _alternate(module: str) -> str:
    cells = {m[1]: dict(_CONNECT.findall(m[2])) for m in _FULL_ADDER.finditer(module)}
    if not cells:
        return module
    source = {ports[pin]: name for name, ports in cells.items() for pin in "XY" if pin in ports}
    before = {name: [source[ports[pin]] for pin in "ABC" if ports[pin] in source]
              for name, ports in cells.items()}
    behind = {name: [] for name in cells}
    for name, sources in before.items():
        for other in sources:
            behind[other].append(name)
    inverted = {}
    for name in _levels(before, behind):
        seen = [inverted[other] for other in before[name]]
        inverted[name] = 2 * sum(seen) < len(seen)
    for _ in range(_SWEEPS):
        turned = [name for name in cells if _turn(name, inverted, before, behind)]
        if not turned:
            break
    return _FULL_ADDER.sub(lambda m: m[0].replace(
        "cell $fa", f"cell {INVERTED if inverted[m[1]] else PLAIN}", 1), module)


def _levels(before, behind):
    """Names, each after what feeds it."""
    left = {name: len(sources) for name, sources in before.items()}
    ready = [name for name, number in left.items() if not number]
    for name in ready:
        for other in behind[name]:
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    return ready


def _turn(name, inverted, before, behind) -> bool:
    """Take the other kind if more neighbours than not are of the same; whether that was so."""
    same = [inverted[other] == inverted[name] for other in before[name] + behind[name]]
    if 2 * sum(same) <= len(same):
        return False
    inverted[name] = not inverted[name]
    return True
