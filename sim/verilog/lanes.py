# SPDX-License-Identifier: BSD-2-Clause
"""A channel and the DRAM die's end of its lanes, and between them lanes that can be stuck."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.channel import Channel
from logicpim.rtl.signatures import DataBus
from logicpim.rtl.tsv.lane_ends import LANES, DramLanes, lane_ports
from logicpim.rtl.tsv.lanes import lane_count
from logicpim.spec.config import Config


class FaultyLanes(wiring.Component):
    """The ports of a channel without ``lane_repair``, the lanes inside.

    Parameters
    ----------
    config : Config

    Members
    -------
    stuck_LINK, level_LINK : In, for each lane of a link whether it is stuck, and at what
    """

    def __init__(self, config: Config):
        self.config, self.channel = config, Channel(config)
        lanes = {f"dram_{name}" for name in lane_ports(config, logic=True)}
        members = {name: member for name, member in self.channel.signature.members.items()
                   if name not in lanes}
        members |= {f"dram_{name}": member for name, member in DataBus(config).members.items()}
        for link in LANES.values():
            members |= {f"stuck_{link}": In(lane_count(config, link)),
                        f"level_{link}": In(lane_count(config, link))}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.channel = channel = self.channel
        m.submodules.dram_lanes = dram = DramLanes(self.config)
        for name, member in lane_ports(self.config, logic=True).items():
            source, sink = getattr(channel, f"dram_{name}"), getattr(dram, name)
            if member.flow is In:
                source, sink = sink, source
            if name in LANES:
                stuck = getattr(self, f"stuck_{LANES[name]}")
                source = (source & ~stuck) | (getattr(self, f"level_{LANES[name]}") & stuck)
            m.d.comb += sink.eq(source)
        outer = {name: self.signature.members[name] for name in self.signature.members
                 if not name.startswith(("stuck_", "level_"))}
        for name, member in outer.items():
            short = name.removeprefix("dram_")
            inner = getattr(dram if short in DataBus(self.config).members else channel,
                            short if short in DataBus(self.config).members else name)
            own = getattr(self, name)
            m.d.comb += own.eq(inner) if member.flow is Out else inner.eq(own)
        return m
