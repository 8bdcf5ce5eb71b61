# SPDX-License-Identifier: BSD-2-Clause
"""A stack with AMBA ports in place of the native ones."""

from amaranth.hdl import Array, Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.stack import Stack
from logicpim.spec.config import Config

from .bridge import AxiBridge
from .channel import CONTROL, DATA, dram_ports, join_host, join_instructions, pass_on
from .ports import axi_channels, flat_ports, join, lite_channels
from .registers import AxiLiteRegisters


def data_prefix(channel: int) -> str:
    """What the names of a channel's AXI4 port begin with."""
    return f"ch{channel:02}_{DATA}"


class AxiStack(wiring.Component):
    """A :class:`~logicpim.rtl.stack.Stack` behind an AXI4 port for each channel and one AXI4-Lite
    port, see ``docs/integration.md``.

    The DRAM of each channel is a bus of its own, so each has a port that can keep it busy: one
    port for all would pass a beat a clock where the channels have ``config.channels``.

    Answers from the channels' register regions and faults reach the registers a clock later.

    Parameters
    ----------
    config : Config

    Members
    -------
    ch00_s_axi_*, ch01_s_axi_* ... : AXI4 slaves: the windows of
        :func:`logicpim.spec.host.memory_map`
    s_axil_* : AXI4-Lite slave: :func:`logicpim.spec.host.control_registers`
    irq : Out, level
    ch00_dram_*, ch01_dram_* ... : as the stack's
    """

    def __init__(self, config: Config):
        self.config = config
        self._stack = Stack(config)
        data = {}
        for channel in range(config.channels):
            data |= flat_ports(data_prefix(channel), axi_channels(config))
        super().__init__({**data, **flat_ports(CONTROL, lite_channels(config)), "irq": Out(1),
                          **dram_ports(self._stack)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.stack = stack = self._stack
        m.submodules.registers = registers = AxiLiteRegisters(self.config)
        join(m, self, CONTROL, registers, lite_channels(self.config))
        join_instructions(m, registers, stack)
        pass_on(m, self, stack)
        m.d.comb += [self.irq.eq(registers.irq), stack.insn_channels.eq(registers.channels)]
        bridges = [self._bridge(m, stack, registers.window, index)
                   for index in range(self.config.channels)]
        asked = registers.window.payload.channel
        m.d.comb += registers.window.ready.eq(
            Array(bridge.window.ready for bridge in bridges)[asked])
        m.d.sync += [
            registers.answer.eq(Array(bridge.answer for bridge in bridges)[asked]),
            registers.answered.eq(Cat(bridge.answered for bridge in bridges).any()),
            registers.fault.eq(Cat(bridge.fault for bridge in bridges).any()),
        ]
        return m

    def _bridge(self, m: Module, stack, window, index: int):
        """The AXI4 port of a channel."""
        bridge = shared(AxiBridge(self.config), "axi_bridge")
        m.submodules[f"bridge{index:02}"] = bridge
        join(m, self, data_prefix(index), bridge, axi_channels(self.config))
        join_host(m, bridge, stack, f"ch{index:02}_")
        m.d.comb += [bridge.window.payload.eq(window.payload),
                     bridge.window.valid.eq(window.valid & (window.payload.channel == index))]
        return bridge
