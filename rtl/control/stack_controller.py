# SPDX-License-Identifier: BSD-2-Clause
"""The operation controller of a stack: one queue and one decoder for all channels."""

from amaranth.hdl import Module, Mux, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.isa import INSTRUCTION_BITS

from .broadcaster import Broadcaster, LineGather, line_request
from .decoder import InstructionDecoder
from .descriptor import COMPLETION, operation
from .dispatcher import Collector, Dispatcher
from .executor import ORDER


def stack_instruction(config: Config) -> data.StructLayout:
    """A descriptor and the set of channels that execute it, a bit each."""
    return data.StructLayout({"descriptor": unsigned(INSTRUCTION_BITS),
                              "channels": unsigned(config.channels)})


class StackController(wiring.Component):
    """Decodes instructions, hands them to sets of channels, and collects their completions.

    Promises one completion for each instruction, in program order; that a refused one reaches no
    channel; that results are those of program order, also where channels read each other's slices.

    Nothing waits for ever. The oldest instruction that has not completed is the oldest in each of
    its channels: their executors have or get it, for what is before it has left them, and no
    completion stands before its own. If its operands are dealt, it is the oldest for the
    broadcaster too, each of its channels begins it, and no line of another is in the channels'
    queues of lines: those of jobs before have been used. So each line finds room and is used.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of :func:`stack_instruction`
    o : Out, stream of completions
    accepted, refused : Out, a bit a channel, for the counters: an instruction for it has entered
        the queue, is refused
    op_valid : Out, op_ready : In, a bit a channel; op : Out, an operation for those
    done : In, a stream of completions from each channel
    begun, taken : In, a bit a channel, see :class:`~logicpim.rtl.control.broadcaster.Broadcaster`
    request : Out, :func:`~logicpim.rtl.control.broadcaster.line_request`
    read : In, of each slice: the line that it has read, a clock after the request
    line_valid : Out, a bit a channel; line : Out, for those; two clocks after the request
    """

    def __init__(self, config: Config):
        self.config = config
        bits = config.channels
        super().__init__({
            "i": In(stream.Signature(stack_instruction(config))),
            "o": Out(stream.Signature(COMPLETION)),
            "accepted": Out(bits), "refused": Out(bits),
            "op_valid": Out(bits), "op_ready": In(bits), "op": Out(operation(config)),
            "done": In(stream.Signature(COMPLETION)).array(bits),
            "begun": In(bits), "taken": In(bits), "request": Out(line_request(config)),
            "read": In(config.line_bits).array(bits),
            "line_valid": Out(bits), "line": Out(config.line_bits)})

    def elaborate(self, platform):
        m = Module()
        config, depth = self.config, self.config.queue_depth
        m.submodules.instructions = queue = Queue(stack_instruction(config), depth=depth)
        m.submodules.decoder = decoder = InstructionDecoder(config)
        m.submodules.dispatcher = dispatcher = Dispatcher(config)
        m.submodules.broadcaster = broadcaster = Broadcaster(config)
        m.submodules.gather = gather = LineGather(config)
        m.submodules.collector = collector = Collector(config, depth=2 * depth + ORDER)
        m.submodules.completions = completions = Queue(COMPLETION, depth=depth)

        connect(m, wiring.flipped(self.i), queue.i)
        connect(m, decoder.o, dispatcher.i)
        connect(m, dispatcher.dealt, broadcaster.job)
        connect(m, dispatcher.o, collector.i)
        connect(m, collector.o, completions.i)
        connect(m, completions.o, wiring.flipped(self.o))
        m.d.comb += [
            decoder.i.valid.eq(queue.o.valid), queue.o.ready.eq(decoder.i.ready),
            decoder.i.payload.eq(queue.o.payload.descriptor),
            decoder.channels.eq(queue.o.payload.channels),
            dispatcher.chosen.eq(decoder.chosen),
            self.accepted.eq(Mux(transfer(queue.i), self.i.payload.channels, 0)),
            self.refused.eq(dispatcher.refused),
            self.op.eq(dispatcher.op), self.op_valid.eq(dispatcher.valid),
            dispatcher.ready.eq(self.op_ready),
            broadcaster.begun.eq(self.begun), broadcaster.taken.eq(self.taken),
            self.request.eq(broadcaster.request), gather.request.eq(broadcaster.request),
            self.line_valid.eq(gather.valid), self.line.eq(gather.line),
        ]
        for index in range(config.channels):
            wiring.connect(m, wiring.flipped(self.done[index]), collector.done[index])
            m.d.comb += gather.lines[index].eq(self.read[index])
        return m
