# SPDX-License-Identifier: BSD-2-Clause
"""The two ends of the lanes of a channel's data buses: one on the logic die, one on the DRAM's."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import DataBus
from logicpim.spec.config import Config

from .lane_test import LaneObserver, LaneRemap, LaneTest, control_ports
from .lanes import READS, LanePort, LaneReceiver, LaneSender, groups, lane_count, links

WRITES = ("bundle_write", "host_write")
LANES = {"bundle_rlanes": "bundle_read", "host_rlanes": "host_read",
         "bundle_wlanes": "bundle_write", "host_wlanes": "host_write"}
"""Port of each link."""


def parts(config: Config, link: str) -> list[str]:
    """Members of :class:`~logicpim.rtl.signatures.DataBus` that a link carries, in order."""
    bus, way = link.split("_")
    names = [f"{bus}_{way[0]}data"] + [f"{bus}_{way[0]}check"] * config.ecc
    return names + ["host_wmask"] * (link == "host_write")


def lane_ports(config: Config, logic: bool) -> dict:
    """Lanes and test port of one end, by flat name: of the logic die's or of the DRAM die's."""
    ports = {name: (In if (link in READS) == logic else Out)(lane_count(config, link))
             for name, link in LANES.items()}
    for name, member in LanePort(config).members.items():
        ports[f"lane_{name}"] = (Out if (member.flow is Out) == logic else In)(member.shape)
    return ports


class _End(wiring.Component):
    """What both ends have: senders and receivers, remapping, an observer of what is received."""

    def _connect(self, m: Module, bus, sends, port) -> LaneObserver:
        config, numbers = self.config, groups(self.config)
        m.submodules.remap = remap = LaneRemap(config)
        receives = [link for link in links(config) if link not in sends]
        m.submodules.observer = observer = LaneObserver(config, receives)
        m.d.comb += [remap.load.eq(port["load"]), remap.group.eq(port["group"]),
                     remap.value.eq(port["dead"]), observer.group.eq(port["group"]),
                     observer.pattern.eq(port["pattern"])]
        self._remap = remap
        for name, link in LANES.items():
            lanes, whole = getattr(self, name), Cat(bus[part] for part in parts(config, link))
            m.submodules[link] = unit = (LaneSender if link in sends else LaneReceiver)(
                config, link)
            mine = [i for i, (owner, _, _) in enumerate(numbers) if owner == link]
            m.d.comb += [unit.dead[i].eq(remap.dead[number]) for i, number in enumerate(mine)]
            if link in sends:
                m.d.comb += [unit.data.eq(whole), lanes.eq(unit.lanes),
                             unit.test.eq(port["test"]), unit.pattern.eq(port["pattern"])]
            else:
                m.d.comb += [unit.lanes.eq(lanes), whole.eq(unit.data),
                             getattr(observer, f"lanes_{link}").eq(lanes)]
        return observer


class LogicLanes(_End):
    """The logic die's end, with the lane test. Data passes in the same clock.

    Parameters
    ----------
    config : Config

    Members
    -------
    bus : In(DataBus), of the TSV interface
    bundle_rlanes, host_rlanes : In; bundle_wlanes, host_wlanes : Out, lanes of the data buses
    lane_* : :class:`~.lanes.LanePort`, to the DRAM die's end
    request, idle, busy, done, address, value : of :class:`~.lane_test.LaneTest`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"bus": In(DataBus(config)), **lane_ports(config, logic=True),
                          **control_ports(config)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # The last command before has been on the bus for as long as its data may take.
        timing = config.dram_timing
        quiet = max(timing.read_latency, timing.write_latency) + 4
        m.submodules.test = test = LaneTest(config, quiet)
        bus = {part: getattr(self.bus, part) for link in links(config)
               for part in parts(config, link)}
        port = {name: getattr(test.port, name) for name in LanePort(config).members}
        observer = self._connect(m, bus, WRITES, port)
        reads = sum(link in READS for link, _, _ in groups(config))
        m.d.comb += [
            test.bad.eq(observer.bad), test.many.eq(observer.many),
            test.found.eq(observer.found), test.here.eq(test.port.group < reads),
            *(sink.eq(source) for sink, source in zip(test.dead, self._remap.dead, strict=True)),
            test.request.eq(self.request), test.idle.eq(self.idle),
            test.address.eq(self.address), self.value.eq(test.value),
            self.busy.eq(test.busy), self.done.eq(test.done),
        ]
        for name, member in LanePort(config).members.items():
            flat = getattr(self, f"lane_{name}")
            m.d.comb += flat.eq(port[name]) if member.flow is Out else port[name].eq(flat)
        return m


class DramLanes(_End):
    """The DRAM die's end, to be put between the lanes and the bank I/O. Data passes in the clock.

    Parameters
    ----------
    config : Config

    Members
    -------
    bundle_rdata, host_rdata : In; bundle_wdata, host_wdata, host_wmask : Out, the bank I/O
        (with ``config.ecc`` each with its side band, ``*_rcheck``, ``*_wcheck``)
    bundle_rlanes, host_rlanes : Out; bundle_wlanes, host_wlanes : In
    lane_* : the test port
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({**dict(DataBus(config).members.items()),
                          **lane_ports(config, logic=False)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        bus = {part: getattr(self, part) for link in links(config) for part in parts(config, link)}
        port = {name: getattr(self, f"lane_{name}") for name in LanePort(config).members}
        observer = self._connect(m, bus, READS, port)
        m.d.comb += [port["bad"].eq(observer.bad), port["many"].eq(observer.many),
                     port["found"].eq(observer.found)]
        return m
