# SPDX-License-Identifier: BSD-2-Clause
"""The rule of every stream: what is offered stays, unchanged, until it is taken."""

from amaranth.hdl import Assert, Assume, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from logicpim.rtl.bank.host import HostWay, Ready, made_access
from logicpim.rtl.bank.order import HostOrder
from logicpim.rtl.control import executor as control_executor
from logicpim.rtl.control import host as control_host
from logicpim.rtl.control.decoder import InstructionDecoder
from logicpim.rtl.control.dispatcher import Collector, Dispatcher
from logicpim.rtl.control.executor import OperationExecutor
from logicpim.rtl.control.function_slot import FunctionSlot
from logicpim.rtl.control.host import HostPort
from logicpim.rtl.control.masked_write import MaskedWrites
from logicpim.rtl.control.mover import Loader, Storer
from logicpim.rtl.control.read_errors import ReadErrors
from logicpim.rtl.control.stack_controller import StackController
from logicpim.rtl.host.bridge import AxiBridge
from logicpim.rtl.host.burst import BurstWalker
from logicpim.rtl.host.registers import AxiLiteRegisters
from logicpim.rtl.pim.drain import Drain
from logicpim.rtl.pim.job import JobDivider
from logicpim.rtl.pim.sequencer import Sequencer
from logicpim.rtl.stack import StackChannel
from logicpim.rtl.stream import Queue, SkidBuffer, transfer
from logicpim.rtl.tsv.gearbox import Gearbox
from logicpim.rtl.tsv.interface import TsvInterface
from logicpim.rtl.tsv.io_buffer import IoBuffer
from logicpim.spec.config import Config
from logicpim.spec.isa import Opcode


def is_stream(member) -> bool:
    """Whether a member of a signature is a stream, in either direction."""
    signature = member.signature if member.is_signature else None
    if isinstance(signature, wiring.FlippedSignature):
        signature = signature.flip()
    return isinstance(signature, stream.Signature)


def kept(m: Module, port, name: str) -> Signal:
    """1 unless ``port`` takes back or changes what it offered in the clock before."""
    payload = Value.cast(port.payload)
    waited, before = Signal(name=f"{name}_waited"), Signal(len(payload), name=f"{name}_before")
    rule = Signal(name=f"{name}_kept")
    m.d.sync += [waited.eq(port.valid & ~port.ready), before.eq(payload)]
    m.d.comb += rule.eq(~waited | (port.valid & (payload == before)))
    return rule


