# SPDX-License-Identifier: BSD-2-Clause
"""A puppet in place of the channel: each instruction says what the DRAM buses carry."""

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring

from logicpim.rtl.channel import Channel
from logicpim.rtl.signatures import column_command, row_command
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(name="puppet")


def strings(config):
    """What is pulled: fields of an instruction, above its tag."""
    return data.StructLayout({
        "low": 16, "tag": 16,
        "row0": row_command(config), "row1": row_command(config),
        "column0": column_command(config), "column1": column_command(config),
        "path": config.dram.bundles, "mask": config.granule_bytes, "byte": 8,
        "hang": 1, "spurious": 1, "respond": 1,
    })


class Puppet(wiring.Component):
    """Carries on the DRAM's buses, in the clock after an instruction is accepted, what it says.

    In that clock it also completes with the low byte of the host's read data as status (with
    bit 0 of ``low`` the bundle's, with bit 1 none); ``byte`` fills the write data. ``hang``
    leaves the completion out, ``spurious`` adds one a clock later. Host requests stay unanswered.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(Channel(config).signature)

    def elaborate(self, platform):
        m = Module()
        config, layout = self.config, strings(self.config)
        pulled = Signal(layout)
        new = Signal(layout)
        m.d.comb += [new.as_value().eq(self.insn_payload), self.insn_ready.eq(1)]
        m.d.sync += pulled.eq(0)
        with m.If(self.insn_valid):
            m.d.sync += pulled.eq(new)
        finished, late = Signal(), Signal()
        m.d.sync += [finished.eq(self.insn_valid & ~new.hang), late.eq(pulled.spurious)]
        status = Signal(8)
        with m.If(~pulled.low[1]):
            m.d.comb += status.eq(self.dram_host_rdata[:8])
        with m.If(pulled.low[0]):
            m.d.comb += status.eq(self.dram_bundle_rdata[:8])
        m.d.comb += [self.done_valid.eq(finished | late), self.done_tag.eq(pulled.tag),
                     self.done_status.eq(status), self.host_resp_valid.eq(pulled.respond),
                     self.dram_path.eq(pulled.path), self.dram_host_wmask.eq(pulled.mask),
                     self.dram_host_wdata.eq(Cat([pulled.byte] * config.granule_bytes)),
                     self.dram_bundle_wdata.eq(Cat([pulled.byte] * config.word_bytes))]
        for bus in ("row0", "row1", "column0", "column1"):
            for name in getattr(pulled, bus).shape().members:
                m.d.comb += getattr(self, f"dram_{bus}_{name}").eq(getattr(pulled, bus)[name])
        return m


def puppet():
    """What the generator is to make in place of the channel."""
    return Puppet(CONFIG)


@pytest.fixture(scope="session")
def puppet_config():
    return CONFIG


@pytest.fixture(scope="session")
def puppet_top():
    return puppet


@pytest.fixture(scope="session")
def pull():
    """Makes an instruction out of what shall be pulled."""
    return lambda **values: strings(CONFIG).const(values).as_value().value
