# SPDX-License-Identifier: BSD-2-Clause
"""The tile: tokens x rows processing units, their operand decoders and their accumulators."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.accumulators import Accumulators
from logicpim.rtl.pim.block import beat_kind, beat_place, drain_step
from logicpim.rtl.pim.operand import ByteWidener, OperandBank, exponents_of
from logicpim.rtl.pim.processing_unit import ProcessingUnit
from logicpim.spec.config import Config
from logicpim.spec.isa import BYTE_FORMATS, Format


class Tile(wiring.Component):
    """Adds a beat of every row with a beat of every token to their accumulators, each clock.

    The same accumulators may be given again ``revisit`` clocks later.

    Parameters
    ----------
    config : Config

    Members
    -------
    tokens : In, a beat (``depth`` elements of 16 bits) of each token
    weights : In, a beat of each row; of 8 bits twice as many elements, of which ``kind`` chooses
    kind : In, :func:`~logicpim.rtl.pim.block.beat_kind`
    mask, mask_upper : In, elements of the beat that count, for the lower and for the upper half
        of the tokens
    place : In, :func:`~logicpim.rtl.pim.block.beat_place`
    step : In, :func:`~logicpim.rtl.pim.block.drain_step`, to come ``latency`` clocks or more
        behind the last beat of what it reads
    lanes : Out, the lanes of a drained token, row by row, two clocks after ``step``
    """

    #: Clocks from a beat to the end of the clock that writes its sums.
    latency = OperandBank.latency + ProcessingUnit.latency + 2
    #: Clocks between beats for the same accumulators.
    revisit = ProcessingUnit.latency - ProcessingUnit.accumulator_delay + 2

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        super().__init__({
            "tokens": In(tile.tokens * tile.depth * 16), "weights": In(config.beat_bits),
            "mask": In(tile.depth), "mask_upper": In(tile.depth),
            "kind": In(beat_kind(config)), "place": In(beat_place(config)),
            "step": In(drain_step(config)),
            "lanes": Out(tile.rows * 32).array(tile.lanes)})

    def elaborate(self, platform):
        m = Module()
        tile = self.config.tile
        masks = [self.mask, self.mask_upper]
        tokens = self._banks(m, "token", self.tokens, [masks[self._upper(t)]
                                                       for t in range(tile.tokens)],
                             self.kind.brain_inputs)
        weights = self._weights(m, masks)
        m.submodules.accumulators = accumulators = Accumulators(self.config)
        for t, token in enumerate(tokens):
            for r, weight in enumerate(weights[self._upper(t)]):
                unit = shared(ProcessingUnit(depth=tile.depth,
                                             exponents=exponents_of(self.config)),
                              "processing_unit")
                m.submodules[f"pu_{t}_{r}"] = unit
                wiring.connect(m, token.o, unit.token)
                wiring.connect(m, weight.o, unit.weight)
                m.d.comb += [
                    unit.accumulator.eq(accumulators.sums.word_select(t * tile.rows + r, 32)),
                    accumulators.data.word_select(t * tile.rows + r, 32).eq(unit.o)]

        places = [self.place]
        for clock in range(1, self.latency - 1):
            place = Signal(beat_place(self.config), name=f"place_{clock}", reset_less=True)
            m.d.sync += place.eq(places[-1])
            places.append(place)
        write = OperandBank.latency + ProcessingUnit.latency
        read = write - self.revisit
        m.d.comb += [
            accumulators.read.eq(places[read]), accumulators.write.eq(places[write]),
            accumulators.step.eq(self.step),
            *(out.eq(lane) for out, lane in zip(self.lanes, accumulators.lanes, strict=True)),
        ]
        written, wanted = places[write - 1], places[read - 1]
        same = Cat(written[name] == wanted[name] for name in ("page", "lane", "group"))
        m.d.sync += accumulators.again.eq(written.enable & same.all())
        return m

    def _upper(self, token):
        """Which half of the tokens this one is in: they differ for weights of 8 bits alone."""
        tile = self.config.tile
        return int(self.config.has_bytes and tile.tokens > 1 and token >= tile.tokens // 2)

    def _weights(self, m, masks):
        """Weight banks for the lower and for the upper half of the tokens."""
        config, kind = self.config, self.kind
        brain = kind.weight_format == Format.BF16
        if not config.has_bytes:
            count = config.tile.rows
            banks = self._banks(m, "weight", self.weights, [self.mask] * count, brain)
            return banks, banks
        halves = [self._banks(m, name, self._widen(m, name, part), [mask] * config.tile.rows, brain)
                  for name, part, mask in zip(("weight", "weight_upper"),
                                              (kind.part, kind.part_upper), masks, strict=True)
                  if name == "weight" or config.tile.tokens > 1]
        return halves * 2 if len(halves) == 1 else halves

    def _widen(self, m, name, part):
        """Weights of 16 bits as they are, a half of those of 8 bits widened."""
        depth, fmt = self.config.tile.depth, self.kind.weight_format
        formats = tuple(f for f in self.config.weight_formats if f in BYTE_FORMATS)
        chosen = []
        for r in range(self.config.tile.rows):
            row = self.weights.word_select(r, 16 * depth)
            some = Mux(part, row[8 * depth:], row[:8 * depth])
            for i in range(depth):
                widener = shared(ByteWidener(formats), "byte_widener")
                m.submodules[f"{name}_{r}_{i}"] = widener
                m.d.comb += [widener.byte.eq(some.word_select(i, 8)), widener.format.eq(fmt)]
                wide = (fmt == Format.FP16) | (fmt == Format.BF16)
                chosen.append(Mux(wide, row.word_select(i, 16), widener.o))
        return Cat(chosen)

    def _banks(self, m, name, halves, masks, brain):
        banks = []
        for i, mask in enumerate(masks):
            bank = shared(OperandBank(depth=self.config.tile.depth,
                                      exponents=exponents_of(self.config)), "operand_bank")
            m.submodules[f"{name}_bank_{i}"] = bank
            m.d.comb += [bank.halves.eq(halves.word_select(i, len(bank.halves))),
                         bank.mask.eq(mask), bank.brain.eq(brain)]
            banks.append(bank)
        return banks
