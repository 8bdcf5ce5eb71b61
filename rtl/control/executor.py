# SPDX-License-Identifier: BSD-2-Clause
"""Operation executor: turns checked operations into jobs for DRAM, GEMM module and mover."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import bundle_job, gemm_job
from logicpim.rtl.stream import Queue
from logicpim.spec.config import Config
from logicpim.spec.isa import Format, Opcode, Status

from .descriptor import COMPLETION, has_bytes, operation
from .mover import move_job

PASSES = 8  # GEMM jobs handed out and not done: more than tile and drain hold of useful size


class OperationExecutor(wiring.Component):
    """Executes operations in program order; GEMMs follow each other without waiting.

    Promises that a refused operation starts no job, that completions come in program order, each
    only when all effects of its operation are visible, and that an operation other than a GEMM
    behind a GEMM starts when everything before it has completed. A GEMM reads the input buffer and
    works on the temp buffer alone, and the GEMM module reads and writes results in job order, so
    that one may stream while those before it drain; so may the passes of a GEMM with more tokens
    than the accumulators hold (one over the weights for each block of ``tile.max_tokens``).

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
    read_error : In, stream of verdicts on the jobs that read, in order (``config.ecc``): 1 where
        a word was not correct; awaited before the operation's completion, whose status it decides
    o : Out, stream of completions
    """

    def __init__(self, config: Config):
        self.config = config
        ecc = {"read_error": In(stream.Signature(unsigned(1)))} if config.ecc else {}
        super().__init__({
            "i": In(stream.Signature(operation(config))),
            "bundle": Out(stream.Signature(bundle_job(config))),
            "gemm": Out(stream.Signature(gemm_job(config))),
            "load": Out(stream.Signature(move_job(config))),
            "store": Out(stream.Signature(move_job(config))),
            "gemm_done": In(1), "load_done": In(1), "bundle_done": In(1),
            "o": Out(stream.Signature(COMPLETION)), **ecc,
        })

    def _payloads(self, m: Module, op, tokens_left, source_line, result_line, block_tokens):
        """What the job streams carry."""
        config = self.config
        most = config.tile.max_tokens
        if config.has_bytes:
            most = Mux(has_bytes(op.weight_format), config.pass_tokens(Format.INT8), most)
        if config.transposes:
            most = Mux(op.transpose, config.tile.tokens, most)
        m.d.comb += [
            self.bundle.payload.address.eq(op.address),
            self.bundle.payload.words.eq(op.words),
            self.bundle.payload.interleave.eq(op.interleave),
            self.bundle.payload.write.eq(op.opcode == Opcode.STORE),
            block_tokens.eq(Mux(tokens_left > most, most, tokens_left)),
            self.gemm.payload.tokens.eq(block_tokens),
            self.gemm.payload.n.eq(op.n),
            self.gemm.payload.k.eq(op.k),
            self.gemm.payload.source_line.eq(source_line),
            self.gemm.payload.result_line.eq(result_line),
            *(self.gemm.payload[name].eq(op[name]) for name in
              ("weight_format", "input_format", "output_format", "scaled", "scale_line",
               "scale_group", "accumulate", "transpose")),
            self.load.payload.line.eq(result_line),
            self.store.payload.line.eq(source_line),
        ]
        for move in (self.load, self.store):
            m.d.comb += [move.payload.buffer.eq(op.buffer), move.payload.words.eq(op.words)]

    def _passes(self, m: Module, op, issue, last) -> tuple[Signal, Signal]:
        """Completions of GEMMs: (no GEMM job is out, another may be handed out)."""
        m.submodules.passes = passes = Queue(
            data.StructLayout({"tag": unsigned(16), "last": unsigned(1)}), depth=PASSES)
        out, done = Signal(range(PASSES + 1)), Signal(range(PASSES + 1))
        head = passes.o.payload
        retire, ended, status = Signal(), Signal(), Signal(Status)
        m.d.comb += [
            passes.i.valid.eq(issue & (op.opcode == Opcode.GEMM)),
            passes.i.payload.tag.eq(op.tag), passes.i.payload.last.eq(last),
            ended.eq(passes.o.valid & (done != 0)), status.eq(Status.OK),
            retire.eq(ended & (~head.last | self.o.ready)), passes.o.ready.eq(retire),
        ]
        if self.config.ecc:
            # A pass has ended when its verdict is there; one bad pass is a bad GEMM.
            spoilt = Signal()
            bad = spoilt | self.read_error.payload
            m.d.comb += ended.eq(passes.o.valid & (done != 0) & self.read_error.valid)
            with m.If(bad):
                m.d.comb += status.eq(Status.DATA_ERROR)
            with m.If(retire):
                m.d.comb += self.read_error.ready.eq(1)
                m.d.sync += spoilt.eq(bad & ~head.last)
        with m.If(ended & head.last):
            m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(head.tag),
                         self.o.payload.status.eq(status)]
        m.d.sync += [out.eq(out + passes.i.valid - retire),
                     done.eq(done + self.gemm_done - retire)]
        return out == 0, out != PASSES

    def _drain(self, m: Module, op, over) -> None:
        """The state that waits for the job of a LOAD or STORE, and for a LOAD's verdict."""
        if self.config.ecc:
            is_load = op.opcode == Opcode.LOAD
            m.d.sync += op.status.eq(Mux(is_load & self.read_error.payload, Status.DATA_ERROR,
                                         Status.OK))
            m.d.comb += self.read_error.ready.eq(is_load & over)
            over = over & (~is_load | self.read_error.valid)
        with m.If(over):
            m.next = "COMPLETE"

    def _groups(self, op):
        """Function that multiplies by the token groups of a whole pass."""
        groups = self.config.tile.groups
        narrow = has_bytes(op.weight_format) if self.config.has_bytes else 0
        one = op.transpose if self.config.transposes else 0
        return lambda stride: Mux(one, stride, Mux(narrow, stride * (groups // 2),
                                                   stride * groups))

    def elaborate(self, platform):
        m = Module()
        op = Signal(operation(self.config))
        tokens_left, block_tokens = Signal(16), Signal(16)
        source_line, result_line = Signal(24), Signal(24)
        self._payloads(m, op, tokens_left, source_line, result_line, block_tokens)

        is_gemm = op.opcode == Opcode.GEMM
        workers = ((Opcode.GEMM, self.gemm, self.gemm_done),
                   (Opcode.LOAD, self.load, self.load_done),
                   (Opcode.STORE, self.store, self.bundle_done))
        work, done = Signal(), Signal()
        bundle_given, work_given = Signal(), Signal()
        bundle_taken = bundle_given | self.bundle.ready
        work_taken = work_given | work
        issue, last, over = Signal(), Signal(), Signal()
        for opcode, worker, worker_done in workers:
            with m.If(op.opcode == opcode):
                m.d.comb += [work.eq(worker.ready), done.eq(worker_done)]
        idle, room = self._passes(m, op, issue, last)
        following = self.i.payload
        overlaps = (following.opcode == Opcode.GEMM) & (following.status == Status.OK)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(idle | overlaps)
                m.d.sync += [op.eq(following), over.eq(0), tokens_left.eq(following.m),
                             source_line.eq(following.source_line),
                             result_line.eq(following.result_line)]
                with m.If(self.i.valid & self.i.ready):
                    m.next = "ISSUE"
                    with m.If((following.status != Status.OK)
                              | (following.opcode == Opcode.FENCE)):
                        m.next = "COMPLETE"
            with m.State("ISSUE"):
                m.d.sync += over.eq(over | done)
                start = ~is_gemm | room
                m.d.comb += [
                    last.eq(~is_gemm | (tokens_left == block_tokens)),
                    self.bundle.valid.eq(start & ~bundle_given),
                    issue.eq(start & bundle_taken & work_taken),
                ]
                for opcode, worker, _ in workers:
                    m.d.comb += worker.valid.eq(start & (op.opcode == opcode) & ~work_given)
                m.d.sync += [bundle_given.eq(start & bundle_taken & ~issue),
                             work_given.eq(start & work_taken & ~issue)]
                with m.If(issue):
                    groups = self._groups(op)
                    m.d.sync += [
                        tokens_left.eq(tokens_left - block_tokens),
                        source_line.eq(source_line + groups(op.source_stride)),
                        result_line.eq(result_line + groups(op.result_stride)),
                    ]
                    with m.If(last):
                        m.next = "IDLE"
                        with m.If(~is_gemm):
                            m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += over.eq(over | done)
                self._drain(m, op, over | done)
            with m.State("COMPLETE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(op.tag),
                             self.o.payload.status.eq(op.status)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
