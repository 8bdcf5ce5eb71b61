# SPDX-License-Identifier: BSD-2-Clause
"""Performance counters: where every clock of an instruction went."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import Activity, EccEvents, GemmEvents
from logicpim.spec.config import Config
from logicpim.spec.device import ECC_COUNTERS, Counter

from .executor import ORDER

# Clocks from the DRAM's data to the tile: I/O buffer, gearbox, landing queue, word register; a
# decoder is one more.
PIPELINE_AFTER_DRAM = 5


class Counters(wiring.Component):
    """Counts the events of :class:`~logicpim.spec.device.Counter`, 64 bits each, wrapping.

    A clock in which the tile waits for weights is charged to what the DRAM controller did when
    those weights should have been read: its activity is delayed by the read latency.

    An event is in its counter from the second clock after it: between the two is a register, since
    events come from all over the channel. ``clear`` takes away what happened until then.

    Parameters
    ----------
    config : Config

    Members
    -------
    accepted, completed : In, pulses as an instruction enters the queue and as its completion
        is put out; the first clock counted is the one after ``accepted``
    refused : In, a pulse for an instruction that does not come (``config.stack``)
    tile : In, what the tile did
    activity : In, what the DRAM controller does
    function : In, a function module has a job
    word_read, word_written, host_granule, refresh : In, event pulses
    ecc : In(EccEvents) (``config.ecc``)
    clear : In, set all to zero
    in_flight : Out(1), an instruction is
    values : Out
    """

    def __init__(self, config: Config):
        self.config = config
        ecc = {"ecc": In(EccEvents(config))} if config.ecc else {}
        super().__init__({
            "accepted": In(1), "completed": In(1),
            "tile": In(GemmEvents(config)), "activity": In(Activity), "function": In(1),
            "word_read": In(1), "word_written": In(1), "host_granule": In(1), "refresh": In(1),
            "clear": In(1), "in_flight": Out(1),
            "values": Out(unsigned(64)).array(len(Counter)), **ecc,
            **({"refused": In(1)} if config.stack else {}),
        })

    def _delayed_activity(self, m: Module):
        activity = self.activity
        latency = self.config.dram_timing.read_latency + self.config.ecc
        for index in range(latency + PIPELINE_AFTER_DRAM):
            later = Signal(Activity, name=f"activity_{index + 1}")
            m.d.sync += later.eq(activity)
            activity = later
        return activity

    def elaborate(self, platform):
        m = Module()
        in_flight = Signal(range(2 * self.config.queue_depth + ORDER + 8))
        ended = self.completed + self.refused if self.config.stack else self.completed
        m.d.sync += in_flight.eq(in_flight + self.accepted - ended)
        activity = self._delayed_activity(m)

        causes = {c: Signal(name=c.name.lower()) for c in Counter if c not in ECC_COUNTERS}
        m.d.comb += [
            causes[Counter.CYCLES].eq(in_flight != 0),
            causes[Counter.WORDS_READ].eq(self.word_read),
            causes[Counter.WORDS_WRITTEN].eq(self.word_written),
            causes[Counter.HOST_GRANULES].eq(self.host_granule),
            causes[Counter.REFRESHES].eq(self.refresh),
            self.in_flight.eq(in_flight != 0),
        ]
        waits = {Activity.ACTIVATE: Counter.STALL_ACTIVATE,
                 Activity.REFRESH: Counter.STALL_REFRESH,
                 Activity.HOST: Counter.STALL_ARBITRATION,
                 Activity.STREAM: Counter.STALL_OPERAND}
        with m.If(in_flight != 0):
            with m.If(self.tile.active):
                m.d.comb += causes[Counter.ACTIVE].eq(1)
            with m.Elif(self.tile.stall_output):
                m.d.comb += causes[Counter.STALL_OUTPUT].eq(1)
            if self.config.stack:
                with m.Elif(self.tile.stall_broadcast):
                    m.d.comb += causes[Counter.STALL_BROADCAST].eq(1)
            with m.Elif(self.tile.stall_weights & (activity != Activity.IDLE)):
                with m.Switch(activity):
                    for state, counter in waits.items():
                        with m.Case(state):
                            m.d.comb += causes[counter].eq(1)
            with m.Elif(self.function):
                m.d.comb += causes[Counter.STALL_FUNCTION].eq(1)
            with m.Else():
                m.d.comb += causes[Counter.STALL_CONTROL].eq(1)

        for counter, value in zip(Counter, self.values, strict=True):
            if counter == Counter.STALL_BROADCAST and not self.config.stack:
                continue
            if counter in ECC_COUNTERS:
                if not self.config.ecc:
                    continue
                causes[counter] = getattr(self.ecc, counter.name.lower())
            happened = Signal.like(causes[counter], name=f"{counter.name.lower()}_before")
            m.d.sync += [happened.eq(causes[counter]), value.eq(value + happened)]
            with m.If(self.clear):
                m.d.sync += [happened.eq(0), value.eq(0)]
        return m
