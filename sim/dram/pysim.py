# SPDX-License-Identifier: BSD-2-Clause
"""The DRAM model beside gateware in Amaranth's own simulator."""

from amaranth.hdl import Cat

from .model import DramModel, Slot


def slot_of(value) -> Slot:
    """The slot that a sampled ``row_command`` or ``column_command`` carries."""
    address = value.row if hasattr(value, "row") else value.column
    return Slot(int(value.command), int(value.rank), int(value.bank_group), int(value.bank),
                int(address))


def dram_process(model: DramModel, commands, data):
    """A process for ``Simulator.add_process`` that serves a :class:`CommandBus` and
    :class:`DataBus` of the design.

    Parameters
    ----------
    model : DramModel
    commands : interface with ``row0``, ``row1``, ``column0``, ``column1`` and ``path``
    data : interface with ``bundle_rdata``, ``bundle_wdata``, ``host_rdata``, ``host_wdata``
        and ``host_wmask``; with ``ecc`` their side bands too
    """
    def bus(name):
        side = [getattr(data, name.replace("data", "check"))] if model.config.ecc else []
        return Cat(getattr(data, name), *side)

    async def process(ctx):
        def drive(reads):
            ctx.set(bus("bundle_rdata"), reads[0])
            ctx.set(bus("host_rdata"), reads[1])

        drive(model.idle_reads())
        sampled = ctx.tick().sample(
            commands.row0, commands.row1, commands.column0, commands.column1, commands.path,
            bus("bundle_wdata"), bus("host_wdata"), data.host_wmask)
        async for _, reset, *values in sampled:
            if reset:
                continue
            slots = [slot_of(value) for value in values[:4]]
            drive(model.step(slots[:2], slots[2:], *map(int, values[4:])))

    return process
