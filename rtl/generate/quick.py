# SPDX-License-Identifier: BSD-2-Clause
"""Amaranth without what costs it most of its time at wide buses, bit by bit."""

import gc
from contextlib import contextmanager

from amaranth.back.rtlil import ModuleEmitter
from amaranth.hdl._nir import Net, Netlist, Value

# Amaranth has 16: no room for the inputs of a stack of 32 channels, which have 86,000.
_BITS = 24

_emit_memory, _new = ModuleEmitter.emit_memory, tuple.__new__


def _emit_memory_unless_zero(self, index, cell):
    # Contents that are all zero: rtl.generate.verilog has a loop for them.
    if any(cell.init):
        _emit_memory(self, index, cell)


def _value(cls, nets=()):
    # Every bit of every value again would be asked whether it is a net.
    return _new(cls, (nets,) if isinstance(nets, Net) else nets)


def _slice(self, index):
    found = tuple.__getitem__(self, index)
    return _new(Value, found) if isinstance(index, slice) else found


def _resolve_value(self, value):
    connections, nets = self.connections, []
    for net in value:
        while net < 0:
            net = connections[net]
        nets.append(net)
    return _new(Value, nets)


_REPLACED = (
    (ModuleEmitter, "emit_memory", _emit_memory_unless_zero),
    # The search for combinational loops is left to Verilator and Yosys, which read all of it.
    (Netlist, "check_comb_cycles", lambda netlist: None),
    (Netlist, "resolve_value", _resolve_value),
    (Net, "from_cell", classmethod(lambda cls, cell, bit: int.__new__(cls, cell << _BITS | bit))),
    (Net, "cell", property(lambda net: net >> _BITS)),
    (Net, "bit", property(lambda net: net & (1 << _BITS) - 1)),
    (Value, "__new__", _value),
    (Value, "__getitem__", _slice),
)


@contextmanager
def quick():
    """While open, elaboration takes about half its time, has room for modules with more than
    65,536 bits of inputs, and makes the same text.

    Nor does the collector look again and again at millions of objects in use.
    """
    collects = gc.isenabled()
    gc.disable()
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in _REPLACED]
    for owner, name, function in _REPLACED:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        if collects:
            gc.enable()
