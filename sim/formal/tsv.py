# SPDX-License-Identifier: BSD-2-Clause
"""What the TSV interface promises, with the controller's credit closed around it."""

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from logicpim.rtl.bank.bundle import BundleAgent
from logicpim.rtl.bank.timer import PathTimers
from logicpim.rtl.signatures import bundle_job
from logicpim.rtl.stream import transfer
from logicpim.rtl.tsv.interface import WRITE_WORDS, TsvInterface
from logicpim.spec.config import Config

BEAT_WAIT = 4
"""Clocks from the strobe of a word to its first beat on offer, if nothing is before it."""


class NarrowConfig(Config):
    """A configuration with granules of two bits.

    What passes through is moved and never looked at, so two bits (one for each beat) show what
    becomes of every other pair.
    """

    @property
    def granule_bits(self) -> int:
        return 2


class Tracker:
    """One item of a queue, any one of them: its number in the queue, and when it is the next.

    Parameters
    ----------
    m : Module
    name : str
    most : int
        Items that are never exceeded in the queue; asserted.
    enters, leaves : Value
        Items that enter in this clock (a constant number, or 0), and whether one leaves.
    chosen : Value
        The item that enters now is the one to be followed, unless one is already.
    """

    def __init__(self, m: Module, name: str, most: int, enters, leaves, chosen):
        self.inside = Signal(range(most + 3), name=f"{name}_inside")
        self.begun, self.ahead = Signal(name=f"{name}_begun"), Signal.like(self.inside)
        left = Signal(range(most + 4), name=f"{name}_left")
        m.d.comb += left.eq(self.inside - leaves)
        m.d.sync += self.inside.eq(left + enters)
        # Neither more than fits, nor anything that never came in.
        m.d.comb += [Assert(self.inside <= most), Assert(~leaves | (self.inside != 0))]
        with m.If(~self.begun & chosen & (enters != 0)):
            m.d.sync += [self.begun.eq(1), self.ahead.eq(left)]
        with m.Elif(self.begun & leaves):
            m.d.sync += self.ahead.eq(Mux(self.ahead == 0, 0, self.ahead - 1))
        self.next = self.begun & (self.ahead == 0)


class _Followed(wiring.Component):
    """What the proofs about one followed word have in common."""

    def __init__(self, config: Config, tsv, members: dict):
        self.config = config
        self.tsv = TsvInterface(config) if tsv is None else tsv
        super().__init__({**members, "chosen": In(1), "value": In(config.word_bits)})

    def _begin(self, m: Module) -> None:
        """The followed contents are any, but always the same."""
        m.submodules.tsv = self.tsv
        begun, first = Signal(), Signal.like(self.value)
        m.d.sync += [begun.eq(1), first.eq(Mux(begun, first, self.value))]
        m.d.comb += Assume(~begun | (self.value == first))


class ReadProof(_Followed):
    """Every word read comes out as its two beats, once, in order, and soon.

    One word, any one, with any contents, is followed from its strobe to its beats. As each
    word keeps its place and nothing else comes out, none is lost, doubled or overtaken.
    Assumed of the controller, and shown by :class:`CreditProof`: strobes are two clocks apart,
    and at most ``word_fifo`` words are strobed and not taken.

    Parameters
    ----------
    config : Config
    tsv : Component, optional
        In place of :class:`TsvInterface`.

    Members
    -------
    strobe : In(1), a word is on the bus
    rdata : In, what the DRAM reads
    ready : In(1), the tile takes a beat
    chosen : In(1), the word of this clock is followed
    value : In, its contents; constant
    """

    def __init__(self, config: Config, tsv=None):
        super().__init__(config, tsv, {"strobe": In(1), "ready": In(1),
                                       "rdata": In(config.word_bits)})

    def elaborate(self, platform):
        m = Module()
        self._begin(m)
        tsv, room, half = self.tsv, self.config.word_fifo, self.config.granule_bits // 2
        arrives, leaves = self.strobe, transfer(tsv.beats)
        m.d.comb += [tsv.strobes.bundle_read.eq(arrives), tsv.bus.bundle_rdata.eq(self.rdata),
                     tsv.beats.ready.eq(self.ready)]
        held, just = Signal(range(room + 2)), Signal()
        m.d.sync += [held.eq(held + arrives - tsv.strobes.word_taken), just.eq(arrives)]
        m.d.comb += [Assume(~arrives | (~just & (held != room))),
                     Assert(~tsv.strobes.word_taken | (held != 0))]

        beats = Tracker(m, "beats", 2 * room, Mux(arrives, 2, 0), leaves, self.chosen)
        with m.If(arrives & self.chosen & ~beats.begun):
            m.d.comb += Assume(self.rdata == self.value)
        # The next two beats are those of the word, the lower halves of its granules first.
        second, done = Signal(), Signal()
        expected = [Cat(self.value.word_select(2 * g + part, half)
                        for g in range(self.config.dram.bundle_banks)) for part in range(2)]
        with m.If(beats.next & ~done):
            m.d.comb += Assert(~tsv.beats.valid
                               | (tsv.beats.payload == Mux(second, expected[1], expected[0])))
            with m.If(leaves):
                m.d.sync += [second.eq(1), done.eq(second)]
        waited = Signal(range(BEAT_WAIT + 2))
        m.d.comb += [Assert(~tsv.beats.valid | (beats.inside != 0)),
                     Assert(waited <= BEAT_WAIT)]
        m.d.sync += waited.eq(Mux((beats.inside != 0) & ~tsv.beats.valid, waited + 1, 0))
        return m


