# SPDX-License-Identifier: BSD-2-Clause
"""LOAD and STORE: runs of granules between bundle words of DRAM and lines of a buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import BufferRead, BufferWrite, beat_stream, cells_per_line
from logicpim.spec.config import Config


def buffer_lines(config: Config) -> int:
    """Lines of the larger buffer: the address space that movers and hosts share."""
    return max(config.input_lines, config.temp_lines)


def move_job(config: Config) -> data.StructLayout:
    """``words`` >= 1 bundle words between DRAM and ``buffer`` from ``line`` on."""
    return data.StructLayout({
        "buffer": unsigned(1), "words": unsigned(ceil_log2(config.dram.words) + 1),
        "line": unsigned(ceil_log2(buffer_lines(config)))})


class _Cursor:
    """Where a run of granules stands in its word and in its line.

    Words and lines differ in length; both are walked in steps of the shorter one.
    """

    def __init__(self, config: Config):
        self.step = min(config.word_bits, config.line_bits)
        self.per_word = config.word_bits // self.step
        self.per_line = config.line_bits // self.step
        self.job = Signal(move_job(config))
        self.word_step, self.line_step = Signal(range(self.per_word)), Signal(range(self.per_line))
        self.last_of_word = self.word_step == self.per_word - 1
        self.last_of_line = self.line_step == self.per_line - 1

    def start(self, m: Module, job) -> None:
        m.d.sync += [self.job.eq(job), self.word_step.eq(0), self.line_step.eq(0)]

    def advance(self, m: Module) -> None:
        m.d.sync += [self.word_step.eq(Mux(self.last_of_word, 0, self.word_step + 1)),
                     self.line_step.eq(Mux(self.last_of_line, 0, self.line_step + 1)),
                     self.job.line.eq(self.job.line + self.last_of_line),
                     self.job.words.eq(self.job.words - self.last_of_word)]


class Loader(wiring.Component):
    """Writes weight beats into a buffer; while it is idle it passes them on to the tile.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`move_job`
    done : Out, a pulse in the clock in which the job's last granule is written
    buffer : Out(1), the buffer that ``write`` addresses
    i, o : weight beats from the TSV interface and on to the tile
    write : Out, port of the selected buffer
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(move_job(config))), "done": Out(1), "buffer": Out(1),
            "i": In(beat_stream(config)), "o": Out(beat_stream(config)),
            "write": Out(BufferWrite(buffer_lines(config), config.line_bits,
                                     cells_per_line(config))),
        })

    def _assemble(self, first, second):
        """The word of two beats: granule r is row r of the first, then row r of the second."""
        part = self.config.tile.depth * 16
        return Cat(Cat(first.word_select(r, part), second.word_select(r, part))
                   for r in range(self.config.tile.rows))

    def elaborate(self, platform):
        m = Module()
        config, run = self.config, _Cursor(self.config)
        first, word, busy = Signal(config.beat_bits), Signal(config.word_bits), Signal()
        cells = cells_per_line(config) // run.per_line
        m.d.comb += [
            self.buffer.eq(run.job.buffer),
            self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid & ~busy),
            self.i.ready.eq(self.o.ready & ~busy),
            self.write.address.eq(run.job.line),
            self.write.data.eq(word.word_select(run.word_step, run.step).replicate(run.per_line)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                run.start(m, self.job.payload)
                with m.If(self.job.valid):
                    m.d.sync += busy.eq(1)
                    m.next = "FIRST"
            with m.State("FIRST"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += first.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "SECOND"
            with m.State("SECOND"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += word.eq(self._assemble(first, self.i.payload))
                with m.If(self.i.valid):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.write.enable.word_select(run.line_step, cells).eq(2**cells - 1)
                with m.If(self.write.ready):
                    run.advance(m)
                    with m.If(run.last_of_word):
                        m.next = "FIRST"
                        with m.If(run.job.words == 1):
                            m.d.comb += self.done.eq(1)
                            m.d.sync += busy.eq(0)
                            m.next = "IDLE"
        return m


class Storer(wiring.Component):
    """Reads buffer lines and offers them as bundle words to be written to DRAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`move_job`
    buffer : Out(1), the buffer that ``read`` addresses
    read : Out, port of the selected buffer
    o : Out, stream of bundle words
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(move_job(config))), "buffer": Out(1),
            "read": Out(BufferRead(buffer_lines(config), config.line_bits)),
            "o": Out(stream.Signature(unsigned(config.word_bits))),
        })

    def elaborate(self, platform):
        m = Module()
        config, run = self.config, _Cursor(self.config)
        line, word = Signal(config.line_bits), Signal(config.word_bits)
        m.d.comb += [self.buffer.eq(run.job.buffer), self.read.address.eq(run.job.line),
                     self.o.payload.eq(word)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                run.start(m, self.job.payload)
                with m.If(self.job.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.enable.eq(1)
                with m.If(self.read.ready):
                    m.next = "LATCH"
            with m.State("LATCH"):
                m.d.sync += line.eq(self.read.data)
                m.next = "FILL"
            with m.State("FILL"):
                m.d.sync += word.word_select(run.word_step, run.step).eq(
                    line.word_select(run.line_step, run.step))
                run.advance(m)
                with m.If(run.last_of_word):
                    m.next = "OFFER"
                with m.Elif(run.last_of_line):
                    m.next = "READ"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FILL"
                    with m.If(run.line_step == 0):
                        m.next = "READ"
                    with m.If(run.job.words == 0):
                        m.next = "IDLE"
        return m
