# SPDX-License-Identifier: BSD-2-Clause
"""The whole DRAM controller under free traffic, its bus judged by the observer."""

from contextlib import contextmanager

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Component, In, Out

from logicpim.rtl.bank import host as bank_host
from logicpim.rtl.bank.controller import DramController
from logicpim.rtl.control import executor
from logicpim.rtl.control import host as control_host
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .observer import BusObserver, bank_bits

REDUCED = ((bank_host, "AHEAD", 2), (control_host, "RESPONSES", 4), (executor, "PASSES", 2))
"""Depths of queues that are constants of their modules, and what proofs make of them."""


@contextmanager
def short_queues():
    """While open, what is made and elaborated has the queues of :data:`REDUCED`."""
    before = [getattr(module, name) for module, name, _ in REDUCED]
    for module, name, depth in REDUCED:
        setattr(module, name, depth)
    try:
        yield
    finally:
        for (module, name, _), depth in zip(REDUCED, before, strict=True):
            setattr(module, name, depth)


def watch(m: Module, observer, first, second) -> None:
    """Let an observer watch the two banks that its inputs name at first."""
    begun = Signal(name="watching")
    m.d.sync += begun.eq(1)
    for port, choice in ((observer.first, first), (observer.next, second)):
        kept = Signal.like(choice, name="watched")
        with m.If(~begun):
            m.d.sync += kept.eq(choice)
        m.d.comb += port.eq(Mux(begun, kept, choice))


class ControllerProof(Component):
    """Asserts rules of the observer on the bus of the controller.

    Jobs, host accesses, credit and announcements are free: nothing is assumed of them but that a
    job has a word.

    Parameters
    ----------
    config : Config
    rules : sequence of str
        As of :class:`BusObserver`.
    negative : dict
        Of the observer too.

    Members
    -------
    ports : those of :class:`DramController`
    first, next : In, the banks watched; their first value counts
    """

    def __init__(self, config: Config, rules, **negative):
        self.controller = DramController(config)
        self.observer = BusObserver(config, rules, **negative)
        bits = bank_bits(config)
        super().__init__({"ports": Out(self.controller.signature), "first": In(bits),
                          "next": In(bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = self.controller
        m.submodules.observer = observer = self.observer
        wiring.connect(m, wiring.flipped(self.ports), controller)
        m.d.comb += [Assume(controller.job.payload.words != 0),
                     *(getattr(observer.bus, name).eq(getattr(controller.bus, name))
                       for name in observer.bus.signature.members)]
        watch(m, observer, self.first, self.next)
        return m


class ControllerReach(Component):
    """Asserts that some command never happens on the bus: broken once each of them has.

    Parameters
    ----------
    config : Config
    commands : sequence of DramCommand

    Members
    -------
    ports : those of :class:`DramController`
    """

    def __init__(self, config: Config, commands):
        self.controller, self.commands = DramController(config), tuple(commands)
        super().__init__({"ports": Out(self.controller.signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = self.controller
        wiring.connect(m, wiring.flipped(self.ports), controller)
        bus, seen = controller.bus, Signal(len(self.commands))
        m.d.comb += [Assume(controller.job.payload.words != 0), Assert(~seen.all())]
        for index, command in enumerate(self.commands):
            slots = ((bus.column0, bus.column1) if DramCommand(command).is_column
                     else (bus.row0, bus.row1))
            with m.If(Cat(slot.command == command for slot in slots).any()):
                m.d.sync += seen[index].eq(1)
        return m
