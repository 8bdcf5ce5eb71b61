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


def dram_ports(component) -> dict:
    """Of a component's ports those of DRAM, which what is around it has too."""
    return {name: member for name, member in component.signature.members.items()
            if "dram_" in name}


def pass_on(m: Module, top, inside) -> None:
    """Connect the DRAM ports of ``top`` to those of the same names ``inside``."""
    for name, member in dram_ports(inside).items():
        inner, outer = getattr(inside, name), getattr(top, name)
        m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)


def join_instructions(m: Module, registers, native) -> None:
    """Connect the queues of the registers to the ports of a channel or stack."""
    instruction, completion = registers.instruction, registers.completion
    m.d.comb += [
        native.insn_valid.eq(instruction.valid), native.insn_payload.eq(instruction.payload),
        instruction.ready.eq(native.insn_ready),
        completion.valid.eq(native.done_valid), native.done_ready.eq(completion.ready),
        completion.payload.tag.eq(native.done_tag),
        completion.payload.status.eq(native.done_status),
    ]


def join_host(m: Module, bridge, native, prefix: str = "") -> None:
    """Connect a bridge to the host port whose names begin with ``prefix``."""
    def port(name):
        return getattr(native, f"{prefix}host_{name}")

    request, response = bridge.request, bridge.response
    m.d.comb += [
        port("req_valid").eq(request.valid), request.ready.eq(port("req_ready")),
        response.valid.eq(port("resp_valid")), port("resp_ready").eq(response.ready),
        response.payload.data.eq(port("resp_data")), response.payload.error.eq(port("resp_error")),
        *(port(f"req_{name}").eq(request.payload[name])
          for name in request.payload.shape().members),
    ]


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
        super().__init__({**flat_ports(DATA, axi_channels(config)),
                          **flat_ports(CONTROL, lite_channels(config)), "irq": Out(1),
                          **dram_ports(self._channel)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.channel = channel = self._channel
        m.submodules.bridge = bridge = AxiBridge(self.config)
        m.submodules.registers = registers = AxiLiteRegisters(self.config)
        join(m, self, DATA, bridge, axi_channels(self.config))
        join(m, self, CONTROL, registers, lite_channels(self.config))
        connect(m, registers.window, bridge.window)
        join_instructions(m, registers, channel)
        join_host(m, bridge, channel)
        pass_on(m, self, channel)
        m.d.comb += [self.irq.eq(registers.irq), registers.fault.eq(bridge.fault),
                     registers.answer.eq(bridge.answer), registers.answered.eq(bridge.answered)]
        return m
