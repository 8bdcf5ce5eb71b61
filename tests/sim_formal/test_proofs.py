# SPDX-License-Identifier: BSD-2-Clause
"""Each proof holds, and each one fails where a bug is planted in what it is about."""

import inspect
import json
import pkgutil
from importlib import import_module

import pytest
from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

import logicpim.rtl
from logicpim.rtl.bank import machine, scheduler, timer
from logicpim.rtl.bank.bundle import BundleAgent
from logicpim.rtl.bank.host import HostAgent
from logicpim.rtl.bank.refresh import BankRefresh
from logicpim.rtl.bank.timer import Gaps
from logicpim.rtl.tsv import interface
from logicpim.sim.formal import ownership
from logicpim.sim.formal.__main__ import main
from logicpim.sim.formal.catalogue import LATE, PARTS, PROOFS, REFRESH, WIDE, reduced, shape
from logicpim.sim.formal.controller import ControllerProof, ControllerReach, short_queues
from logicpim.sim.formal.handshake import MAKERS, UNITS, Handshake, is_stream, make
from logicpim.sim.formal.ownership import AnyHost, HostContract, SchedulerProof
from logicpim.sim.formal.prove import run
from logicpim.sim.formal.refresh import RefreshProof
from logicpim.sim.formal.tsv import CreditProof, ReadProof, WriteProof, narrow
from logicpim.spec.dram import DramCommand

QUICK = ("credit",)


def mutant(unit, change):
    """The component ``unit`` with assignments added to its module, which win."""
    class Mutant(type(unit)):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            change(self, m)
            return m
    unit.__class__ = Mutant
    return unit


def status(top, mode="prove", depth=None):
    with short_queues():
        return run(top() if callable(top) else top, mode, depth=depth, limit=400).status


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in PROOFS])
def test_proof(name):
    outcome = PROOFS[name].run()
    assert outcome.status == "PASS", outcome.log[-3000:]


def test_credit_for_more_than_there_is_room_fails():
    config = reduced()
    agent = BundleAgent(config.replace(word_fifo=2 * config.word_fifo))
    assert status(CreditProof(config, agent)) == "FAIL"


@pytest.mark.full
@pytest.mark.parametrize("rule, row, longer", [
    ("rank", "nRREFD", 2), ("rank", "nRRDL", 2), ("column", "nCCDL", 1), ("column", "nWTRL", 2),
    ("column", "host bus RD-WR", 6), ("window", "nFAW", 4)])
def test_a_longer_row_is_not_kept_by_the_controller(rule, row, longer):
    """The distances are attained to the clock: the observer would see a shorter one."""
    assert status(lambda: ControllerProof(reduced(PARTS, WIDE), [rule], longer=longer, row=row),
                  "bmc", 28) == "FAIL"


@pytest.mark.full
def test_window_of_four_activates_forgotten(monkeypatch):
    """The other distances alone let a fifth activate into the window."""
    class Less(Gaps):
        def __init__(self, config):
            super().__init__(config)
            self.window = self.act_to_any
    monkeypatch.setattr(timer, "Gaps", Less)
    assert status(lambda: ControllerProof(reduced(PARTS, WIDE), ["window"]), "bmc", 28) == "FAIL"


@pytest.mark.full
@pytest.mark.parametrize("row, longer", [
    ("nRC", 4), ("nRCDRD", 2), ("nRCDWR", 4), ("nRAS", 2), ("nRP", 2), ("nRTPL", 2), ("nWR", 2),
    ("nCCDL", 1), ("nWTRL", 2), ("nRFCSB", 8)])
def test_a_longer_row_is_not_kept_by_the_scheduler(row, longer):
    assert status(lambda: SchedulerProof(reduced(), ["bank"], longer=longer, row=row),
                  "bmc", 24) == "FAIL"


@pytest.mark.full
def test_a_part_that_is_not_there(monkeypatch):
    number = scheduler._number
    monkeypatch.setattr(scheduler, "_number", lambda one_hot: number(one_hot) + 1)
    config = reduced()  # bundles of one part
    assert status(lambda: ControllerProof(config, ["form"])) == "FAIL"


@pytest.mark.full
@pytest.mark.parametrize("rule", ["bank", "state"])
def test_host_in_a_bundle_of_others(rule):
    """The contract is needed: a host whose accesses pass without the grant."""
    def impolite(self, m):
        m.d.comb += self.passed.eq(self.wants)
    assert status(lambda: SchedulerProof(reduced(), [rule],
                                         mutant(AnyHost(reduced()), impolite))) == "FAIL"


@pytest.mark.full
def test_host_that_forgets_the_clock_before(monkeypatch):
    """A precharge behind an access: timers do not know of it yet."""
    class Forgetful(ownership.Before):
        def __init__(self, m, agent):
            super().__init__(m, agent)
            soon = Signal.like(agent.soon_precharge)
            m.d.sync += soon.eq(agent.soon_precharge)
            self.may_precharge = soon.bit_select(agent.bank, 1)
    monkeypatch.setattr(ownership, "Before", Forgetful)
    assert status(lambda: SchedulerProof(reduced(), ["bank"]), "bmc", 24) == "FAIL"


@pytest.mark.full
def test_path_switched_under_data(monkeypatch):
    class Less(Gaps):
        def __init__(self, config):
            super().__init__(config)
            self.read_latency = 0
    monkeypatch.setattr(machine, "Gaps", Less)
    assert status(lambda: SchedulerProof(reduced(rows=LATE), ["path"]), "bmc", 24) == "FAIL"


