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


def part_bits(config: Config) -> int:
    """What movers and host read of a line at once: a line, or a word of DRAM if that is shorter."""
    return min(config.word_bits, config.line_bits)


def buffer_parts(config: Config) -> int:
    """Parts of the larger buffer; the address of a part is that of its line and its place there."""
    return buffer_lines(config) * (config.line_bits // part_bits(config))


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
        self.step = part_bits(config)
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

    def again(self, m: Module) -> None:
        """Back to where the word began, from its last step."""
        m.d.sync += [self.word_step.eq(0), self.job.line.eq(self.job.line - (self.per_word - 1))]


class Loader(wiring.Component):
    """Writes weight beats into a buffer; while it is idle it passes them on to the tile.

    The first beat of a word fills the lower halves of its granules, the second the upper ones: of
    a word no longer than a line each takes a clock.

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

    def elaborate(self, platform):
        m = Module()
        run, busy, second = _Cursor(self.config), Signal(), Signal()
        step = Signal()     # the halves of a step are written
        m.d.comb += [
            self.buffer.eq(run.job.buffer), self.job.ready.eq(~busy),
            self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid & ~busy),
            self.i.ready.eq(Mux(busy, self.write.ready & run.last_of_word, self.o.ready)),
            step.eq(busy & self.i.valid & self.write.ready),
            self.done.eq(step & run.last_of_word & second & (run.job.words == 1)),
        ]
        self._write(m, run, second, busy & self.i.valid)
        with m.If(self.job.valid & self.job.ready):
            run.start(m, self.job.payload)
            m.d.sync += [busy.eq(1), second.eq(0)]
        with m.If(step):
            with m.If(second | ~run.last_of_word):
                run.advance(m)
            with m.Else():
                run.again(m)
            m.d.sync += [second.eq(second ^ run.last_of_word), busy.eq(~self.done)]
        return m

    def _write(self, m: Module, run: _Cursor, second, enable) -> None:
        """Halves of a step's granules, in every place where they might belong."""
        part = self.config.granule_bits // 2
        granules = run.step // self.config.granule_bits
        halves = self.i.payload.word_select(run.word_step, granules * part)
        line = Cat(halves.word_select(g, part).replicate(2) for g in range(granules))
        cells = cells_per_line(self.config) // run.per_line // granules // 2
        here = Cat(~second, second)
        chosen = Cat(half.replicate(cells) for half in here).replicate(granules)
        m.d.comb += [
            self.write.address.eq(run.job.line),
            self.write.data.eq(line.replicate(run.per_line)),
        ]
        with m.If(enable):
            m.d.comb += self.write.enable.word_select(run.line_step, len(chosen)).eq(chosen)


class Storer(wiring.Component):
    """Reads parts of buffer lines and offers them as bundle words to be written to DRAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`move_job`
    buffer : Out(1), the buffer that ``read`` addresses
    read : Out, port of the selected buffer, a part (:func:`part_bits`) at a time
    o : Out, stream of bundle words
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(move_job(config))), "buffer": Out(1),
            "read": Out(BufferRead(buffer_parts(config), part_bits(config))),
            "o": Out(stream.Signature(unsigned(config.word_bits))),
        })

    def elaborate(self, platform):
        m = Module()
        config, run = self.config, _Cursor(self.config)
        word = Signal(config.word_bits)
        m.d.comb += [self.buffer.eq(run.job.buffer), self.o.payload.eq(word),
                     self.read.address.eq(Cat(run.line_step, run.job.line))]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                run.start(m, self.job.payload)
                with m.If(self.job.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.enable.eq(1)
                with m.If(self.read.ready):
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.sync += word.word_select(run.word_step, run.step).eq(self.read.data)
                run.advance(m)
                m.next = "READ"
                with m.If(run.last_of_word):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "READ"
                    with m.If(run.job.words == 0):
                        m.next = "IDLE"
        return m
