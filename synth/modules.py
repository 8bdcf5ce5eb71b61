# SPDX-License-Identifier: BSD-2-Clause
"""The modules that area and timing are asked for, by name."""

import importlib
from dataclasses import dataclass

from logicpim.rtl.signatures import cells_per_line
from logicpim.spec.config import Config
from logicpim.spec.errors import ConfigError
from logicpim.spec.isa import Format

_PLACES = {
    "channel": "channel.Channel", "gemm": "pim.gemm.GemmModule", "tile": "pim.tile.Tile",
    "accumulators": "pim.accumulators.Accumulators",
    "processing_unit": "pim.processing_unit.ProcessingUnit",
    "operand_bank": "pim.operand.OperandBank", "fp32_adder": "pim.fp32.Adder",
    "fp32_scaler": "pim.fp32.Scaler", "lane_reducer": "pim.drain.LaneReducer",
    "divider": "pim.job.JobDivider", "sequencer": "pim.sequencer.Sequencer",
    "walker": "pim.walker.DrainWalker", "drain": "pim.drain.Drain",
    "activation_lane": "pim.activation_lane.ActivationLane",
    "softmax_lane": "pim.softmax_lane.SoftmaxLane",
    "activation": "pim.activation.Activation", "softmax": "pim.softmax.Softmax",
    "cell_reader": "pim.cell_reader.CellReader", "cell_writer": "pim.cell_writer.CellWriter",
    "cell_walk": "pim.cell_walk.CellWalk", "greatest": "pim.softmax_state.Greatest",
    "total": "pim.softmax_state.Total", "scale_factor": "pim.softmax_state.ScaleFactor",
    "scale_reader": "pim.scales.ScaleReader", "line_buffer": "pim.buffer.LineBuffer",
    "tsv": "tsv.interface.TsvInterface", "logic_lanes": "tsv.lane_ends.LogicLanes",
    "dram_lanes": "tsv.lane_ends.DramLanes",
    "masked_writes": "control.masked_write.MaskedWrites",
    "read_errors": "control.read_errors.ReadErrors", "scheduler": "bank.scheduler.Scheduler",
    "bundle_machine": "bank.machine.BundleMachine", "bundle_agent": "bank.bundle.BundleAgent",
    "host_agent": "bank.host.HostAgent", "host_way": "bank.host.HostWay",
    "host_order": "bank.order.HostOrder", "refresh": "bank.refresh.BankRefresh",
    "bank_timers": "bank.timer.BankTimers", "rank_timers": "bank.timer.RankTimers",
    "strobe": "bank.strobe.StrobeGenerator", "function_slot": "control.function_slot.FunctionSlot",
    "axi_bridge": "host.bridge.AxiBridge", "axi_registers": "host.registers.AxiLiteRegisters",
    "burst_walker": "host.burst.BurstWalker", "axi_channel": "host.channel.AxiChannel",
    "dram_controller": "bank.controller.DramController",
    "decoder": "control.decoder.InstructionDecoder",
    "executor": "control.executor.OperationExecutor", "host": "control.host.HostPort",
    "loader": "control.mover.Loader", "storer": "control.mover.Storer",
    "buffer_ports": "control.buffer_ports.BufferPorts", "counters": "control.counters.Counters",
}
_PLAIN = {"fp32_adder", "fp32_scaler", "activation_lane", "softmax_lane", "scale_factor"}
_WIDE = {"processing_unit", "operand_bank"}
_WHOLE = _PLAIN | _WIDE | {"lane_reducer"}
_MACS = {"channel", "gemm", "tile"}


def _parameters(name: str, config: Config) -> dict | None:
    """Of a module that is not made from the configuration alone: as where it stands."""
    from logicpim.rtl.control.executor import PASSES
    from logicpim.rtl.control.host import RESPONSES
    from logicpim.rtl.pim.operand import exponents_of
    tile = config.tile
    rows = {"rows": tile.tokens, "lanes": tile.rows}
    cells = {"config": config, "lanes": tile.rows, "lines": config.temp_lines}
    return {
        **dict.fromkeys(_PLAIN, {}),
        **dict.fromkeys(_WIDE, {"depth": tile.depth, "exponents": exponents_of(config)}),
        "lane_reducer": {"split": config.has_bytes, "brain": Format.BF16 in config.output_formats},
        "walker": {"config": config, "apart": 4, "flush": 10},
        "greatest": rows, "total": rows,
        "host_order": {"config": config, "depth": RESPONSES},
        "function_slot": {"config": config, "passes": PASSES},
        "cell_reader": {**cells, "matrices": 1, "credits": 32},
        "cell_writer": {**cells, "lines": config.input_lines, "depth": 32},
        "cell_walk": {"config": config, "lines": config.temp_lines},
        "line_buffer": {"lines": config.temp_lines, "line_bits": config.line_bits,
                        "cells": cells_per_line(config)},
    }.get(name)


NAMES = tuple(_PLACES)


@dataclass(frozen=True)
class Choice:
    """A module of a configuration.

    Attributes
    ----------
    name : str
    config : Config
    macs : int
        Multipliers that add: 0 where a module has none.
    whole : bool
        It is one of the shared modules: synthesised without hierarchy, as it is elsewhere.
    """

    name: str
    config: Config
    macs: int
    whole: bool = False

    def make(self):
        """A new component."""
        where, _, kind = _PLACES[self.name].rpartition(".")
        kind = getattr(importlib.import_module(f"logicpim.rtl.{where}"), kind)
        parameters = _parameters(self.name, self.config)
        return kind(self.config) if parameters is None else kind(**parameters)


def choose(config: Config, name: str) -> Choice:
    """A module by name; :class:`ConfigError` if there is none of that name."""
    if name not in _PLACES:
        raise ConfigError(f"unknown module {name!r}; known are {', '.join(NAMES)}")
    tile = config.tile
    macs = tile.macs if name in _MACS else tile.depth if name == "processing_unit" else 0
    return Choice(name, config, macs, name in _WHOLE)
