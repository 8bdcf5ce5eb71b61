# SPDX-License-Identifier: BSD-2-Clause
"""The channels of AXI4 and AXI4-Lite as streams, and as ports with flat conventional names."""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.host import (
    COUNTERS_BASE,
    COUNTERS_STRIDE,
    WORD_BITS,
    address_bits,
    control_bits,
)

OKAY, SLVERR, DECERR = 0, 2, 3
FIXED, INCR, WRAP = 0, 1, 2


def bus_bytes(config: Config) -> int:
    """Bytes of a beat."""
    return config.axi_bits // 8


def axi_address(config: Config) -> data.StructLayout:
    """AW and AR: a burst of ``len + 1`` beats of ``2 ** size`` bytes."""
    return data.StructLayout({"id": unsigned(config.axi_id_bits),
                              "addr": unsigned(address_bits(config)),
                              "len": unsigned(8), "size": unsigned(3), "burst": unsigned(2)})


def axi_channels(config: Config) -> dict:
    """Name to (layout of the payload, flow at the slave) of the five channels of AXI4."""
    bits, name = config.axi_bits, unsigned(config.axi_id_bits)
    return {
        "aw": (axi_address(config), In),
        "w": (data.StructLayout({"data": unsigned(bits), "strb": unsigned(bits // 8),
                                 "last": unsigned(1)}), In),
        "b": (data.StructLayout({"id": name, "resp": unsigned(2)}), Out),
        "ar": (axi_address(config), In),
        "r": (data.StructLayout({"id": name, "data": unsigned(bits), "resp": unsigned(2),
                                 "last": unsigned(1)}), Out),
    }


def lite_channels(config: Config) -> dict:
    """Name to (layout of the payload, flow at the slave) of the five channels of AXI4-Lite."""
    address = data.StructLayout({"addr": unsigned(control_bits(config))})
    return {
        "aw": (address, In),
        "w": (data.StructLayout({"data": unsigned(WORD_BITS), "strb": unsigned(WORD_BITS // 8)}),
              In),
        "b": (data.StructLayout({"resp": unsigned(2)}), Out),
        "ar": (address, In),
        "r": (data.StructLayout({"data": unsigned(WORD_BITS), "resp": unsigned(2)}), Out),
    }


def slave_streams(channels: dict) -> dict:
    """Members of a component: a stream for each channel."""
    return {name: flow(stream.Signature(layout)) for name, (layout, flow) in channels.items()}


def flat_ports(prefix: str, channels: dict) -> dict:
    """Members of a component: ``prefix_awvalid`` and so on."""
    ports = {}
    for name, (layout, flow) in channels.items():
        ports[f"{prefix}_{name}valid"] = flow(1)
        ports[f"{prefix}_{name}ready"] = (Out if flow is In else In)(1)
        for field, shape in layout.members.items():
            ports[f"{prefix}_{name}{field}"] = flow(shape)
    return ports


def join(m, top, prefix: str, slave, channels: dict) -> None:
    """Connect flat ports of ``top`` to the streams of a slave."""
    for name, (layout, flow) in channels.items():
        port = getattr(slave, name)
        pairs = [(getattr(top, f"{prefix}_{name}valid"), port.valid)]
        pairs += [(getattr(top, f"{prefix}_{name}{field}"), port.payload[field])
                  for field in layout.members]
        ready = getattr(top, f"{prefix}_{name}ready")
        for outer, inner in pairs:
            m.d.comb += inner.eq(outer) if flow is In else outer.eq(inner)
        m.d.comb += ready.eq(port.ready) if flow is In else port.ready.eq(ready)


def window_request(config: Config) -> data.StructLayout:
    """An access to granule ``address`` of the native register region, in a stack of that of a
    ``channel``; any write there clears."""
    channel = {"channel": range(config.channels)} if config.stack else {}
    return data.StructLayout({"write": unsigned(1),
                              "address": range(COUNTERS_BASE // COUNTERS_STRIDE), **channel})


def lane_bits(config: Config) -> int:
    """Bits that say which part of a granule a beat is."""
    return ceil_log2(config.granule_bits // config.axi_bits)
