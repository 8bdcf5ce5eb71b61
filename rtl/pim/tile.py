# SPDX-License-Identifier: BSD-2-Clause
"""The tile: tokens x rows processing units, their operand decoders and their accumulators."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.accumulators import Accumulators
from logicpim.rtl.pim.block import beat_place, drain_step
from logicpim.rtl.pim.operand import OperandBank
from logicpim.rtl.pim.processing_unit import ProcessingUnit
from logicpim.spec.config import Config


class Tile(wiring.Component):
    """Adds a beat of every row with a beat of every token to their accumulators, each clock.

    The same accumulators may be given again ``revisit`` clocks later.

    Parameters
    ----------
    config : Config

    Members
    -------
    tokens : In, a beat (``depth`` FP16 elements) of each token
    weights : In, a beat of each row
    mask : In, elements of the beat that count, of all tokens and rows
    place : In, :func:`~logicpim.rtl.pim.block.beat_place`
    step : In, :func:`~logicpim.rtl.pim.block.drain_step`, to come ``latency`` clocks or more
        behind the last beat of what it reads
    lanes : Out, the lanes of a drained token, row by row, a clock after ``step``
    """

    #: Clocks from a beat to the end of the clock that writes its sums.
    latency = ProcessingUnit.latency + 1
    #: Clocks between beats for the same accumulators.
    revisit = ProcessingUnit.latency - ProcessingUnit.accumulator_delay + 2

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        super().__init__({
            "tokens": In(tile.tokens * tile.depth * 16), "weights": In(config.beat_bits),
            "mask": In(tile.depth), "place": In(beat_place(config)),
            "step": In(drain_step(config)),
            "lanes": Out(tile.rows * 32).array(tile.lanes)})

    def elaborate(self, platform):
        m = Module()
        tile = self.config.tile
        tokens = self._banks(m, "token", self.tokens, tile.tokens)
        weights = self._banks(m, "weight", self.weights, tile.rows)
        m.submodules.accumulators = accumulators = Accumulators(self.config)
        for t, token in enumerate(tokens):
            for r, weight in enumerate(weights):
                unit = shared(ProcessingUnit(depth=tile.depth), "processing_unit")
                m.submodules[f"pu_{t}_{r}"] = unit
                wiring.connect(m, token.o, unit.token)
                wiring.connect(m, weight.o, unit.weight)
                m.d.comb += [
                    unit.accumulator.eq(accumulators.sums.word_select(t * tile.rows + r, 32)),
                    accumulators.data.word_select(t * tile.rows + r, 32).eq(unit.o)]

        places = [self.place]
        for clock in range(1, self.latency):
            place = Signal(beat_place(self.config), name=f"place_{clock}", reset_less=True)
            m.d.sync += place.eq(places[-1])
            places.append(place)
        m.d.comb += [
            accumulators.read.eq(places[ProcessingUnit.accumulator_delay - 1]),
            accumulators.write.eq(places[ProcessingUnit.latency]),
            accumulators.step.eq(self.step),
            *(out.eq(lane) for out, lane in zip(self.lanes, accumulators.lanes, strict=True)),
        ]
        return m

    def _banks(self, m, name, halves, count):
        banks = []
        for i in range(count):
            bank = shared(OperandBank(depth=self.config.tile.depth), "operand_bank")
            m.submodules[f"{name}_bank_{i}"] = bank
            m.d.comb += [bank.halves.eq(halves.word_select(i, len(bank.halves))),
                         bank.mask.eq(self.mask)]
            banks.append(bank)
        return banks