class WriteProof(_Followed):
    """Every word to be written is on the bus with its strobe, once and in order.

    Assumed of the controller, and shown by :class:`CreditProof`: a strobe only for a word that
    was announced.

    Parameters
    ----------
    config : Config
    tsv : Component, optional

    Members
    -------
    strobe : In(1), the DRAM takes a word
    words : In, stream of words to be written
    chosen, value : In, as in :class:`ReadProof`
    """

    def __init__(self, config: Config, tsv=None):
        super().__init__(config, tsv, {"strobe": In(1),
                                       "words": In(stream.Signature(config.word_bits))})

    def elaborate(self, platform):
        m = Module()
        self._begin(m)
        tsv = self.tsv
        wiring.connect(m, wiring.flipped(self.words), tsv.words)
        accepted = transfer(tsv.words)
        m.d.comb += tsv.strobes.bundle_write.eq(self.strobe)
        announced = Signal(range(WRITE_WORDS + 2))
        m.d.sync += announced.eq(announced + tsv.strobes.word_ready - self.strobe)
        m.d.comb += [Assume(~self.strobe | (announced != 0)), Assert(announced <= WRITE_WORDS)]
        words = Tracker(m, "words", WRITE_WORDS, accepted, self.strobe, self.chosen)
        with m.If(accepted & self.chosen & ~words.begun):
            m.d.comb += Assume(tsv.words.payload == self.value)
        done = Signal()
        with m.If(words.next & ~done & self.strobe):
            m.d.comb += Assert(tsv.bus.bundle_wdata == self.value)
            m.d.sync += done.eq(1)
        return m


class CreditProof(wiring.Component):
    """The controller reads no word without room and writes none that was not announced.

    The bundle agent and the timers of its path are the real ones; jobs and whether a row is open
    are free. Assumed of the TSV interface, and shown by the other two proofs: it returns credit
    for a word it was given, and announces at most :data:`WRITE_WORDS` words ahead.

    Parameters
    ----------
    config : Config
    agent : Component, optional
        In place of :class:`BundleAgent`.

    Members
    -------
    job : In, stream of jobs
    served : In(1), the row of the word at hand is open
    taken, announces : In(1), credit comes back; a word is announced
    """

    def __init__(self, config: Config, agent=None):
        self.config = config
        self.agent = BundleAgent(config) if agent is None else agent
        super().__init__({"job": In(stream.Signature(bundle_job(config))), "served": In(1),
                          "taken": In(1), "announces": In(1)})

    def elaborate(self, platform):
        m = Module()
        room = self.config.word_fifo
        m.submodules.agent = agent = self.agent
        m.submodules.path = path = PathTimers(self.config, host=False)
        wiring.connect(m, wiring.flipped(self.job), agent.job)
        moves = self.served & agent.here.valid & agent.go
        read = Signal()
        write, just = Signal(), Signal()
        m.d.comb += [
            read.eq(moves & ~agent.write & path.may_read),
            write.eq(moves & agent.write & path.may_write),
            agent.advance.eq(read | write), path.read.eq(read), path.write.eq(write),
            agent.word_taken.eq(self.taken), agent.word_ready.eq(self.announces),
        ]
        out, announced = Signal(range(room + 2)), Signal(range(WRITE_WORDS + 2))
        m.d.sync += [out.eq(out + read - self.taken), just.eq(read | write),
                     announced.eq(announced + self.announces - write)]
        m.d.comb += [
            Assume(~self.taken | (out != 0)),
            Assume(~self.announces | (announced != WRITE_WORDS)),
            Assert(out <= room), Assert(~write | (announced != 0)),
            Assert(~((read | write) & just)),
        ]
        return m


def narrow(config: Config) -> NarrowConfig:
    """The same configuration with the data path of :class:`NarrowConfig`."""
    return NarrowConfig(**{name: getattr(config, name) for name in config.__dataclass_fields__})
