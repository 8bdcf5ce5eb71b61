# SPDX-License-Identifier: BSD-2-Clause
"""Broadcaster of a stack: reads dealt operands where they lie, for all channels that need them."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from logicpim.rtl.stream import Queue, connect
from logicpim.spec.config import Config
from logicpim.spec.isa import FIELDS

from .arbiter import PATIENCE
from .descriptor import ceil_shift, has_bytes

ISSUED = 3  # dealt GEMMs that a channel may have begun without a line: its GEMM module holds two


def dealt_job(config: Config) -> data.StructLayout:
    """What the broadcaster needs of a GEMM; ``stride``: lines of a group in a slice."""
    return data.StructLayout({
        "channels": unsigned(config.channels),
        "m": unsigned(16), "n": unsigned(24), "k": unsigned(24), "narrow": unsigned(1),
        "line": unsigned(ceil_log2(config.input_lines)),
        "stride": unsigned(FIELDS["dealt"].width)})


def dealt_job_of(config: Config, op, channels) -> dict:
    """The fields of :func:`dealt_job`, by name, of a decoded operation."""
    return {"channels": channels, "m": op.m, "n": op.n, "k": op.k,
            "narrow": has_bytes(op.weight_format) if config.has_bytes else 0,
            "line": op.source_line, "stride": op.source_stride}


def line_request(config: Config) -> data.StructLayout:
    """A line to be read from the slice of ``owner`` (one bit a channel, none: no line) and to be
    given to ``channels``."""
    return data.StructLayout({
        "owner": unsigned(config.channels), "channels": unsigned(config.channels),
        "address": unsigned(ceil_log2(config.input_lines))})


class Broadcaster(wiring.Component):
    """Walks over the operand lines of dealt GEMMs in the order in which the GEMM modules use them.

    Pass over the weights, row block, k word, group of tokens; job after job. It asks for up to a
    line a clock, of which one clock in 32 is left to the others that read a slice. A line is asked
    for when each channel of the set has room for it. The first line of a job is asked for when each
    has begun it: it does so when what the line's slice is to hold has been written. No later
    operation of a channel writes there before the channel's own job is done, and then it
    has got every line.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`dealt_job`
    begun : In, a bit a channel: it has begun a dealt GEMM, in program order
    taken : In, a bit a channel: it has used a line, there is room for one more
    request : Out, :func:`line_request`, registered
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(dealt_job(config))),
            "begun": In(config.channels), "taken": In(config.channels),
            "request": Out(line_request(config))})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.jobs = jobs = Queue(dealt_job(config), depth=config.queue_depth)
        connect(m, wiring.flipped(self.job), jobs.i)
        job = Signal(dealt_job(config), reset_less=True)
        load, divide, start, step, end = (Signal(name=name) for name in (
            "load", "divide", "start", "step", "end"))
        room = self._room(m, job, step)
        begun = self._begun(m, job, start)
        run = Signal(range(PATIENCE + 1))   # lines asked for in a row
        m.d.sync += run.eq(Mux(step, run + 1, 0))
        self._walk(m, job, divide, step, end)
        m.d.comb += jobs.o.ready.eq(load)
        with m.If(load):
            m.d.sync += job.eq(jobs.o.payload)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += load.eq(1)
                with m.If(jobs.o.valid):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.comb += divide.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += start.eq(begun)
                with m.If(start):
                    m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += step.eq(room & (run != PATIENCE))
                with m.If(step & end):
                    m.next = "IDLE"
        return m

    def _room(self, m: Module, job, step) -> Signal:
        """Whether every channel of the set has room for a line."""
        free = []
        for index in range(self.config.channels):
            lines = Signal(range(self.config.line_fifo + 1), name=f"room_{index}",
                           init=self.config.line_fifo)
            m.d.sync += lines.eq(lines + self.taken[index] - (step & job.channels[index]))
            free.append(lines != 0)
        return (~job.channels | Cat(free)).all()

    def _begun(self, m: Module, job, start) -> Signal:
        """Whether every channel of the set has begun the job."""
        there = []
        for index in range(self.config.channels):
            number = Signal(range(ISSUED + 1), name=f"begun_{index}")
            m.d.sync += number.eq(number + self.begun[index] - (start & job.channels[index]))
            there.append(number != 0)
        return (~job.channels | Cat(there)).all()

    def _walk(self, m: Module, job, divide, step, end) -> None:
        """The line that the walk stands at, put out with ``step``; whether it is the job's last."""
        config, tile = self.config, self.config.tile
        word, last_word = Signal(24, reset_less=True), Signal(24, reset_less=True)
        block, last_block = Signal(24, reset_less=True), Signal(24, reset_less=True)
        group = Signal(ceil_log2(tile.groups), reset_less=True)
        left = Signal(bits_for((1 << 16) // tile.tokens), reset_less=True)  # groups
        last_group, more = Signal(range(tile.groups)), Signal()
        base, first, line = (Signal(ceil_log2(config.input_lines), name=name, reset_less=True)
                             for name in ("base", "first", "line"))
        place = Signal(job.stride.shape(), reset_less=True)     # of the word in its slice
        end_of_word, end_of_slice, end_of_block, end_of_pass = (
            Signal(name=f"end_of_{name}") for name in ("word", "slice", "block", "pass"))
        following, after_pass = Signal.like(first), Signal.like(base)
        whole = tile.groups
        span = job.stride << ceil_log2(whole)
        if config.has_bytes:
            whole = Mux(job.narrow, whole // 2, whole)
            span = Mux(job.narrow, job.stride << ceil_log2(tile.groups // 2), span)
        m.d.comb += [
            more.eq(left > whole), last_group.eq(Mux(more, whole - 1, left - 1)),
            end_of_word.eq(group == last_group),
            end_of_block.eq(end_of_word & (word == last_word)),
            end_of_slice.eq(place == job.stride - 1),
            end_of_pass.eq(end_of_block & (block == last_block)), end.eq(end_of_pass & ~more),
            after_pass.eq(base + span),
            following.eq(Mux(end_of_pass, after_pass,
                             Mux(end_of_block | end_of_slice, base, first + 1))),
        ]
        self._owners(m, job, divide, step, end_of_word & end_of_slice, end_of_block, line)
        with m.If(divide):
            m.d.sync += [last_block.eq(ceil_shift(job.n, tile.rows) - 1), block.eq(0),
                         last_word.eq(self._lines(job) - 1), word.eq(0), group.eq(0),
                         left.eq(ceil_shift(job.m, tile.tokens)),
                         base.eq(job.line), first.eq(job.line), line.eq(job.line), place.eq(0)]
        with m.If(step):
            m.d.sync += [group.eq(group + 1), line.eq(line + job.stride)]
            with m.If(end_of_word):
                m.d.sync += [group.eq(0), word.eq(word + 1), first.eq(following),
                             line.eq(following), place.eq(Mux(end_of_slice, 0, place + 1))]
            with m.If(end_of_block):
                m.d.sync += [word.eq(0), place.eq(0), block.eq(block + 1)]
            with m.If(end_of_pass):
                m.d.sync += [block.eq(0), base.eq(after_pass), left.eq(left - whole)]

    def _lines(self, job):
        """Operand lines of a group."""
        per = self.config.granule_elements
        lines = ceil_shift(job.k, per)
        if self.config.has_bytes:
            lines = Mux(job.narrow, ceil_shift(job.k, 2 * per) << 1, lines)
        return lines

    def _owners(self, m: Module, job, divide, step, onward, restart, line) -> None:
        """The channel whose slice has the line, and the request that goes out."""
        owner, rest = (Signal(self.config.channels, name=name, reset_less=True)
                       for name in ("owner", "rest"))

        def set_to(channels):
            lowest = channels & (~channels + 1)[:len(channels)]
            return [owner.eq(lowest), rest.eq(channels & ~lowest)]

        with m.If(divide | step & restart):
            m.d.sync += set_to(job.channels)
        with m.Elif(step & onward):
            m.d.sync += set_to(rest)
        m.d.sync += [self.request.owner.eq(Mux(step, owner, 0)),
                     self.request.channels.eq(Mux(step, job.channels, 0)),
                     self.request.address.eq(line)]


class LineGather(wiring.Component):
    """Brings the line that a slice has read to the channels that it is for.

    Parameters
    ----------
    config : Config

    Members
    -------
    request : In, :func:`line_request`, as the slices see it
    lines : In, of each slice: what it has read, in the clock after the request
    valid : Out, a bit a channel, and ``line`` : Out: two clocks after the request
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "request": In(line_request(config)),
            "lines": In(config.line_bits).array(config.channels),
            "valid": Out(config.channels), "line": Out(config.line_bits)})

    def elaborate(self, platform):
        m = Module()
        request = Signal(line_request(self.config))
        m.d.sync += [request.eq(self.request), self.valid.eq(request.channels)]
        own = [Mux(request.owner[index], line, 0) for index, line in enumerate(self.lines)]
        while len(own) > 1:
            own = [Cat(a) | b for a, b in zip(own[::2], own[1::2], strict=True)]
        m.d.sync += self.line.eq(own[0])
        return m
