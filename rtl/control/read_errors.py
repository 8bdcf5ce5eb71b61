# SPDX-License-Identifier: BSD-2-Clause
"""Which jobs read words that could not be corrected."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import bundle_job
from logicpim.rtl.stream import Queue
from logicpim.spec.config import Config

from .executor import ORDER, PASSES


class ReadErrors(wiring.Component):
    """Counts the words that leave the decoders against the jobs that asked for them.

    Jobs and words come in one order, so the first words are those of the first job. A verdict is
    there some clocks after the job's last word was decoded.

    Parameters
    ----------
    config : Config
    depth : int
        Jobs handed out whose verdict has not been taken; more must not be, nor more than the
        executor's passes whose words have not all come.

    Members
    -------
    job, words : In, a job of so many words to read is handed out
    word, bad : In, a word was decoded; it is not correct
    o : Out, stream of verdicts, one a job: 1 where a word was not correct
    """

    def __init__(self, config: Config, depth: int = ORDER):
        self.config, self.depth = config, depth
        super().__init__({
            "job": In(1), "words": In(bundle_job(config).members["words"]),
            "word": In(1), "bad": In(1), "o": Out(stream.Signature(unsigned(1)))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.jobs = jobs = Queue(self.words.shape(),
                                         depth=min(self.depth, PASSES))
        m.submodules.verdicts = verdicts = Queue(unsigned(1), depth=self.depth)
        seen, found = Signal(self.words.shape()), Signal()
        last = seen + 1 == jobs.o.payload
        m.d.comb += [
            jobs.i.valid.eq(self.job), jobs.i.payload.eq(self.words),
            jobs.o.ready.eq(self.word & last),
            verdicts.i.valid.eq(self.word & last), verdicts.i.payload.eq(found | self.bad),
        ]
        wiring.connect(m, verdicts.o, wiring.flipped(self.o))
        with m.If(self.word):
            m.d.sync += [seen.eq(seen + 1), found.eq(found | self.bad)]
            with m.If(last):
                m.d.sync += [seen.eq(0), found.eq(0)]
        return m
