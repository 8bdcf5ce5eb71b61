# SPDX-License-Identifier: BSD-2-Clause
"""The GEMM module of a channel: weights stream in, results go to the temp buffer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.drain import Drain
from logicpim.rtl.pim.job import JobDivider
from logicpim.rtl.pim.sequencer import Sequencer
from logicpim.rtl.pim.tile import Tile
from logicpim.rtl.signatures import (
    BufferRead,
    GemmEvents,
    OperandRead,
    ResultWrite,
    beat_stream,
    gemm_job,
    line_stream,
)
from logicpim.rtl.stream import connect
from logicpim.spec.config import Config


class GemmModule(wiring.Component):
    """Multiplies streamed weights with resident operands: ``Y[m, n] = sum X[m, k] W[n, k]``.

    Promises the bits of docs/arithmetic.md for any sizes, whatever lies in padding; results in
    job order; every weight word taken once a job. A further job is taken while earlier ones
    still run.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.signatures.gemm_job`
    beats : In, :func:`~logicpim.rtl.signatures.beat_stream`
    lines : In, :func:`~logicpim.rtl.signatures.line_stream`, of dealt jobs (``config.stack``)
    operands : Out, :class:`~logicpim.rtl.signatures.OperandRead`
    prior : Out, :class:`~logicpim.rtl.signatures.BufferRead`, of what results are added to; must be
        ready always
    results : Out, :class:`~logicpim.rtl.signatures.ResultWrite`
    done : Out, in the clock that writes the last result of a job
    busy : Out, a job is accepted and not done
    events : Out, :class:`~logicpim.rtl.signatures.GemmEvents`

    A beat a clock, while weights come, operand reads are granted and results drain in time:
    a row block of ``w`` words takes ``2 * w * groups`` clocks and drains in one clock a token.
    From the last beat of a job's last block to ``done``: :attr:`Drain.latency
    <logicpim.rtl.pim.drain.Drain.latency>` clocks and one less than its tokens, if no other
    block drains.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(gemm_job(config))),
            "beats": In(beat_stream(config)),
            "operands": Out(OperandRead(config)),
            "prior": Out(BufferRead(config.temp_lines, config.line_bits)),
            "results": Out(ResultWrite(config)),
            "done": Out(1), "busy": Out(1), "events": Out(GemmEvents(config)),
            **({"lines": In(line_stream(config))} if config.stack else {})})

    def elaborate(self, platform):
        m = Module()
        m.submodules.divider = divider = JobDivider(self.config)
        m.submodules.sequencer = sequencer = Sequencer(self.config)
        m.submodules.tile = tile = Tile(self.config)
        m.submodules.drain = drain = Drain(self.config)

        connect(m, wiring.flipped(self.job), divider.i)
        connect(m, divider.o, sequencer.job)
        connect(m, wiring.flipped(self.beats), sequencer.beats)
        connect(m, sequencer.blocks, drain.blocks)
        if self.config.stack:
            connect(m, wiring.flipped(self.lines), sequencer.lines)
        wiring.connect(m, wiring.flipped(self.operands), sequencer.operands)
        wiring.connect(m, wiring.flipped(self.prior), drain.prior)
        wiring.connect(m, wiring.flipped(self.results), drain.results)
        wiring.connect(m, wiring.flipped(self.events), sequencer.events)
        m.d.comb += [
            tile.tokens.eq(sequencer.tokens), tile.weights.eq(sequencer.weights),
            tile.mask.eq(sequencer.mask), tile.mask_upper.eq(sequencer.mask_upper),
            tile.kind.eq(sequencer.kind), tile.place.eq(sequencer.place),
            tile.step.eq(drain.step), drain.scales.eq(sequencer.scales),
            drain.scales_here.eq(sequencer.scales_here),
            *(into.eq(lane) for into, lane in zip(drain.lanes, tile.lanes, strict=True)),
            sequencer.released.eq(drain.released), self.done.eq(drain.done),
        ]
        jobs = Signal(5)
        m.d.sync += jobs.eq(jobs + (self.job.valid & self.job.ready) - self.done)
        m.d.comb += self.busy.eq(jobs != 0)
        return m