class Handshake(wiring.Component):
    """Asserts the rule on each stream that ``dut`` gives, assumes it on each that it takes.

    Parameters
    ----------
    dut : Component
        It has the ports of this one.
    environment : callable, optional
        Of (module, dut); adds what else is assumed of the inputs.
    """

    def __init__(self, dut, environment=None):
        self.dut, self.environment = dut, environment
        super().__init__(dut.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = self.dut
        # Not connect(), which cannot flip an array of streams.
        for (_, member, outer), (_, _, inner) in zip(
                self.signature.flatten(self), self.dut.signature.flatten(self.dut), strict=True):
            outer, inner = Value.cast(outer), Value.cast(inner)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        for name, member in self.dut.signature.members.items():
            if is_stream(member):
                judge = Assume if member.flow is In else Assert
                ports = getattr(self.dut, name)
                for n, port in enumerate(ports if member.dimensions else [ports]):
                    m.d.comb += judge(kept(m, port, f"{name}{n}"))
        if self.environment is not None:
            self.environment(m, self.dut)
        return m


def counted(m: Module, name: str, begins, ends, most: int) -> Signal:
    """Assume that ``ends`` comes only for something that has begun and has not ended.

    ``most`` is at least what can be under way; that is asserted. Returns what is under way.
    """
    under_way = Signal(range(most + 2), name=f"{name}_under_way")
    m.d.sync += under_way.eq(under_way + begins - ends)
    m.d.comb += [Assume(~ends | (under_way != 0)), Assert(under_way <= most)]
    return under_way


def executor_environment(m: Module, executor) -> None:
    """A GEMM job, and a function's, is finished after it was handed out, once."""
    counted(m, "gemm", transfer(executor.gemm), executor.gemm_done, control_executor.PASSES + 1)
    if executor.config.functions:
        counted(m, "function", transfer(executor.function), executor.function_done, 1)


def slot_environment(m: Module, slot) -> None:
    """A GEMM job ends after it was handed out, no more are under way than agreed, and none is
    handed out that shares lines with the operation in the slot: that waits in the executor."""
    under_way = counted(m, "gemm", slot.issued, slot.gemm_done, slot.passes)
    m.d.comb += [Assume((under_way != slot.passes) | ~slot.issued),
                 Assume(slot.following == slot.gemm),
                 Assume(~slot.issued | (slot.gemm.opcode == Opcode.GEMM)),
                 Assume(~slot.issued | ~(slot.busy & slot.conflict) & ~transfer(slot.i))]


def host_environment(m: Module, port) -> None:
    """An access is done after it was handed over, once."""
    counted(m, "dram", transfer(port.dram), port.dram_done, control_host.RESPONSES)


def loader_environment(m: Module, loader) -> None:
    """No beat is on offer when a LOAD begins: the executor lets everything before it end."""
    m.d.comb += Assume(~(loader.job.valid & loader.i.valid & loader.job.ready))


def io_buffer_environment(m: Module, buffer) -> None:
    """No word comes while one is held and not taken: shown by ``ReadProof``."""
    m.d.comb += Assume(~(buffer.capture & buffer.o.valid & ~buffer.o.ready))


def sequencer_environment(m: Module, sequencer) -> None:
    """Blocks go to the real walker."""
    m.submodules.walker = walker = Drain.walker(sequencer.config)
    m.d.comb += [
        walker.blocks.valid.eq(sequencer.blocks.valid),
        walker.blocks.payload.eq(sequencer.blocks.payload),
        Assume(sequencer.blocks.ready == walker.blocks.ready),
        Assume(sequencer.released == walker.released),
    ]


def masked_environment(m: Module, unit) -> None:
    """An access is done after it was passed on, once, and no more are passed on than agreed."""
    under_way = counted(m, "passed", transfer(unit.o), unit.o_done, unit.under_way)
    m.d.comb += Assume((under_way != unit.under_way) | ~unit.o.ready)


UNITS = {
    Queue: None, SkidBuffer: None, InstructionDecoder: None,
    OperationExecutor: executor_environment, FunctionSlot: slot_environment,
    Loader: loader_environment, Storer: None, HostPort: host_environment,
    HostWay: None, Ready: None, HostOrder: None, MaskedWrites: masked_environment,
    Dispatcher: None, Collector: None, StackController: None, StackChannel: None,
    ReadErrors: None, JobDivider: None, Sequencer: sequencer_environment,
    IoBuffer: io_buffer_environment, Gearbox: None, TsvInterface: None,
    AxiBridge: None, BurstWalker: None, AxiLiteRegisters: None}
"""All components that give a stream, and what is assumed besides the rule on those they take."""

MAKERS = {Queue: lambda config: Queue(4, depth=4),
          SkidBuffer: lambda config: SkidBuffer(4),
          OperationExecutor: lambda config: OperationExecutor(config, order=4),
          FunctionSlot: lambda config: FunctionSlot(config, passes=control_executor.PASSES),
          Ready: lambda config: Ready(config, made_access(config)),
          Collector: lambda config: Collector(config, depth=4),
          HostOrder: lambda config: HostOrder(config, 4),
          MaskedWrites: lambda config: MaskedWrites(config, 4)}
"""How to make those that a configuration alone does not make."""


def make(unit, config: Config):
    """A component of :data:`UNITS`, or of another class made from a configuration."""
    return MAKERS.get(unit, unit)(config)


def handshake(unit, config: Config) -> Handshake:
    """The proof about one of :data:`UNITS`."""
    return Handshake(make(unit, config), UNITS[unit])
