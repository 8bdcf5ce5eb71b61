# SPDX-License-Identifier: BSD-2-Clause
"""The TSV interface of one channel: weight words in as beats, result words out."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import DataBus, DataStrobes, EccEvents, beat_stream
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.ecc import CHECK_BITS, PART_BITS

from .ecc import Corrector, check_bits
from .gearbox import Gearbox
from .io_buffer import IoBuffer
from .path_switch import PathSwitch

WRITE_WORDS = 4  # a write every two clocks, although data leaves six clocks after its announcement


class TsvInterface(wiring.Component):
    """Only wires: path switch, I/O buffer, gearbox, weight buffer and write queue.

    No beat is lost: the weight buffer holds every word the controller has credit for. The first
    beat of a word leaves four clocks after ``bundle_read`` at the earliest. With ``config.ecc``
    what is written gets its check bits here, and what is read is corrected, which takes a clock
    on each path.

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
    host_rdata : Out(granule_bits), valid with ``strobes.host_read``, with ``config.ecc`` in the
        clock after it
    host_bad : Out(1), valid with ``host_rdata``: it is not correct (``config.ecc``)
    ecc : Out(EccEvents) (``config.ecc``)
    """

    def __init__(self, config: Config):
        self.config = config
        members = {
            "strobes": In(DataStrobes(config)), "bus": Out(DataBus(config)),
            "beats": Out(beat_stream(config)),
            "words": In(stream.Signature(unsigned(config.word_bits))),
            "host_rdata": Out(config.granule_bits),
        }
        if config.ecc:
            members |= {"host_bad": Out(1), "ecc": Out(EccEvents(config))}
        super().__init__(members)

    def _stored(self, switch):
        """The word read as it is stored: each half of a granule with its check bits above it."""
        config = self.config
        data, check = config.granule_bits // 2, config.check_bits // 2
        return Cat((switch.bundle_rdata.word_select(i, data),
                    switch.bundle_rcheck.word_select(i, check))
                   for i in range(2 * config.dram.bundle_banks))

    def _correct_beats(self, m: Module, source, sink) -> None:
        """Decoders between gearbox and weight buffer, which has room for all that comes."""
        config, banks = self.config, self.config.dram.bundle_banks
        m.submodules.beat_corrector = unit = Corrector(config.beat_bits // PART_BITS)
        half, data = config.stored_bits // 2, config.granule_bits // 2
        halves = [source.payload.word_select(row, half) for row in range(banks)]
        second, bad = Signal(), Signal()
        m.d.comb += [
            source.ready.eq(1), unit.valid.eq(source.valid),
            unit.data.eq(Cat(part[:data] for part in halves)),
            unit.check.eq(Cat(part[data:] for part in halves)),
            sink.valid.eq(unit.o_valid), sink.payload.eq(unit.o),
            self.ecc.words_corrected.eq(unit.corrected),
            self.ecc.words_uncorrected.eq(unit.uncorrected),
        ]
        m.d.sync += [second.eq(second ^ unit.o_valid), self.ecc.word.eq(unit.o_valid & second),
                     self.ecc.bad.eq(unit.bad | bad)]
        with m.If(unit.o_valid):
            m.d.sync += bad.eq(unit.bad & ~second)

    def _correct_host(self, m: Module, switch) -> None:
        """Decoders of the xPU path, and the encoders of both."""
        m.submodules.host_corrector = unit = Corrector(self.config.check_bits // CHECK_BITS)
        m.d.comb += [
            unit.valid.eq(self.strobes.host_read),
            unit.data.eq(switch.host_rdata), unit.check.eq(switch.host_rcheck),
            self.host_rdata.eq(unit.o), self.host_bad.eq(unit.bad & unit.o_valid),
            self.ecc.host_corrected.eq(unit.corrected),
            self.ecc.host_uncorrected.eq(unit.uncorrected),
            switch.bundle_wcheck.eq(check_bits(switch.bundle_wdata)),
            switch.host_wcheck.eq(check_bits(self.strobes.host_wdata)),
        ]

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
            switch.bundle_wdata.eq(writes.o.payload),
            writes.o.ready.eq(self.strobes.bundle_write),
            self.strobes.word_taken.eq(second & transfer(weights.o)),
        ]
        if config.ecc:
            m.d.comb += io_buffer.rdata.eq(self._stored(switch))
            self._correct_beats(m, gearbox.o, weights.i)
            self._correct_host(m, switch)
        else:
            m.d.comb += [io_buffer.rdata.eq(switch.bundle_rdata),
                         self.host_rdata.eq(switch.host_rdata)]
            connect(m, gearbox.o, weights.i)
        return m