@pytest.mark.full
def test_host_that_calls_itself_idle():
    def idle(self, m):
        m.d.comb += self.idle[1].eq(1)
    assert status(lambda: HostContract(reduced(), mutant(HostAgent(reduced()), idle))) == "FAIL"


@pytest.mark.full
@pytest.mark.parametrize("change", [
    lambda self, m: m.d.comb.__iadd__(self.i.ready.eq(self.o.ready)),
    lambda self, m: m.d.comb.__iadd__(self.i.ready.eq(0)),
    lambda self, m: m.d.comb.__iadd__(self.o.payload.eq(self.i.payload))],
    ids=["lost", "doubled", "mixed"])
def test_gearbox_with_a_bug(monkeypatch, change):
    gearbox = interface.Gearbox
    monkeypatch.setattr(interface, "Gearbox", lambda config: mutant(gearbox(config), change))
    assert status(lambda: ReadProof(narrow(reduced()))) == "FAIL"


@pytest.mark.full
def test_weight_buffer_too_small():
    config = narrow(reduced().replace(word_fifo=8))
    small = narrow(reduced())
    assert status(lambda: ReadProof(config, interface.TsvInterface(small))) == "FAIL"


@pytest.mark.full
def test_words_announced_beyond_the_room(monkeypatch):
    monkeypatch.setattr(interface, "WRITE_WORDS", 8)
    assert status(lambda: WriteProof(narrow(reduced()))) == "FAIL"


@pytest.mark.full
def test_refresh_owed():
    config = reduced(rows=REFRESH)
    assert status(lambda: RefreshProof(config, grant=3, serve=3, postponed=6),
                  "bmc", 250) == "FAIL"

    def never(self, m):
        m.d.comb += self.wants.eq(0)
    lazy = mutant(BankRefresh(config), never)
    assert status(lambda: RefreshProof(config, grant=300, serve=3, refresh=lazy),
                  "bmc", 250) == "FAIL"


@pytest.mark.full
def test_what_never_happens_is_not_reached():
    assert status(lambda: ControllerReach(reduced(), [DramCommand.REFAB]), "reach", 8) == "FAIL"


def streams(unit):
    return [name for name, member in unit.signature.members.items()
            if is_stream(member) and member.flow is Out]


def entire(unit):
    """The configuration of a component's proof, but with the slot for functions."""
    return shape(unit).replace(functions=True)


class Fickle(Component):
    """A component that offers twice what it has on one of its streams, and changes its mind.

    Altered outside the component, whatever drives its outputs, and in which domain.
    """

    def __init__(self, unit, name):
        self.unit, self.name = unit, name
        super().__init__(unit.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        fickle = getattr(self, self.name), getattr(self.unit, self.name)
        altered = (self.name, "valid"), (self.name, "payload")
        for (path, member, outer), (_, _, inner) in zip(
                self.signature.flatten(self), self.unit.signature.flatten(self.unit), strict=True):
            outer, inner = Value.cast(outer), Value.cast(inner)
            if member.flow is In:
                m.d.comb += inner.eq(outer)
            elif path not in altered:
                m.d.comb += outer.eq(inner)
        offered, clock = Signal(), Signal()
        m.d.sync += [offered.eq(fickle[1].valid), clock.eq(~clock)]
        m.d.comb += [fickle[0].valid.eq(fickle[1].valid | offered),
                     Value.cast(fickle[0].payload).eq(Value.cast(fickle[1].payload) ^ clock)]
        return m


@pytest.mark.full
@pytest.mark.parametrize("unit, name", [
    pytest.param(unit, name, id=f"{unit.__name__}-{name}")
    for unit in UNITS for name in streams(make(unit, entire(unit)))])
def test_stream_that_changes_its_mind(unit, name):
    """Found in each stream, so what is assumed does not keep the component from offering."""
    def top():
        dut, environment = make(unit, entire(unit)), UNITS[unit]
        return Handshake(Fickle(dut, name), environment and (lambda m, _: environment(m, dut)))
    assert status(top, "bmc", 24) == "FAIL"


@pytest.mark.full
@pytest.mark.parametrize("unit", [unit for unit in UNITS if UNITS[unit]],
                         ids=lambda unit: unit.__name__)
def test_environment_is_needed(unit):
    """Without it a stream breaks the rule: no more is assumed than has to be."""
    assert status(lambda: Handshake(make(unit, entire(unit))), "bmc", 24) == "FAIL"


def test_every_component_that_gives_a_stream_is_proved():
    config, found = reduced(), set()
    for module in pkgutil.walk_packages(logicpim.rtl.__path__, "logicpim.rtl."):
        for _, cls in inspect.getmembers(import_module(module.name), inspect.isclass):
            if not issubclass(cls, Component) or cls.__module__ != module.name:
                continue
            parameters = list(inspect.signature(cls).parameters.values())
            if cls not in MAKERS and (not parameters or parameters[0].name != "config" or any(
                    p.default is inspect.Parameter.empty for p in parameters[1:])):
                continue
            unit = make(cls, config)
            if streams(unit):
                found.add(cls)
    assert found == set(UNITS)


def test_command_line(capsys):
    assert main(["--list", "--json", "--only", "tsv-*"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [proof["name"] for proof in told["proofs"]] == ["tsv-read", "tsv-write"]
    assert main(["--only", "nothing"]) == 2
    assert "no proof is called 'nothing'" in capsys.readouterr().err
    assert main(["--limit", "0"]) == 2
