# SPDX-License-Identifier: BSD-2-Clause
"""GEMV and GEMM of any size: equal to the golden model bit for bit."""

from logicpim.spec.isa import Format, Status

from .bench import channel_test
from .stimulus import Space, gemm

OK = [Status.OK]
FORMATS = (Format.FP16, Format.FP32)


async def each(bench, sizes, kind="plain"):
    """One GEMM after another."""
    space = Space(bench)
    for m, n, k in sizes:
        for output in FORMATS:
            assert await bench.execute(gemm(bench, space, m, n, k, output, kind)) == OK


@channel_test
async def gemv_smallest(bench):
    await each(bench, [(1, 1, 1)])


@channel_test
async def gemv_around_the_tile(bench):
    """N and K one short of, equal to and one past the tile; K one to five beats and tails."""
    rows, depth = bench.config.tile.rows, bench.config.tile.depth
    await each(bench, [(1, n, depth) for n in (rows - 1, rows, rows + 1)])
    await each(bench, [(1, rows, k) for k in (depth - 1, depth + 1, 2 * depth, 2 * depth + 1,
                                              4 * depth, 5 * depth - 1)])


@channel_test
async def gemm_around_the_tile(bench):
    """M one short of, equal to and one past a group, and the groups that one pass serves."""
    tile = bench.config.tile
    most = tile.max_tokens
    await each(bench, [(m, tile.rows + 1, 2 * tile.depth + 1)
                       for m in sorted({max(1, tile.tokens - 1), tile.tokens, tile.tokens + 1,
                                        most - 1, most})])


@channel_test
async def gemm_of_many_tokens(bench):
    """More tokens than one pass serves: the weights are streamed again."""
    tile = bench.config.tile
    await each(bench, [(tile.max_tokens + 1, tile.rows, tile.depth),
                       (2 * tile.max_tokens + tile.tokens + 1, 2 * tile.rows + 1, 3)])


@channel_test
async def gemm_over_rows(bench):
    """Weights that run over several DRAM rows."""
    tile, columns = bench.config.tile, bench.config.dram.columns
    words = 3 * columns + 1
    k = 4 * bench.config.granule_elements
    await each(bench, [(tile.tokens, -(-words // 4) * tile.rows, k)])


@channel_test
async def gemm_back_to_back(bench):
    """A queue full of instructions, none waited for; completions in program order."""
    space, tile = Space(bench), bench.config.tile
    for _ in range(2):
        program = [gemm(bench, space, 1 + i % tile.tokens, tile.rows * (1 + i % 2) - i % 3,
                        tile.depth * 2 + i, FORMATS[i % 2])
                   for i in range(bench.config.queue_depth)]
        assert await bench.execute(*program) == OK * len(program)


@channel_test
async def gemm_of_random_sizes(bench):
    space, tile, rng = Space(bench), bench.config.tile, bench.rng
    for _ in range(30 * bench.effort):
        sizes = (rng.randint(1, 2 * tile.max_tokens), rng.randint(1, 3 * tile.rows),
                 rng.randint(1, 6 * tile.depth))
        kind = rng.choice(["plain", "any", "special"])
        assert await bench.execute(gemm(bench, space, *sizes, rng.choice(FORMATS), kind)) == OK


@channel_test
async def gemm_of_special_values(bench):
    """Infinities, NaNs, subnormals, zeroes of both signs, cancellation and overflow."""
    tile = bench.config.tile
    await each(bench, [(tile.tokens + 1, 2 * tile.rows, 2 * tile.depth + 3)] * 2, "special")
    await each(bench, [(tile.tokens, 2 * tile.rows, 3)] * 2, "any")
