# SPDX-License-Identifier: BSD-2-Clause
"""The TSV interface of one channel: weight words in as beats, result words out."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import DataBus, DataStrobes, beat_stream
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config

from .gearbox import Gearbox
from .io_buffer import IoBuffer
from .path_switch import PathSwitch

WRITE_WORDS = 4  # a write every two clocks, although data leaves six clocks after its announcement


class TsvInterface(wiring.Component):
    """Only wires: path switch, I/O buffer, gearbox, weight buffer and write queue.

    No beat is lost: the weight buffer holds every word the controller has credit for. The first
    beat of a word leaves four clocks after ``bundle_read`` at the earliest.

    Parameters
    ----------
    config : Config

    Members
    -------
    strobes : In(DataStrobes); drives ``word_taken`` in the clock in which the second beat of a
        word leaves, ``word_ready`` in the clock after a word to write was accepted
    bus : Out(DataBus)
    beats : Out, stream of beats, see :func:`~logicpim.rtl.signatures.beat_stream`
    words : In, stream of words to be written
    host_rdata : Out(granule_bits), valid with ``strobes.host_read``
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "strobes": In(DataStrobes(config)), "bus": Out(DataBus(config)),
            "beats": Out(beat_stream(config)),
            "words": In(stream.Signature(unsigned(config.word_bits))),
            "host_rdata": Out(config.granule_bits),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.path_switch = switch = PathSwitch(config)
        m.submodules.io_buffer = io_buffer = IoBuffer(config)
        m.submodules.gearbox = gearbox = Gearbox(config)
        m.submodules.weights = weights = Queue(unsigned(config.beat_bits),
                                               depth=2 * config.word_fifo)
        m.submodules.writes = writes = Queue(unsigned(config.word_bits), depth=WRITE_WORDS)
        connect(m, io_buffer.o, gearbox.i)
        connect(m, gearbox.o, weights.i)
        connect(m, weights.o, wiring.flipped(self.beats))
        connect(m, wiring.flipped(self.words), writes.i)
        wiring.connect(m, wiring.flipped(self.bus), switch.bus)

        second = Signal()
        m.d.sync += [second.eq(second ^ transfer(weights.o)),
                     self.strobes.word_ready.eq(transfer(writes.i))]
        m.d.comb += [
            *(getattr(switch.strobes, name).eq(getattr(self.strobes, name))
              for name, member in DataStrobes(config).members.items() if member.flow is Out),
            io_buffer.capture.eq(self.strobes.bundle_read),
            io_buffer.rdata.eq(switch.bundle_rdata),
            switch.bundle_wdata.eq(writes.o.payload),
            writes.o.ready.eq(self.strobes.bundle_write),
            self.host_rdata.eq(switch.host_rdata),
            self.strobes.word_taken.eq(second & transfer(weights.o)),
        ]
        return m
