# SPDX-License-Identifier: BSD-2-Clause
"""Operation executor: turns checked operations into jobs for the modules of a channel."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.functions import function_job
from logicpim.rtl.signatures import bundle_job, gemm_job
from logicpim.rtl.stream import Queue, connect
from logicpim.spec.config import Config
from logicpim.spec.isa import Format, Opcode, Status

from .descriptor import COMPLETION, has_bytes, operation
from .function_slot import FunctionSlot
from .mover import move_job

PASSES = 8  # GEMM jobs handed out and not done: more than tile and drain hold of useful size
ORDER = 64
"""Of these and of function operations, until the completions before theirs are out: as many as
stream beside a softmax, an attention head of 8 extents with 4 panels of values each."""


class OperationExecutor(wiring.Component):
    """Executes operations as if in program order; GEMMs and functions need not wait.

    Promises that a refused operation starts no job, that completions come in program order, each
    only when all effects of its operation are visible. A GEMM reads the input buffer and works on
    the temp buffer alone, and the GEMM module reads and writes results in job order, so that one
    may stream while those before it drain; so may the passes of a GEMM with more tokens than the
    accumulators hold (one over the weights for each block of ``tile.max_tokens``). An ACTIVATE or
    SOFTMAX waits, in a slot of its own, for the GEMMs before it with which it shares lines; a GEMM
    behind it, if it shares lines with it, and the next ACTIVATE or SOFTMAX wait until it is done.
    Anything else waits until all before it has completed, and what is behind waits for it.

    Parameters
    ----------
    config : Config
    order : int
        GEMM jobs and functions handed out whose operations have not completed.

    Members
    -------
    i : In, stream of operations
    bundle : Out, stream of words to stream, see :func:`~logicpim.rtl.signatures.bundle_job`
    gemm : Out, stream of passes, see :func:`~logicpim.rtl.signatures.gemm_job`
    load, store : Out, streams of :func:`~logicpim.rtl.control.mover.move_job`
    function : Out, stream of :func:`~logicpim.rtl.pim.functions.function_job`
    gemm_done, load_done, bundle_done, function_done : In, a pulse for each finished job; a STORE
        is finished with its ``bundle`` job, which is when DRAM has taken the last word
    running : Out, a function job is under way
    begun : Out, a pulse for each GEMM with dealt operands whose first pass is handed out: what it
        reads in this channel's slice has been written (``config.stack``)
    read_error : In, stream of verdicts on the jobs that read, in order (``config.ecc``): 1 where
        a word was not correct; awaited before the operation's completion, whose status it decides
    o : Out, stream of completions
    """

    def __init__(self, config: Config, *, order: int = ORDER):
        self.config, self.order = config, order
        ecc = {"read_error": In(stream.Signature(unsigned(1)))} if config.ecc else {}
        super().__init__({
            "i": In(stream.Signature(operation(config))),
            "bundle": Out(stream.Signature(bundle_job(config))),
            "gemm": Out(stream.Signature(gemm_job(config))),
            "load": Out(stream.Signature(move_job(config))),
            "store": Out(stream.Signature(move_job(config))),
            "function": Out(stream.Signature(function_job(config))),
            "gemm_done": In(1), "load_done": In(1), "bundle_done": In(1), "function_done": In(1),
            "running": Out(1),
            "o": Out(stream.Signature(COMPLETION)), **ecc,
            **({"begun": Out(1)} if config.stack else {}),
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
               "scale_group", "accumulate", "transpose", *(["dealt"] if config.stack else []))),
            self.load.payload.line.eq(result_line),
            self.store.payload.line.eq(source_line),
        ]
        for move in (self.load, self.store):
            m.d.comb += [move.payload.buffer.eq(op.buffer), move.payload.words.eq(op.words)]

    def _completions(self, m: Module, op, issue, last, held):
        """Completions of GEMMs and functions: (nothing is out, there is room for another
        operation, for another GEMM job)."""
        m.submodules.order = order = Queue(
            data.StructLayout({"tag": unsigned(16), "last": unsigned(1), "function": unsigned(1)}),
            depth=self.order)
        most = self.order + 1
        out, passes = Signal(range(most)), Signal(range(PASSES + 1))
        done, functions = Signal(range(most)), Signal(range(most))
        head = order.o.payload
        given, ended, retire, gemm = Signal(), Signal(), Signal(), Signal()
        judged, status = self._verdict(m, head, retire)
        m.d.comb += [
            gemm.eq(issue & (op.opcode == Opcode.GEMM)), given.eq(gemm | held),
            order.i.valid.eq(given), order.i.payload.tag.eq(op.tag),
            order.i.payload.last.eq(held | last), order.i.payload.function.eq(held),
            ended.eq(order.o.valid & Mux(head.function, functions != 0, (done != 0) & judged)),
            retire.eq(ended & (~head.last | self.o.ready)), order.o.ready.eq(retire),
        ]
        with m.If(ended & head.last):
            m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(head.tag),
                         self.o.payload.status.eq(status)]
        m.d.sync += [
            out.eq(out + given - retire),
            passes.eq(passes + gemm - self.gemm_done),
            done.eq(done + self.gemm_done - (retire & ~head.function)),
            functions.eq(functions + self.function_done - (retire & head.function)),
        ]
        room = out != self.order
        return out == 0, room, room & (passes != PASSES)

    def _verdict(self, m: Module, head, retire):
        """(the verdict on the pass at the head is there, status of the operation at the head)."""
        status = Signal(Status)
        m.d.comb += status.eq(Status.OK)
        if not self.config.ecc:
            return Const(1), status
        # A pass has ended when its verdict is there; one bad pass is a bad GEMM.
        spoilt = Signal()
        bad = spoilt | self.read_error.payload
        with m.If(~head.function):
            with m.If(bad):
                m.d.comb += status.eq(Status.DATA_ERROR)
            with m.If(retire):
                m.d.comb += self.read_error.ready.eq(1)
                m.d.sync += spoilt.eq(bad & ~head.last)
        return self.read_error.valid, status

    def _slot(self, m: Module, op, issue, following):
        """The slot of functions: (whether ``op`` wants it, whether it gets it, whether a GEMM has
        to wait for the one there)."""
        if not self.config.functions:
            return Signal(), Const(0), Const(0)
        m.submodules.slot = slot = FunctionSlot(self.config, passes=PASSES)
        put, wait = Signal(), Signal()
        with m.If(self.i.ready):
            m.d.sync += wait.eq(slot.conflict)
        connect(m, slot.job, wiring.flipped(self.function))
        m.d.comb += [
            slot.i.payload.eq(op), slot.gemm.eq(op), slot.following.eq(following),
            slot.issued.eq(issue & (op.opcode == Opcode.GEMM)), slot.gemm_done.eq(self.gemm_done),
            slot.done.eq(self.function_done), self.running.eq(slot.running),
            put.eq(slot.i.valid & slot.i.ready),
        ]
        return slot.i.valid, put, wait & slot.busy

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

    def _begins(self, m: Module, op, issue) -> None:
        """Tells of the first pass of a GEMM with dealt operands."""
        if self.config.stack:
            first = Signal()
            m.d.comb += self.begun.eq(issue & first & op.dealt)
            m.d.sync += first.eq((first | self.i.ready) & ~issue)

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
        following = self.i.payload
        self._begins(m, op, issue)
        offer, put, wait = self._slot(m, op, issue, following)
        idle, room, room_for_gemm = self._completions(m, op, issue, last, put)
        is_function = ((following.opcode == Opcode.ACTIVATE)
                       | (following.opcode == Opcode.SOFTMAX)) & (following.status == Status.OK)
        overlaps = is_function | (following.opcode == Opcode.GEMM) & (
            following.status == Status.OK)

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
                    with m.If(is_function):
                        m.next = "HOLD"
            with m.State("ISSUE"):
                m.d.sync += over.eq(over | done)
                start = ~is_gemm | room_for_gemm & ~wait
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
            with m.State("HOLD"):
                m.d.comb += offer.eq(room)
                with m.If(put):
                    m.next = "IDLE"
            with m.State("DRAIN"):
                m.d.sync += over.eq(over | done)
                self._drain(m, op, over | done)
            with m.State("COMPLETE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(op.tag),
                             self.o.payload.status.eq(op.status)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
