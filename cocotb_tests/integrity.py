# SPDX-License-Identifier: BSD-2-Clause
"""Wrong bits in stored granules, for configurations with ``ecc``."""

from logicpim.spec.device import Counter, Region
from logicpim.spec.ecc import PART_BITS
from logicpim.spec.isa import Completion, Format, Status

from .bench import channel_test
from .stimulus import Space, fill_dram, gemm


def parts_of(bench, insn):
    """(granule, bit of its first, first check bit) of every part that a GEMM reads."""
    config, deep = bench.config, bench.config.granule_elements
    words = -(-insn.n // config.tile.rows) * -(-insn.k // deep)
    for granule in range(insn.address * config.tile.rows, (insn.address + words)
                         * config.tile.rows):
        for part in range(config.granule_bits // PART_BITS):
            yield granule, part * PART_BITS, config.granule_bits + 8 * part


def wrong(bench, place, count):
    """Invert some different bits of a part; returns the granule."""
    granule, data, check = place
    for bit in bench.rng.sample(range(72), count):
        bench.dram.inject(granule, data + bit if bit < PART_BITS else check + bit - PART_BITS)
    return granule


def heal(bench, granules):
    """Write granules anew with what they should hold."""
    size = bench.config.granule_bytes
    for granule in granules:
        cells = bench.mirror.dram(0)[granule * size:(granule + 1) * size]
        bench.request(Region.DRAM, granule, int.from_bytes(cells.tobytes(), "little"))


@channel_test
async def one_wrong_bit(bench):
    """Of some parts, then of all: the results are the mirror's, and each is counted."""
    fill_dram(bench)
    tile, deep = bench.config.tile, bench.config.granule_elements
    insn = gemm(bench, Space(bench), tile.tokens, 3 * tile.rows, 4 * deep, Format.FP32)
    places = list(parts_of(bench, insn))
    for some in (bench.rng.sample(places, 9), places):
        await bench.flush()
        bench.request(Region.REGISTERS, 0, 0)
        await bench.flush()
        granules = {wrong(bench, place, 1) for place in some}
        assert await bench.execute(insn) == [Status.OK]
        value = await bench.counters()
        assert value[Counter.WORDS_CORRECTED] == len(some)
        assert not value[Counter.WORDS_UNCORRECTED] and not value[Counter.HOST_CORRECTED]
        heal(bench, granules)
        await bench.flush()
        assert not bench.dram.side_band


@channel_test
async def two_wrong_bits(bench):
    """The instruction that reads them says so, the ones around it do not; the host is told."""
    fill_dram(bench)
    space, tile = Space(bench), bench.config.tile
    deep = bench.config.granule_elements
    program = [gemm(bench, space, m, 2 * tile.rows, 2 * deep)
               for m in (tile.tokens, tile.max_tokens + 1, 1, tile.tokens)]
    for number, insn in enumerate(program):
        granule = wrong(bench, bench.rng.choice(list(parts_of(bench, insn))), 2)
        bench.submit(*program)
        due = bench._expected[-len(program):]
        due[number] = Completion(due[number].tag, Status.DATA_ERROR)
        bench._expected[-len(program):] = due
        await bench.settle()
        assert bench.completions == bench._expected
        read = bench.request(Region.DRAM, granule)
        masked = bench.request(Region.DRAM, granule, 0, 1)
        await bench.flush()
        assert read.error and masked.error and granule in bench.dram.side_band
        heal(bench, [granule])
        await bench.execute(*program)
