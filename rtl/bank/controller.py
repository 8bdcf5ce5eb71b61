# SPDX-License-Identifier: BSD-2-Clause
"""The DRAM controller of one channel: bundle jobs, host accesses and refresh on one bus."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import (
    Activity,
    CommandBus,
    DataStrobes,
    bundle_job,
    host_access,
)
from logicpim.rtl.stream import connect
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .bundle import BundleAgent
from .host import HostAgent
from .sequencer import Sequencer
from .strobe import StrobeGenerator


class DramController(wiring.Component):
    """Only wires: agents, sequencer, output registers and strobes.

    One row is open at a time and all commands go into slot 0 of a clock. Words of a job are
    transferred in order, each once; host accesses complete in order. A bundle row of C columns
    takes ``2 * C`` clocks and about 22 more (paper's point); a refresh comes at most one row
    after it is due.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.signatures.bundle_job`
    host : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    bus : Out(CommandBus), registered
    strobes : Out(DataStrobes)
    host_done, job_done : Out(1), as in :class:`StrobeGenerator`
    activity : Out(Activity), registered
    event_refresh : Out(1), a REFAB is on the bus
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(bundle_job(config))),
            "host": In(stream.Signature(host_access(config))),
            "bus": Out(CommandBus(config)), "strobes": Out(DataStrobes(config)),
            "host_done": Out(1), "job_done": Out(1), "activity": Out(Activity),
            "event_refresh": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.bundle = bundle = BundleAgent(self.config)
        m.submodules.host = host = HostAgent(self.config)
        m.submodules.sequencer = sequencer = Sequencer(self.config)
        m.submodules.strobe = strobe = StrobeGenerator(self.config)
        connect(m, wiring.flipped(self.job), bundle.job)
        connect(m, wiring.flipped(self.host), host.host)
        wiring.connect(m, bundle.access, sequencer.bundle)
        wiring.connect(m, host.access, sequencer.host)
        wiring.connect(m, strobe.strobes, wiring.flipped(self.strobes))
        m.d.comb += [
            bundle.word_taken.eq(self.strobes.word_taken),
            bundle.word_ready.eq(self.strobes.word_ready),
            strobe.column.eq(sequencer.column), strobe.last.eq(bundle.last),
            strobe.data.eq(host.data), strobe.mask.eq(host.mask),
            self.host_done.eq(strobe.host_done), self.job_done.eq(strobe.job_done),
            self.bus.path.eq(sequencer.path),
        ]
        m.d.sync += [
            self.bus.row0.eq(sequencer.row), self.bus.column0.eq(sequencer.column),
            self.activity.eq(sequencer.activity),
            self.event_refresh.eq(sequencer.row.command == DramCommand.REFAB),
        ]
        return m
