# SPDX-License-Identifier: BSD-2-Clause
"""The place in which an ACTIVATE or SOFTMAX waits for its sources while GEMMs stream past it."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.functions import function_job
from logicpim.spec.config import Config
from logicpim.spec.isa import Opcode

from .descriptor import operation


def _ranges(config: Config) -> data.StructLayout:
    """Lines that an operation reads, from two places, and writes: first and one past the last."""
    bits = ceil_log2(max(config.input_lines, config.temp_lines)) + 1
    return data.StructLayout({f"{which}_{end}": bits for which in ("source", "second", "result")
                              for end in ("line", "end")})


def _of(config: Config, op) -> Cat:
    """The :func:`_ranges` of an operation."""
    return Cat(op[name][:shape] for name, shape in _ranges(config).members.items())


class RangeConflict(wiring.Component):
    """Whether a function operation and a GEMM must keep their order, by their lines.

    A GEMM reads the input buffer and writes the temp buffer, a function operation the other way
    round: they must, wherever one reads what the other writes.

    Parameters
    ----------
    config : Config

    Members
    -------
    function, gemm : In, :func:`_ranges`
    o : Out
    """

    def __init__(self, config: Config):
        super().__init__({"function": In(_ranges(config)), "gemm": In(_ranges(config)),
                          "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        function, gemm = self.function, self.gemm
        m.d.comb += self.o.eq(Cat(
            _meet(function, "result", gemm, "source"), _meet(function, "result", gemm, "second"),
            _meet(function, "source", gemm, "result"), _meet(function, "second", gemm, "result")
        ).any())
        return m


def _meet(a, first: str, b, second: str):
    """Whether two ranges have a line in common."""
    return ((a[f"{first}_line"] < b[f"{second}_end"]) & (b[f"{second}_line"] < a[f"{first}_end"]))


class FunctionSlot(wiring.Component):
    """Holds one function operation from its turn in the program until it is done.

    It starts when no GEMM before it is under way that shares lines with it. Operations behind it
    do not wait, but a GEMM that shares lines with it must: that is the executor's to see to. So
    GEMMs handed out later never hold it up.

    Parameters
    ----------
    config : Config
    passes : int
        GEMM jobs that may be under way.

    Members
    -------
    i : In, stream of operations; ready while the slot is free
    issued, gemm : In, a GEMM job is handed out, of this operation
    gemm_done : In, the oldest GEMM job is done
    following : In, an operation; conflict : Out, it is a GEMM that shares lines with the one held
    job : Out, stream of :func:`~logicpim.rtl.pim.functions.function_job`
    done : In, the job is done
    busy : Out, the slot is not free
    running : Out, the job is under way
    """

    def __init__(self, config: Config, *, passes: int):
        self.config = config
        self.passes = passes
        super().__init__({
            "i": In(stream.Signature(operation(config))),
            "issued": In(1), "gemm": In(operation(config)), "gemm_done": In(1),
            "following": In(operation(config)), "conflict": Out(1),
            "job": Out(stream.Signature(function_job(config))), "done": In(1),
            "busy": Out(1), "running": Out(1)})

    def elaborate(self, platform):
        m = Module()
        op = Signal(operation(self.config), reset_less=True)
        ranges = Signal(_ranges(self.config))
        following = Signal(_ranges(self.config))
        m.d.comb += [
            ranges.eq(_of(self.config, op)), following.eq(_of(self.config, self.following)),
            self.conflict.eq((self.following.opcode == Opcode.GEMM)
                             & self._conflict(m, "following", ranges, following)),
        ]
        held = self._held(m, ranges)
        self._job(m, op)
        with m.FSM():
            with m.State("FREE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += op.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += self.busy.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [self.busy.eq(1), self.job.valid.eq(~held)]
                with m.If(self.job.valid & self.job.ready):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.busy.eq(1), self.running.eq(1)]
                with m.If(self.done):
                    m.next = "FREE"
        return m

    def _held(self, m: Module, ranges) -> Signal:
        """Whether a GEMM under way shares lines, as of a clock ago: that can only end."""
        jobs = Array(Signal(_ranges(self.config), name=f"gemm_{i}") for i in range(self.passes))
        under_way = Signal(self.passes)
        newest, oldest = Signal(range(self.passes)), Signal(range(self.passes))
        with m.If(self.issued):
            m.d.sync += [jobs[newest].eq(_of(self.config, self.gemm)),
                         newest.eq(Mux(newest == self.passes - 1, 0, newest + 1)),
                         under_way.bit_select(newest, 1).eq(1)]
        with m.If(self.gemm_done):
            m.d.sync += [oldest.eq(Mux(oldest == self.passes - 1, 0, oldest + 1)),
                         under_way.bit_select(oldest, 1).eq(0)]
        held = Signal(init=1)
        meet = [self._conflict(m, f"gemm_{i}", ranges, job) for i, job in enumerate(jobs)]
        m.d.sync += held.eq((under_way & Cat(meet)).any())
        return held

    def _conflict(self, m: Module, name: str, function, gemm):
        m.submodules[f"conflict_{name}"] = conflict = shared(RangeConflict(self.config),
                                                             "range_conflict")
        m.d.comb += [conflict.function.eq(function), conflict.gemm.eq(gemm)]
        return conflict.o

    def _job(self, m: Module, op) -> None:
        job = self.job.payload
        before = Mux(op.causal, op.m - 1, 0)
        m.d.comb += [
            job.softmax.eq(op.opcode == Opcode.SOFTMAX), job.rows.eq(op.m), job.width.eq(op.n),
            job.length.eq(op.length - before),
            *(job[name].eq(op[name]) for name in
              ("function", "gated", "causal", "scale", "input_format", "output_format",
               "source_line", "second_line", "result_line")),
        ]
