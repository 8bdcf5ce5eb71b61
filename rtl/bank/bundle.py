# SPDX-License-Identifier: BSD-2-Clause
"""The bundle agent: walks the words of a job and holds the credit of the TSV interface."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import bundle_job, column_command, row_command
from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config


def bundle_row(config: Config) -> data.StructLayout:
    """A row of a bundle, if there is one to name."""
    return data.StructLayout({"valid": 1, "bundle": ceil_log2(config.dram.bundles),
                              "row": row_command(config).members["row"]})


class BundleAgent(wiring.Component):
    """Asks for the words of a job one after another, as far as there is room or data for them.

    Words are dealt row by row over the bundles of the job's set. The row of the word at hand is
    named, and the one after it, of the same job or the next, so that it can be opened ahead of
    time. There are at most as many words read but not taken as the weight buffer holds, and
    writes only of words that the TSV interface has announced. A job is taken in the clock of the
    last word of the one before.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.signatures.bundle_job`
    here, ahead : Out, :func:`bundle_row` of the next word, and of the first word of another row,
        as it was in the clock before
    go, write, column : Out, the next word may move; is written; its column
    advance : In(1), its column command is issued in this clock
    last : Out(1), it is the last one of its job
    used : Out(bundles), the sets of the job at hand and the next one
    interleave : Out(2), of the job at hand
    word_taken, word_ready : In(1), as in :class:`~logicpim.rtl.signatures.DataStrobes`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(bundle_job(config))),
            "here": Out(bundle_row(config)), "ahead": Out(bundle_row(config)),
            "go": Out(1), "write": Out(1),
            "column": Out(column_command(config).members["column"]), "advance": In(1),
            "last": Out(1), "used": Out(config.dram.bundles), "interleave": Out(2),
            "word_taken": In(1), "word_ready": In(1)})

    def _credit(self, m: Module):
        """(a word may be read, a word may be written)."""
        room = self.config.word_fifo
        credit = Signal(range(room + 1), init=room)
        announced = Signal(range(room + 1))
        read = self.advance & ~self.write
        write = self.advance & self.write
        with m.If(read & ~self.word_taken):
            m.d.sync += credit.eq(credit - 1)
        with m.Elif(~read & self.word_taken & (credit != room)):
            m.d.sync += credit.eq(credit + 1)
        with m.If(write & ~self.word_ready):
            m.d.sync += announced.eq(announced - 1)
        with m.Elif(~write & self.word_ready & (announced != room)):
            m.d.sync += announced.eq(announced + 1)
        return credit != 0, announced != 0

    def _cut(self, address):
        """Column, row and bundle of a word address."""
        org = self.config.dram
        column, rest = address[:ceil_log2(org.columns)], address[ceil_log2(org.columns):]
        return column, rest[:ceil_log2(org.rows)], rest[ceil_log2(org.rows):]

    def _next_row(self, m: Module, address):
        """The first word of the row after that of ``address``, in the set of its bundle."""
        column, row, bundle = self._cut(address)
        after = Signal.like(address)
        with m.Switch(self.interleave):
            for bits in range(len(bundle) + 1):
                with m.Case(bits):
                    place = Signal(len(bundle) + len(row), name=f"place{bits}")
                    m.d.comb += [
                        place.eq(Cat(bundle[:bits], row, bundle[bits:]) + 1),
                        after.eq(Cat(Const(0, len(column)), place[bits:bits + len(row)],
                                     place[:bits], place[bits + len(row):])),
                    ]
        return after

    def _set(self, bundle, interleave):
        """Whether each bundle is in the set of ``bundle``."""
        return Cat(((bundle ^ b) >> interleave) == 0 for b in range(self.config.dram.bundles))

    def elaborate(self, platform):
        m = Module()
        org = self.config.dram
        job = self.job.payload
        address, words = Signal(ceil_log2(org.words)), Signal.like(job.words)
        may_read, may_write = self._credit(m)
        column, row, bundle = self._cut(address)
        _, job_row, job_bundle = self._cut(job.address)
        after = self._next_row(m, address)
        _, after_row, after_bundle = self._cut(after)
        row_ends, more = Signal(), Signal()
        m.d.comb += [
            row_ends.eq(column == org.columns - 1), more.eq(words > org.columns - column),
            self.here.bundle.eq(bundle), self.here.row.eq(row), self.column.eq(column),
            self.go.eq(Mux(self.write, may_write, may_read)),
            self.job.ready.eq(~self.here.valid | (self.last & self.advance)),
            self.used.eq(Mux(self.here.valid, self._set(bundle, self.interleave), 0)
                         | Mux(self.job.valid, self._set(job_bundle, job.interleave), 0)),
        ]
        m.d.sync += [self.ahead.valid.eq(more | self.job.valid),
                     self.ahead.bundle.eq(Mux(more, after_bundle, job_bundle)),
                     self.ahead.row.eq(Mux(more, after_row, job_row))]
        # ``here.valid`` and ``last`` go with ``words``.
        with m.If(transfer(self.job)):
            m.d.sync += [address.eq(job.address), words.eq(job.words), self.write.eq(job.write),
                         self.interleave.eq(job.interleave), self.here.valid.eq(job.words != 0),
                         self.last.eq(job.words == 1)]
        with m.Elif(self.advance):
            m.d.sync += [address.eq(Mux(row_ends, after, address + 1)), words.eq(words - 1),
                         self.here.valid.eq(~self.last), self.last.eq(words == 2)]
        return m
