# SPDX-License-Identifier: BSD-2-Clause
"""A channel with AMBA ports in place of the native ones."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from logicpim.rtl.channel import Channel
from logicpim.rtl.stream import connect
from logicpim.spec.config import Config

from .bridge import AxiBridge
from .ports import axi_channels, flat_ports, join, lite_channels
from .registers import AxiLiteRegisters

DATA, CONTROL = "s_axi", "s_axil"


class AxiChannel(wiring.Component):
    """A :class:`~logicpim.rtl.channel.Channel` behind AXI4 and AXI4-Lite, see
    ``docs/integration.md``.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axi_* : AXI4 slave: the windows of :func:`logicpim.spec.host.memory_map`
    s_axil_* : AXI4-Lite slave: :data:`logicpim.spec.host.REGISTERS`
    irq : Out, level
    dram_* : as the channel's
    """

    def __init__(self, config: Config):
        self.config = config
        self._channel = Channel(config)
        dram = {name: member for name, member in self._channel.signature.members.items()
                if name.startswith("dram_")}
        super().__init__({**flat_ports(DATA, axi_channels(config)),
                          **flat_ports(CONTROL, lite_channels()), "irq": Out(1), **dram})

    def elaborate(self, platform):
        m = Module()
        m.submodules.channel = channel = self._channel
        m.submodules.bridge = bridge = AxiBridge(self.config)
        m.submodules.registers = registers = AxiLiteRegisters(self.config)
        join(m, self, DATA, bridge, axi_channels(self.config))
        join(m, self, CONTROL, registers, lite_channels())
        connect(m, registers.window, bridge.window)
        instruction, completion = registers.instruction, registers.completion
        request, response = bridge.request, bridge.response
        m.d.comb += [
            self.irq.eq(registers.irq), registers.fault.eq(bridge.fault),
            registers.answer.eq(bridge.answer), registers.answered.eq(bridge.answered),
            channel.insn_valid.eq(instruction.valid), channel.insn_payload.eq(instruction.payload),
            instruction.ready.eq(channel.insn_ready),
            completion.valid.eq(channel.done_valid), channel.done_ready.eq(completion.ready),
            completion.payload.tag.eq(channel.done_tag),
            completion.payload.status.eq(channel.done_status),
            channel.host_req_valid.eq(request.valid), request.ready.eq(channel.host_req_ready),
            response.valid.eq(channel.host_resp_valid),
            channel.host_resp_ready.eq(response.ready),
            response.payload.data.eq(channel.host_resp_data),
            response.payload.error.eq(channel.host_resp_error),
        ]
        for name in request.payload.shape().members:
            m.d.comb += getattr(channel, f"host_req_{name}").eq(request.payload[name])
        for name, member in self.signature.members.items():
            if name.startswith("dram_"):
                inner, outer = getattr(channel, name), getattr(self, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m
