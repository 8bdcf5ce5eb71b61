# SPDX-License-Identifier: BSD-2-Clause
"""Equal modules emitted once: instances by name in Verilog, the component itself elsewhere."""

import dataclasses
import enum
import hashlib
import re
from contextlib import contextmanager
from contextvars import ContextVar

from amaranth.back import rtlil
from amaranth.hdl import (
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    ResetSignal,
    Shape,
    ShapeCastable,
    Value,
)
from amaranth.hdl._ir import PortDirection
from amaranth.lib import data
from amaranth.lib.wiring import In, Signature

from .quick import quick

_registry: ContextVar["Registry | None"] = ContextVar("registry", default=None)

_PLAIN = (int, float, str, bytes, bool, type(None), enum.Enum, type, Shape, data.Layout,
          ShapeCastable, Signature)


def shared(component, name: str):
    """``component`` itself, or, while Verilog is generated, a stand-in that instantiates it.

    The stand-in has the ports of the component, so a parent wires either in the same way::

        m.submodules.unit = unit = shared(DotProduct(config), "dot_product")
        m.d.comb += unit.a.eq(...)

    Parameters
    ----------
    component : wiring.Component
        It clocks itself from the ``sync`` domain alone. Two components are equal when their
        class, signature and parameters are: the parameters are ``component.share_key`` where
        it has one, else all its attributes but the ports, which must then be plain values.
    name : str
        Module name in Verilog, below the prefix of the generator.
    """
    registry = _registry.get()
    return component if registry is None else _StandIn(registry, component, name)


@contextmanager
def sharing(prefix: str = "logicpim_"):
    """While open, :func:`shared` makes stand-ins; yields the :class:`Registry` they fill."""
    registry = Registry(prefix)
    token = _registry.set(registry)
    try:
        yield registry
    finally:
        _registry.reset(token)


class Registry:
    """The shared modules of one design.

    Attributes
    ----------
    modules : dict
        Module name to RTLIL text, each module after those it instantiates.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.modules = {}
        self._known = []  # (key, module name, has clock, has reset)

    def instance(self, component, name: str) -> Instance:
        """An instance of the module of ``component``, which is emitted if it is a new one."""
        key = (name, share_key(component))
        found = next((entry for entry in self._known if entry[0] == key), None)
        if found is None:
            found = (key, *self._emit(component, name))
            self._known.append(found)
        _, module, *domain = found
        ports = {("i_" if flow is In else "o_") + port: value
                 for port, value, flow in flat_ports(component)}
        for there, port, signal in zip(domain, ("clk", "rst"), (ClockSignal, ResetSignal),
                                       strict=True):
            if there:
                ports["i_" + port] = signal()
        return Instance(module, **ports)

    def _emit(self, component, name):
        module = self.prefix + name
        text = to_rtlil(component, module)
        if self.modules.get(module, text) != text:
            module += "_" + hashlib.sha256(text.encode()).hexdigest()[:8]
            text = to_rtlil(component, module)
        self.modules[module] = text
        head = text.partition("\nend\n")[0]
        inputs = re.findall(r"^  wire width 1 input \d+  \\(\S+)$", head, re.MULTILINE)
        return module, "clk" in inputs, "rst" in inputs


class _StandIn(Elaboratable):
    """Has the ports of a component and elaborates to an instance of its module."""

    def __init__(self, registry, component, name):
        self._registry, self._component, self._name = registry, component, name
        component._MustUse__used = True

    def __getattr__(self, name):
        return getattr(self._component, name)

    def elaborate(self, platform):
        return self._registry.instance(self._component, self._name)


def flat_ports(component):
    """(flat name, value, flow) of each port of a component; constants are no ports."""
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if len(value) and not isinstance(value, Const):
            yield "__".join(map(str, path)), value, member.flow


def to_rtlil(component, module: str) -> str:
    """RTLIL of a component, without places in source files."""
    ports = {port: (value, PortDirection.Input if flow is In else PortDirection.Output)
             for port, value, flow in flat_ports(component)}
    if clash := ports.keys() & {"clk", "rst"}:
        raise TypeError(f"a component with a clock must not have a port named {min(clash)}")
    with quick():
        return rtlil.convert(component, name=module, ports=ports, emit_src=False)


def share_key(component):
    """What equal components have in common: class, signature, parameters."""
    parameters = getattr(component, "share_key", None)
    if parameters is None:
        ports = component.signature.members.keys()
        parameters = {name: _plain(component, name, value)
                      for name, value in vars(component).items()
                      if name not in ports and not name.startswith(("_MustUse", "_Component__"))}
    return type(component), component.signature, parameters


def _plain(component, name, value):
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _plain(component, name, item)
    elif isinstance(value, dict):
        _plain(component, name, (*value.keys(), *value.values()))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _plain(component, name, getattr(value, field.name))
    elif not isinstance(value, _PLAIN):
        raise TypeError(f"{type(component).__name__}.{name} is no plain value: give the component "
                        f"a share_key that says which parameters make two of them equal")
    return value
