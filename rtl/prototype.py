# SPDX-License-Identifier: BSD-2-Clause
"""What an FPGA board holds: a channel, its DRAM of block RAM, and the serial link to the host."""

from amaranth.hdl import ClockDomain, DomainRenamer, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.channel import Channel
from logicpim.rtl.control.host import host_address_bits
from logicpim.rtl.dram.block_ram import BlockDram
from logicpim.rtl.link.frames import FrameReceiver, FrameSender
from logicpim.rtl.link.requests import RequestServer
from logicpim.rtl.link.uart import UartReceiver, UartTransmitter
from logicpim.rtl.signatures import CommandBus, DataBus
from logicpim.rtl.stream import connect
from logicpim.spec.config import Config
from logicpim.spec.errors import ConfigError


class Prototype(wiring.Component):
    """Only wires: the whole gateware of a board but for its clock.

    The link runs from ``reset`` on; the channel is reset by the link, at the start and for each
    new session of a host. What the DRAM and the buffers hold outlives that.

    Parameters
    ----------
    config : Config
        Of one channel.
    clock_hz, baud : int
        Of ``clock`` and of the line; 1 % off is refused.
    frame_bytes : int
        Most bytes of a frame of the link: a power of two.

    Members
    -------
    clock, reset : In; ``reset`` is taken with ``clock``
    rx, tx : the line, at rest 1
    """

    def __init__(self, config: Config, *, clock_hz: int, baud: int, frame_bytes: int = 1024):
        self.config, self.clock_hz, self.baud = config, clock_hz, baud
        self.frame_bytes = frame_bytes
        self.divisor = round(clock_hz / baud)
        if config.channels != 1:
            raise ConfigError(f"a board holds one channel, not {config.channels}: channels=1")
        if self.divisor < 4 or abs(clock_hz / self.divisor / baud - 1) > 0.01:
            raise ConfigError(f"{baud} baud cannot be made from a clock of {clock_hz} Hz within "
                              f"1 %: take a divisor of the clock, 4 at least")
        super().__init__({"clock": In(1), "reset": In(1), "rx": In(1, init=1),
                          "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        # One clock, two resets: the same signal, so that no simulator sees one edge before another.
        m.domains.sync = channel_domain = ClockDomain()
        m.domains.link = link_domain = ClockDomain()
        link_domain.clk = channel_domain.clk
        m.submodules.channel = channel = Channel(self.config)
        m.submodules.dram = dram = BlockDram(self.config)
        link = DomainRenamer("link")
        receiver, transmitter = (u(divisor=self.divisor) for u in (UartReceiver, UartTransmitter))
        frames_in, frames_out = (f(size=self.frame_bytes) for f in (FrameReceiver, FrameSender))
        server = RequestServer(self.config, frame_bytes=self.frame_bytes, clock_hz=self.clock_hz,
                               address_bits=host_address_bits(self.config))
        for name, part in (("uart_receiver", receiver), ("uart_transmitter", transmitter),
                           ("frame_receiver", frames_in), ("frame_sender", frames_out),
                           ("request_server", server)):
            m.submodules[name] = link(part)
        connect(m, frames_in.o, server.i)
        connect(m, server.o, frames_out.i)
        connect(m, frames_out.o, transmitter.i)
        m.d.comb += [
            channel_domain.clk.eq(self.clock), link_domain.rst.eq(self.reset),
            channel_domain.rst.eq(server.reset),
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
            frames_in.valid.eq(receiver.valid), frames_in.byte.eq(receiver.data),
            frames_in.bad.eq(receiver.bad), frames_out.again.eq(server.again),
        ]
        for name, member in channel.signature.members.items():
            if not name.startswith("dram_"):
                inner, outer = getattr(channel, name), getattr(server, name)
                m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        self._dram(m, channel, dram)
        return m

    def _dram(self, m: Module, channel, dram) -> None:
        for name, member in CommandBus(self.config).members.items():
            if name == "path":
                m.d.comb += dram.bus.path.eq(channel.dram_path)
                continue
            slot = getattr(dram.bus, name)
            m.d.comb += (slot[field].eq(getattr(channel, f"dram_{name}_{field}"))
                         for field in member.shape.members)
        for name, member in DataBus(self.config).members.items():
            inner, outer = getattr(dram.data, name), getattr(channel, f"dram_{name}")
            m.d.comb += inner.eq(outer) if member.flow is Out else outer.eq(inner)
