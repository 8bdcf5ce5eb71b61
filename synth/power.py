# SPDX-License-Identifier: BSD-2-Clause
"""Power of a netlist whose nets change as often as they were seen to, by OpenSTA."""

import re
from dataclasses import dataclass

from logicpim.spec.errors import ToolError

from . import sta
from .liberty import Library

_SCRIPT = """\
{read}
read_verilog netlist.v
link_design flat
create_clock -name clk -period {period} [get_ports clk]
proc a {{activity duty pins}} {{
  foreach pin $pins {{ sta::set_power_pin_activity [sta::find_pin $pin] $activity $duty }}
}}
{activity}
report_power -digits 6
exit
"""
_CELL = re.compile(r"^  (\w+) (?:\\(?:\S+) |\w+) \(\n(.*?)^  \);", re.MULTILINE | re.DOTALL)
_PIN = re.compile(r"\.(\w+)\(\s*(\\\S+ |[\w$]+(?:\[\d+\])?)\s*\)")
_ALIAS = re.compile(r"^  assign (\\\S+ |[\w$]+(?:\[\d+\])?) = (\\\S+ |[\w$]+(?:\[\d+\])?);",
                    re.MULTILINE)
_TOTAL = re.compile(r"^Total +(\S+) +(\S+) +(\S+) +(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Power:
    """Watts of one instance: in cells, on nets, and without any change."""

    internal: float
    switching: float
    leakage: float

    @property
    def total(self) -> float:
        return self.internal + self.switching + self.leakage


def measure(netlist: str, changes: dict[str, tuple[float, float]], library: Library,
            period_ps: float) -> Power:
    """Power of a module's cells at this activity; no wires, no clock tree.

    Parameters
    ----------
    netlist : str
        Of one module; what it instantiates beside cells is left out.
    changes : dict of str to (float, float)
        By net: changes in a clock, and the part of the time that it is 1.
    library : Library
    period_ps : float

    Raises
    ------
    ToolError
        If OpenSTA is missing or fails, or a net of the netlist was not seen.
    """
    verilog, pins = flat(netlist, library)
    if unseen := sorted(net for net in pins if net not in changes):
        raise ToolError(f"{len(unseen)} nets of the netlist were not recorded, {unseen[0]} first")
    lines = [f"a {changes[net][0]:.6g} {changes[net][1]:.6g} {{{' '.join(each)}}}"
             for net, each in pins.items()]
    report = sta.run(_SCRIPT, verilog, library, period=period_ps, activity="\n".join(lines))
    total = _TOTAL.search(report)
    if not total:
        raise ToolError("sta reported no power")
    return Power(*(float(total[i]) for i in (1, 2, 3)))


def flat(netlist: str, library: Library) -> tuple[str, dict[str, list[str]]]:
    """(the cells alone under plain names as module ``flat``, the pins on each net).

    Names of instances and nets are made anew: OpenSTA and Verilog quote odd ones differently.
    The clock's net and constants carry no activity of their own.
    """
    alias = {_plain(a): _plain(b) for a, b in _ALIAS.findall(netlist)}

    def root(net):
        while net in alias:
            net = alias[net]
        return net

    numbers, pins, lines = {"clk": "clk"}, {}, []
    for index, (kind, body) in enumerate(_CELL.findall(netlist)):
        if kind not in library.areas:
            continue
        connections = []
        for pin, net in _PIN.findall(body):
            name = root(_plain(net))
            number = numbers.setdefault(name, f"n{len(numbers)}")
            connections.append(f".{pin}({number})")
            if name != "clk":
                pins.setdefault(name, []).append(f"i{index}/{pin}")
        lines.append(f"  {kind} i{index} ({', '.join(connections)});\n")
    wires = "".join(f"  wire {number};\n" for number in numbers.values() if number != "clk")
    return f"module flat(clk);\n  input clk;\n{wires}{''.join(lines)}endmodule\n", pins


def _plain(name: str) -> str:
    return name.strip().removeprefix("\\")
