# SPDX-License-Identifier: BSD-2-Clause
"""The activation and the softmax module of a channel behind one pair of buffer ports."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.pim.activation import Activation
from logicpim.rtl.pim.softmax import Softmax
from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line
from logicpim.spec.config import Config
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format


def function_job(config: Config) -> data.StructLayout:
    """``softmax`` or an activation of a matrix [rows, width] in the temp buffer, to the input one.

    As :func:`~logicpim.rtl.pim.softmax.softmax_job`, ``length`` that of row 0, in three passes,
    and :func:`~logicpim.rtl.pim.activation.activation_job`, the second source being up.
    """
    temp = unsigned(ceil_log2(config.temp_lines))
    return data.StructLayout({
        "softmax": unsigned(1), "rows": unsigned(16), "width": unsigned(24),
        "function": Function, "gated": unsigned(1),
        "length": unsigned(24), "causal": unsigned(1), "scale": unsigned(32),
        "input_format": Format, "output_format": Format,
        "source_line": temp, "second_line": temp,
        "result_line": unsigned(ceil_log2(config.input_lines))})


class FunctionModules(wiring.Component):
    """Does one job at a time.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`function_job`
    read : Out, :class:`~logicpim.rtl.signatures.BufferRead`, of the temp buffer
    write : Out, :class:`~logicpim.rtl.signatures.BufferWrite`, of the input buffer
    done : Out, a pulse not before the clock that writes a job's last cell
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(function_job(config))),
            "read": Out(BufferRead(config.temp_lines, config.line_bits)),
            "write": Out(BufferWrite(config.input_lines, config.line_bits,
                                     cells_per_line(config))),
            "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.activation = activation = Activation(self.config)
        m.submodules.softmax = softmax = Softmax(self.config)
        job, chosen, busy = self.job.payload, Signal(), Signal()
        m.d.comb += [
            self.job.ready.eq(~busy), self.done.eq(activation.done | softmax.done),
            activation.job.valid.eq(self.job.valid & ~busy & ~job.softmax),
            softmax.job.valid.eq(self.job.valid & ~busy & job.softmax),
        ]
        with m.If(self.done):
            m.d.sync += busy.eq(0)
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += [busy.eq(1), chosen.eq(job.softmax)]
        self._jobs(m, activation.job.payload, softmax.job.payload)
        for port in ("read", "write"):
            one, other = getattr(activation, port), getattr(softmax, port)
            outer = getattr(self, port)
            m.d.comb += [
                outer.enable.eq(Mux(chosen, other.enable, one.enable)),
                outer.address.eq(Mux(chosen, other.address, one.address)),
                one.ready.eq(outer.ready), other.ready.eq(outer.ready),
            ]
        m.d.comb += [
            activation.read.data.eq(self.read.data), softmax.read.data.eq(self.read.data),
            self.write.data.eq(Mux(chosen, softmax.write.data, activation.write.data)),
        ]
        return m

    def _jobs(self, m: Module, activation, softmax) -> None:
        job = self.job.payload
        m.d.comb += [
            *(activation.mode[name].eq(job[name]) for name in
              ("function", "gated", "input_format", "output_format")),
            activation.gate_line.eq(job.source_line), activation.up_line.eq(job.second_line),
            *(part[name].eq(job[name]) for part in (activation, softmax)
              for name in ("rows", "width", "result_line")),
            *(softmax[name].eq(job[name]) for name in
              ("length", "causal", "scale", "input_format", "output_format", "source_line")),
            *(softmax.passes[name].eq(1) for name in ("maximum", "add", "normalise")),
            softmax.resume.eq(0),
        ]
