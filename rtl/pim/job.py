# SPDX-License-Identifier: BSD-2-Clause
"""A GEMM job in the terms of the tile: words, groups, blocks and what their last ones hold."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import gemm_job
from logicpim.spec.config import Config
from logicpim.spec.isa import Format

COPIED = ("source_line", "result_line", "weight_format", "output_format", "accumulate")


def tile_job(config: Config) -> data.StructLayout:
    """A job with its divisions done. ``last_`` is an index, that of the last valid one.

    ``last_element`` lies in the last word of a row, ``last_row`` in the last row block,
    ``last_token`` in the last group. ``result_lines``: lines of one group's results. A word here
    is an operand line; with weights of 8 bits (``split``) words come in pairs, the last of which
    may be all padding: ``last_line`` is then the last one with an element. ``reshaped``: so few
    tokens that two units share one. ``grouped``: scales for groups of words, of which
    ``last_in_group`` is the last. With a weight stored as W[K, N] (``transpose``) a row block of it
    is a half of a word here, a group is one of its words in a row block, and ``last_odd`` tells
    whether the last of these has results in both halves. ``dealt``: lines come of themselves.
    """
    tile, job = config.tile, gemm_job(config)
    return data.StructLayout({
        "last_word": unsigned(24), "last_line": unsigned(24),
        "last_element": unsigned(ceil_log2(config.granule_elements)),
        "last_block": unsigned(24), "last_row": unsigned(ceil_log2(tile.rows)),
        "last_group": unsigned(ceil_log2(tile.groups)),
        "last_token": unsigned(ceil_log2(tile.tokens)),
        "result_lines": job["result_line"].shape,
        **{name: job[name].shape for name in COPIED},
        "brain_inputs": unsigned(1), "split": unsigned(1), "reshaped": unsigned(1),
        "scaled": unsigned(1), "scale_line": job["scale_line"].shape,
        "transpose": unsigned(1), "last_odd": unsigned(1),
        "grouped": unsigned(1), "last_in_group": unsigned(9),
        **({"dealt": unsigned(1)} if config.stack else {})})


class JobDivider(wiring.Component):
    """Holds the next job, its sizes divided by those of the tile.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of :func:`~logicpim.rtl.signatures.gemm_job`
    o : Out, stream of :func:`tile_job`, one clock later
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"i": In(stream.Signature(gemm_job(config))),
                          "o": Out(stream.Signature(tile_job(config)))})

    def elaborate(self, platform):
        m = Module()
        tile = self.config.tile
        job, divided = self.i.payload, Signal(tile_job(self.config), reset_less=True)
        m.d.comb += [self.i.ready.eq(~self.o.valid), self.o.payload.eq(divided)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self.o.valid.eq(1)
            for size, quotient, remainder, divisor in (
                    (job.k, "last_word", "last_element", self.config.granule_elements),
                    (job.n, "last_block", "last_row", tile.rows),
                    (job.tokens, "last_group", "last_token", tile.tokens)):
                last, bits = Signal(len(size), name=f"{quotient}_before"), ceil_log2(divisor)
                m.d.comb += last.eq(size - 1)
                m.d.sync += [divided[quotient].eq(last >> bits),
                             divided[remainder].eq(last[:bits])]
            bits = ceil_log2(self.config.granule_elements)
            wide = job.output_format == Format.FP32
            m.d.sync += [
                divided.result_lines.eq(Mux(wide, job.n - 1 >> bits - 1, job.n - 1 >> bits) + 1),
                *(divided[name].eq(job[name]) for name in COPIED)]
            line = job.k - 1 >> bits
            m.d.sync += [divided.last_line.eq(line),
                         divided.brain_inputs.eq(job.input_format == Format.BF16)]
            if self.config.stack:
                m.d.sync += divided.dealt.eq(job.dealt)
            if self.config.transposes:
                last = Signal(len(job.n))
                m.d.comb += last.eq(job.n - 1)
                m.d.sync += [divided.transpose.eq(job.transpose),
                             divided.last_odd.eq(last[ceil_log2(tile.rows)])]
                with m.If(job.transpose):
                    m.d.sync += [divided.last_block.eq(0), divided.last_group.eq(last >> bits)]
            if self.config.has_bytes:
                fmt = job.weight_format
                split = (fmt != Format.FP16) & (fmt != Format.BF16)
                m.d.sync += [divided.scaled.eq(job.scaled), divided.scale_line.eq(job.scale_line),
                             divided.grouped.eq(job.scaled & job.scale_group.any()),
                             divided.last_in_group.eq(
                                 Mux(split, job.scale_group << 1, job.scale_group) - 1),
                             divided.split.eq(split),
                             divided.reshaped.eq(split & (job.tokens <= tile.tokens // 2)),
                             divided.last_word.eq(line | split)]
        return m
