# SPDX-License-Identifier: BSD-2-Clause
"""A stack: channels that share an operation controller and broadcast operands. Only wires."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.channel import ChannelBase, side_ports
from logicpim.rtl.control.descriptor import COMPLETION, operation
from logicpim.rtl.control.stack_controller import StackController
from logicpim.rtl.generate.share import shared
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.isa import INSTRUCTION_BITS


class StackChannel(ChannelBase):
    """A channel of a stack: operations in, completions out, and a slice of the stack's buffers.

    Parameters
    ----------
    config : Config

    Members
    -------
    op : In, stream of operations; done : Out, stream of completions
    accepted, refused : In, pulses as an instruction for this channel enters the stack's queue, and
        as it is refused
    begun, taken : Out, to the broadcaster
    slice_enable, slice_address : In, a line of the input slice to be read for the broadcaster;
        slice_line : Out, a clock later
    line_valid, line : In, operands of dealt GEMMs in the order of their use; there is room for
        ``line_fifo`` that have not been ``taken``
    host_*, dram_* : see :class:`~logicpim.rtl.channel.ChannelBase`
    """

    def __init__(self, config: Config):
        super().__init__(config, {
            "op": In(stream.Signature(operation(config))),
            "done": Out(stream.Signature(COMPLETION)),
            "accepted": In(1), "refused": In(1), "begun": Out(1), "taken": Out(1),
            "slice_enable": In(1), "slice_address": In(ceil_log2(config.input_lines)),
            "slice_line": Out(config.line_bits),
            "line_valid": In(1), "line": In(config.line_bits)})

    def _operations(self, m: Module):
        m.submodules.operations = self._queue = Queue(operation(self.config),
                                                      depth=self.config.queue_depth)
        return self._queue.o

    def _instruction_ports(self, m: Module, executor) -> None:
        config, counters = self.config, self._counted
        connect(m, wiring.flipped(self.op), self._queue.i)
        if self._hold is not None:
            with m.If(self._hold):
                m.d.comb += [executor.i.valid.eq(0), self._queue.o.ready.eq(0)]
        m.submodules.completions = completions = Queue(COMPLETION, depth=config.queue_depth)
        connect(m, executor.o, completions.i)
        connect(m, completions.o, wiring.flipped(self.done))
        m.submodules.lines = lines = Queue(unsigned(config.line_bits), depth=config.line_fifo)
        connect(m, lines.o, m.submodules.gemm.lines)
        reader = m.submodules.buffer_ports.slice
        m.d.comb += [
            counters.accepted.eq(self.accepted), counters.refused.eq(self.refused),
            counters.completed.eq(transfer(executor.o)),
            lines.i.valid.eq(self.line_valid), lines.i.payload.eq(self.line),
            reader.enable.eq(self.slice_enable), reader.address.eq(self.slice_address),
            self.slice_line.eq(reader.data),
        ]
        m.d.sync += [self.begun.eq(executor.begun), self.taken.eq(transfer(lines.o))]


class Stack(wiring.Component):
    """A complete stack of Logic-PIM: all its channels, under one operation controller.

    Promises that instructions complete in program order, each with one completion, that a
    refused instruction has no effect, and of each channel's host port that every request gets one
    response, in order.

    Parameters
    ----------
    config : Config

    Members
    -------
    insn_valid, insn_ready, insn_payload, insn_channels : instructions in, 256 bits, see
        ``docs/isa.md``, with the set of channels that execute it, a bit each
    done_valid, done_ready, done_tag, done_status : completions out
    ch00_host_*, ch00_dram_*, ch01_... : those of each channel, see
        :class:`~logicpim.rtl.channel.ChannelBase`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "insn_valid": In(1), "insn_ready": Out(1), "insn_payload": In(INSTRUCTION_BITS),
            "insn_channels": In(config.channels),
            "done_valid": Out(1), "done_ready": In(1),
            "done_tag": Out(16), "done_status": Out(8),
            **{f"ch{index:02}_{name}": member for index in range(config.channels)
               for name, member in side_ports(config).items()}})

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = StackController(self.config)
        m.d.comb += [
            controller.i.valid.eq(self.insn_valid), self.insn_ready.eq(controller.i.ready),
            controller.i.payload.descriptor.eq(self.insn_payload),
            controller.i.payload.channels.eq(self.insn_channels),
            self.done_valid.eq(controller.o.valid), controller.o.ready.eq(self.done_ready),
            self.done_tag.eq(controller.o.payload.tag),
            self.done_status.eq(controller.o.payload.status),
        ]
        for index in range(self.config.channels):
            channel = shared(StackChannel(self.config), "stack_channel")
            m.submodules[f"ch{index:02}"] = channel
            self._channel(m, controller, index, channel)
        return m

    def _channel(self, m: Module, controller, index: int, channel) -> None:
        connect(m, channel.done, controller.done[index])
        m.d.comb += [
            channel.op.valid.eq(controller.op_valid[index]), channel.op.payload.eq(controller.op),
            controller.op_ready[index].eq(channel.op.ready),
            channel.accepted.eq(controller.accepted[index]),
            channel.refused.eq(controller.refused[index]),
            controller.begun[index].eq(channel.begun), controller.taken[index].eq(channel.taken),
            channel.slice_enable.eq(controller.request.owner[index]),
            channel.slice_address.eq(controller.request.address),
            controller.read[index].eq(channel.slice_line),
            channel.line_valid.eq(controller.line_valid[index]), channel.line.eq(controller.line),
        ]
        for name, member in side_ports(self.config).items():
            inner, outer = getattr(channel, name), getattr(self, f"ch{index:02}_{name}")
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
