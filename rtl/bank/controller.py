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

from .scheduler import Scheduler
from .strobe import StrobeGenerator


class DramController(wiring.Component):
    """Only wires: scheduler with its agents, output registers and strobes.

    Words of a job are transferred in order, each once; host accesses to one part of the bundles
    complete in order (:class:`~logicpim.rtl.bank.order.HostOrder` puts all in order). While the
    stream reads a row of one bundle, the next one it needs is closed, refreshed and opened, and
    the host accesses any other: a word of the stream each two clocks, a granule of the host each
    clock.

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
    host_part : Out, of the access that is done
    activity : Out(Activity), registered
    owned : Out(bundles), the sets of the job at hand and of the one offered: Logic-PIM's bundles
    event_refresh : Out(1), a refresh command is on the bus
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "job": In(stream.Signature(bundle_job(config))),
            "host": In(stream.Signature(host_access(config))),
            "bus": Out(CommandBus(config)), "strobes": Out(DataStrobes(config)),
            "host_done": Out(1), "host_part": Out(range(config.dram.parts)),
            "job_done": Out(1), "activity": Out(Activity),
            "owned": Out(config.dram.bundles), "event_refresh": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.scheduler = scheduler = Scheduler(self.config)
        m.submodules.strobe = strobe = StrobeGenerator(self.config)
        bundle, host = scheduler.bundle, scheduler.host
        connect(m, wiring.flipped(self.job), bundle.job)
        connect(m, wiring.flipped(self.host), host.host)
        wiring.connect(m, strobe.strobes, wiring.flipped(self.strobes))
        row = scheduler.row0.command
        m.d.comb += [
            bundle.word_taken.eq(self.strobes.word_taken),
            bundle.word_ready.eq(self.strobes.word_ready),
            strobe.bundle.eq(scheduler.column0), strobe.host.eq(scheduler.column1),
            strobe.last.eq(bundle.last), strobe.data.eq(host.data), strobe.mask.eq(host.mask),
            strobe.part.eq(host.part), self.host_part.eq(strobe.done_part),
            self.host_done.eq(strobe.host_done), self.job_done.eq(strobe.job_done),
            self.owned.eq(bundle.used),
        ]
        m.d.sync += [
            *(getattr(self.bus, slot).eq(getattr(scheduler, slot))
              for slot in ("row0", "row1", "column0", "column1")),
            self.bus.path.eq(scheduler.path), self.activity.eq(scheduler.activity),
            self.event_refresh.eq((row == DramCommand.REFAB) | (row == DramCommand.REFPB)),
        ]
        return m
