# SPDX-License-Identifier: BSD-2-Clause
"""Brings the scales of blocks from the input buffer, a line at a time."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import gemm_job
from logicpim.spec.config import Config


class ScaleReader(wiring.Component):
    """Shares the operand port with the sequencer and keeps the line of scales in use.

    A line holds the scales of ``tokens * depth / rows`` blocks, one block behind the other. It is
    asked for when a job starts and in the clock that takes the last step before it is needed, so
    it is here before the first step that needs it, whose operands are asked for behind it.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In, a job is taken; ``scaled``, ``line`` : In, of that job
    block : In, the last step of a scaled block is taken; ``final`` : In, it is the job's last
    ready : In, the port would grant a read
    data : In, of the port
    enable, address : Out, a line of scales is to be read now, before anything else
    pending : Out, a line is wanted and has not been granted before (``config.stack``)
    scales : Out, of a block's rows; ``valid`` : Out, in the clock after ``block``
    """

    def __init__(self, config: Config):
        self.config = config
        line = gemm_job(config)["scale_line"].shape
        super().__init__({
            "start": In(1), "scaled": In(1), "line": In(line), "block": In(1), "final": In(1),
            "ready": In(1), "data": In(config.line_bits), "enable": Out(1), "address": Out(line),
            **({"pending": Out(1)} if config.stack else {}),
            "scales": Out(config.tile.rows * 32), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        bits = ceil_log2(self.config.line_bits // len(self.scales))
        wanted, coming = Signal(), Signal()
        address = Signal(self.address.shape(), reset_less=True)     # of the next line
        slot, taken = (Signal(bits, name=name, reset_less=True) for name in ("slot", "taken"))
        held = Signal(self.config.line_bits, reset_less=True)
        m.d.comb += [
            self.enable.eq(wanted | self.block & ~self.final & slot.all()),
            self.address.eq(address), self.scales.eq(held.word_select(taken, len(self.scales))),
        ]
        if self.config.stack:
            m.d.comb += self.pending.eq(wanted)
        m.d.sync += [wanted.eq(self.enable & ~self.ready), coming.eq(self.enable & self.ready),
                     self.valid.eq(self.block)]
        with m.If(coming):
            m.d.sync += held.eq(self.data)
        with m.If(self.block):
            m.d.sync += [slot.eq(slot + 1), taken.eq(slot)]
        with m.If(self.enable & self.ready):
            m.d.sync += address.eq(address + 1)
        with m.If(self.start):
            m.d.sync += [wanted.eq(self.scaled), slot.eq(0), address.eq(self.line)]
        return m
