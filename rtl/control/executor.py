# SPDX-License-Identifier: BSD-2-Clause
"""Operation executor: turns checked operations into jobs for DRAM, GEMM module and mover."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import bundle_job, gemm_job
from logicpim.spec.config import Config
from logicpim.spec.isa import Opcode, Status

from .descriptor import COMPLETION, operation
from .mover import move_job


class OperationExecutor(wiring.Component):
    """Executes operations one after the other, in program order.

    Promises that a refused operation starts no job, that a completion is offered only when all
    effects of its operation are visible, and that the jobs of a GEMM with more tokens than the
    accumulators hold (one pass over the weights for each block of ``tile.max_tokens``) follow
    each other without a gap.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of operations
    bundle : Out, stream of words to stream, see :func:`~logicpim.rtl.signatures.bundle_job`
    gemm : Out, stream of passes, see :func:`~logicpim.rtl.signatures.gemm_job`
    load, store : Out, streams of :func:`~logicpim.rtl.control.mover.move_job`
    gemm_done, load_done, bundle_done : In, a pulse for each finished job; a STORE is finished
        with its ``bundle`` job, which is when DRAM has taken the last word
    o : Out, stream of completions
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(operation(config))),
            "bundle": Out(stream.Signature(bundle_job(config))),
            "gemm": Out(stream.Signature(gemm_job(config))),
            "load": Out(stream.Signature(move_job(config))),
            "store": Out(stream.Signature(move_job(config))),
            "gemm_done": In(1), "load_done": In(1), "bundle_done": In(1),
            "o": Out(stream.Signature(COMPLETION)),
        })

    def _payloads(self, m: Module, op, tokens_left, source_line, result_line, block_tokens):
        """What the job streams carry."""
        m.d.comb += [
            self.bundle.payload.address.eq(op.address),
            self.bundle.payload.words.eq(op.words),
            self.bundle.payload.interleave.eq(op.interleave),
            self.bundle.payload.write.eq(op.opcode == Opcode.STORE),
            block_tokens.eq(Mux(tokens_left > self.config.tile.max_tokens,
                                self.config.tile.max_tokens, tokens_left)),
            self.gemm.payload.tokens.eq(block_tokens),
            self.gemm.payload.n.eq(op.n),
            self.gemm.payload.k.eq(op.k),
            self.gemm.payload.source_line.eq(source_line),
            self.gemm.payload.result_line.eq(result_line),
            self.gemm.payload.output_format.eq(op.output_format),
            self.load.payload.line.eq(result_line),
            self.store.payload.line.eq(source_line),
            self.o.payload.tag.eq(op.tag),
            self.o.payload.status.eq(op.status),
        ]
        for move in (self.load, self.store):
            m.d.comb += [move.payload.buffer.eq(op.buffer), move.payload.words.eq(op.words)]

    def elaborate(self, platform):
        m = Module()
        tile = self.config.tile
        op = Signal(operation(self.config))
        tokens_left, block_tokens = Signal(16), Signal(16)
        source_line, result_line = Signal(24), Signal(24)
        running = Signal(17)  # jobs handed out and not done
        self._payloads(m, op, tokens_left, source_line, result_line, block_tokens)

        is_gemm = op.opcode == Opcode.GEMM
        workers = ((Opcode.GEMM, self.gemm, self.gemm_done),
                   (Opcode.LOAD, self.load, self.load_done),
                   (Opcode.STORE, self.store, self.bundle_done))
        work, done = Signal(), Signal()
        bundle_given, work_given = Signal(), Signal()
        bundle_taken = bundle_given | self.bundle.ready
        work_taken = work_given | work
        issue = Signal()
        for opcode, worker, worker_done in workers:
            with m.If(op.opcode == opcode):
                m.d.comb += [work.eq(worker.ready), done.eq(worker_done)]
        m.d.sync += running.eq(running + issue - done)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [op.eq(self.i.payload), tokens_left.eq(self.i.payload.m),
                             source_line.eq(self.i.payload.source_line),
                             result_line.eq(self.i.payload.result_line)]
                with m.If(self.i.valid):
                    m.next = "ISSUE"
                    with m.If((self.i.payload.status != Status.OK)
                              | (self.i.payload.opcode == Opcode.FENCE)):
                        m.next = "COMPLETE"
            with m.State("ISSUE"):
                m.d.comb += [
                    self.bundle.valid.eq(~bundle_given),
                    issue.eq(bundle_taken & work_taken),
                ]
                for opcode, worker, _ in workers:
                    m.d.comb += worker.valid.eq((op.opcode == opcode) & ~work_given)
                m.d.sync += [bundle_given.eq(bundle_taken & ~issue),
                             work_given.eq(work_taken & ~issue)]
                with m.If(issue):
                    m.d.sync += [
                        tokens_left.eq(tokens_left - block_tokens),
                        source_line.eq(source_line + op.source_stride * tile.groups),
                        result_line.eq(result_line + op.result_stride * tile.groups),
                    ]
                    with m.If(~is_gemm | (tokens_left == block_tokens)):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(running == 0):
                    m.next = "COMPLETE"
            with m.State("COMPLETE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
