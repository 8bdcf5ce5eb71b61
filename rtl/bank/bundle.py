# SPDX-License-Identifier: BSD-2-Clause
"""The bundle agent: walks the words of a job and holds the credit of the TSV interface."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import bundle_job
from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config

from .access import Access


class BundleAgent(wiring.Component):
    """Asks for the words of a job one after another, as far as there is room or data for them.

    It may have as many words read but not taken as the weight buffer holds, and writes only words
    that the TSV interface has announced. The next job is taken in the clock after the last word, so
    one that continues in the same row finds it open and loses no transfer.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.signatures.bundle_job`
    access : Out(Access), the next word
    last : Out(1), it is the last one of its job
    word_taken, word_ready : In(1), as in :class:`~logicpim.rtl.signatures.DataStrobes`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"job": In(stream.Signature(bundle_job(config))),
                          "access": Out(Access(config)), "last": Out(1),
                          "word_taken": In(1), "word_ready": In(1)})

    def _credit(self, m: Module):
        """(a word may be read, a word may be written)."""
        room = self.config.word_fifo
        credit = Signal(range(room + 1), init=room)
        announced = Signal(range(room + 1))
        read = self.access.advance & ~self.access.write
        write = self.access.advance & self.access.write
        with m.If(read & ~self.word_taken):
            m.d.sync += credit.eq(credit - 1)
        with m.Elif(~read & self.word_taken & (credit != room)):
            m.d.sync += credit.eq(credit + 1)
        with m.If(write & ~self.word_ready):
            m.d.sync += announced.eq(announced - 1)
        with m.Elif(~write & self.word_ready & (announced != room)):
            m.d.sync += announced.eq(announced + 1)
        return credit != 0, announced != 0

    def elaborate(self, platform):
        m = Module()
        org = self.config.dram
        address, write = Signal(ceil_log2(org.words)), Signal()
        interleave = Signal(2)
        words = Signal.like(self.job.payload.words)
        may_read, may_write = self._credit(m)

        column, rest = address[:ceil_log2(org.columns)], address[ceil_log2(org.columns):]
        row, bundle = rest[:ceil_log2(org.rows)], rest[ceil_log2(org.rows):]
        page = self.access.page
        m.d.comb += [
            self.access.valid.eq(words != 0), self.access.write.eq(write),
            self.access.go.eq(Mux(write, may_write, may_read)),
            self.access.column.eq(column), page.row.eq(row), page.bank.eq(bundle),
            page.rank.eq(bundle[ceil_log2(org.bundles_per_rank):]),
            self.last.eq(words == 1),
            self.job.ready.eq(words == 0),
        ]
        with m.If(transfer(self.job)):
            m.d.sync += Cat(address, words, write, interleave).eq(
                Cat(self.job.payload.address, self.job.payload.words, self.job.payload.write,
                    self.job.payload.interleave))
        with m.Elif(self.access.advance):
            m.d.sync += [address.eq(self._after(m, address, interleave)), words.eq(words - 1)]
        return m

    def _after(self, m: Module, address, interleave):
        """The word after this one: next column, next bundle of the set, next row."""
        org = self.config.dram
        column = address[:ceil_log2(org.columns)]
        row = address[len(column):ceil_log2(org.words_per_bundle)]
        bundle = address[ceil_log2(org.words_per_bundle):]
        after = Signal.like(address)
        with m.Switch(interleave):
            for bits in range(ceil_log2(org.bundles) + 1):
                with m.Case(bits):
                    place = Cat(column, bundle[:bits], row, bundle[bits:])
                    here = (place + 1)[:len(address)]
                    low, high = len(column), len(column) + bits
                    m.d.comb += after.eq(Cat(here[:low], here[high:high + len(row)],
                                             here[low:high], here[high + len(row):]))
        return after
