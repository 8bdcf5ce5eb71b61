# SPDX-License-Identifier: BSD-2-Clause
"""A design in the pieces that are synthesised each once: its shared modules and its top."""

import re
from dataclasses import dataclass

from logicpim.rtl.generate.share import sharing, to_rtlil

MEMORY_BITS = 1024
"""Memories of at least this many bits are memories, smaller ones flip-flops."""

_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"^  wire .*\b(?:input|output|inout)\b.*\n", re.MULTILINE)
_CELL = re.compile(r"^  cell \\(\S+) ", re.MULTILINE)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) ", re.MULTILINE)
_REGISTER = re.compile(r"^  cell \$(?:a?s?dff|aldff)|^  process \$.*?^    sync posedge",
                       re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Unit:
    """What one run of the synthesis takes.

    Attributes
    ----------
    name : str
        Of its top module.
    whole : bool
        Its sub-modules are dissolved in it; else each is a module to the end.
    rtlil : str
        Its modules, and the ports alone of the shared modules that it instantiates. Memories to
        be kept have the attribute ``macro``.
    memory_bits : dict of str to int
        Bits of memories kept, by module.
    registers : bool
        There are flip-flops in it.
    """

    name: str
    whole: bool
    rtlil: str
    memory_bits: dict[str, int]
    registers: bool


def units(make, name: str, whole: bool = False) -> list[Unit]:
    """The units of a component, the top's last.

    Parameters
    ----------
    make : callable
        Makes the component.
    name : str
        What its module is called.
    whole : bool
        Dissolve the sub-modules of the top too.
    """
    with sharing("") as registry:
        top = to_rtlil(make(), name)
    texts = {**registry.modules, name: top}
    ports = {unit: _stub(text, unit) for unit, text in texts.items()}
    return [_unit(unit, text, ports, whole or unit != name) for unit, text in texts.items()]


def _stub(text: str, name: str) -> str:
    body = next(m[2] for m in _MODULE.finditer(text) if m[1] == name)
    return f"attribute \\blackbox 1\nmodule \\{name}\n{''.join(_PORT.findall(body))}end\n"


def _unit(name: str, text: str, ports: dict[str, str], whole: bool) -> Unit:
    bits = {}
    for module in _MODULE.finditer(text):
        for memory in _MEMORY.finditer(module[2]):
            size = int(memory[1]) * int(memory[2])
            if size >= MEMORY_BITS:
                owner = name if whole else module[1]
                bits[owner] = bits.get(owner, 0) + size

    def mark(memory):
        kept = int(memory[1]) * int(memory[2]) >= MEMORY_BITS
        return ("  attribute \\macro 1\n" if kept else "") + memory[0]

    children = sorted(set(_CELL.findall(text)) & ports.keys() - {name})
    stubs = "".join(ports[child] for child in children)
    return Unit(name, whole, stubs + _MEMORY.sub(mark, text), bits,
                _REGISTER.search(text) is not None)
