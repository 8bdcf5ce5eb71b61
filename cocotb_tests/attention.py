# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention over a KV cache that grows through the host port, a token at a time."""

import numpy as np

from logicpim.driver.attention import Request, programs
from logicpim.driver.kv_cache import Head, HeadForm, KvCache
from logicpim.driver.memory import Memory
from logicpim.spec.device import Counter, Region
from logicpim.spec.isa import Buffer, Status

from .bench import channel_test


class Sequences:
    """Heads of sequences in the bench's DRAM, their keys and values in FP16 here."""

    def __init__(self, bench, head_dim: int, value_dim: int):
        self.bench, self.form = bench, HeadForm(bench.config, head_dim, value_dim)
        self.cache = KvCache(bench.config, Memory(bench.config), 1)
        self.heads: list[tuple[Head, list, list]] = []
        # What was there before is no number, and must not be seen.
        space = bench.config.capacity_bytes // bench.config.dram.bundles
        for memory in (bench.dram.memory, bench.mirror.dram(0)):
            for start in range(0, bench.config.capacity_bytes, space):
                memory[start:start + min(space, 1 << 18)] = 0xFF

    def open(self, heads: int, tokens: int) -> None:
        """A sequence of so many heads, its first tokens appended one by one."""
        made = self.cache.heads(self.form, heads, len(self.heads), 0, 1)
        self.heads += [(head, [], []) for head in made]
        for _ in range(tokens):
            self.append(len(self.heads) - heads, len(self.heads))

    def append(self, first: int, last: int) -> None:
        """One token more in heads ``first .. last``: whole granules, no byte read."""
        bench, size = self.bench, self.bench.config.granule_bytes
        for head, keys, values in self.heads[first:last]:
            self.cache.grow([head], len(keys) + 1)
            for kept, wide in ((keys, self.form.head_dim), (values, self.form.value_dim)):
                kept.append(bench.data_rng.standard_normal(wide).astype(np.float16))
            at, data = head.granules(len(keys) - 1, keys[-1].view(np.uint16),
                                     values[-1].view(np.uint16))
            memory = bench.mirror.dram(0).reshape(-1, size)
            for granule, each in zip(at, data, strict=True):
                bench.request(Region.DRAM, int(granule), int.from_bytes(each.tobytes(), "little"))
                memory[granule] = each

    async def attend(self, group: int) -> None:
        """A decode step of all heads: the bits of the mirror, and near float64."""
        bench, config = self.bench, self.bench.config
        queries = bench.data_rng.standard_normal((len(self.heads), group, self.form.head_dim))
        queries = queries.astype(np.float16)
        scale = float(np.float32(self.form.head_dim ** -0.5))
        requests = [Request(head, len(keys), q.view(np.uint16), scale)
                    for (head, keys, _), q in zip(self.heads, queries, strict=True)]
        found = np.zeros((len(requests), group, self.form.value_dim), np.float32)
        for program in programs(config, requests):
            bench.write_lines(Buffer.INPUT, 0, program.operands)
            done = await bench.execute(*program.instructions)
            assert done == [Status.OK] * len(done)
            held = bench.mirror.read_buffer(0, Buffer.TEMP, 0, program.lines * config.line_bytes)
            reads = [bench.request(Region.TEMP, i)
                     for i in range(len(held) // config.granule_bytes)]
            await bench.flush()
            got = [read.response.to_bytes(config.granule_bytes, "little") for read in reads]
            # Tokens of no query in these lines keep the noise of before.
            assert b"".join(got) == held.tobytes()
            for piece, y, _ in program.results(held):
                found[piece.number, piece.rows] = y
        for (_, *cache), q, y in zip(self.heads, queries, found, strict=True):
            k, v = (np.array(rows, float) for rows in cache)
            shares = np.exp(q.astype(float) @ k.T * scale)
            exact = shares / shares.sum(axis=1, keepdims=True) @ v
            assert np.abs(y - exact).max() < 2e-3 * max(1, np.abs(v).max())


@channel_test
async def one_query_a_head(bench):
    """MHA, a cache that grows past row blocks and extents, a step after each few tokens."""
    rows = bench.config.tile.rows
    batch = Sequences(bench, 2 * bench.config.granule_elements, bench.config.granule_elements)
    batch.open(2, 1)
    for tokens in (1, rows - 2, rows + 1, 2):
        await batch.attend(1)
        for _ in range(tokens):
            batch.append(0, len(batch.heads))
    await batch.attend(1)


@channel_test
async def groups_of_queries(bench):
    """GQA of groups of 1 to 16: less than the tile's tokens, as many, more; MQA is one head."""
    tile = bench.config.tile
    batch = Sequences(bench, bench.config.granule_elements + 3, tile.rows)
    batch.open(1, 2 * tile.rows + 1)
    for group in (1, 2, 3, 4, 5, 8, 16):
        await batch.attend(group)


@channel_test
async def contexts_in_a_batch(bench):
    """Sequences of any contexts in one program, values of more columns than a panel has; then one
    has gone and another comes, in the place of the first."""
    config = bench.config
    batch = Sequences(bench, 5, config.transposed_columns + 3)
    for tokens in (1, 2 * config.granule_elements + 3, config.tile.rows):
        batch.open(1, tokens)
    await batch.attend(3)
    batch.cache.release([batch.heads.pop(1)[0]])
    batch.open(1, config.granule_elements + 1)
    batch.append(0, len(batch.heads))
    await batch.attend(3)


@channel_test
async def heads_behind_each_other(bench):
    """Scores stream while the softmax of the head before runs, with heads beside it or alone."""
    tile = bench.config.tile
    batch = Sequences(bench, 4 * bench.config.granule_elements, 2 * tile.rows)
    batch.open(3, 3 * tile.rows - 1)
    clocks = []
    for heads in (batch.heads[:1], batch.heads):
        batch.heads = heads
        await bench.flush()
        bench.request(Region.REGISTERS, 0, 0)
        await batch.attend(tile.tokens)
        clocks.append((await bench.counters())[Counter.CYCLES])
    assert clocks[1] < 2.6 * clocks[0], clocks


@channel_test
async def any_batch(bench):
    """Sequences that come, grow and go at random, sizes at random, ports that stall."""
    rng, tile = bench.rng, bench.config.tile
    bench.stalls.instructions = bench.stalls.requests = bench.stalls.responses = 0.2
    for _ in range(bench.effort):
        batch = Sequences(bench, rng.randint(1, 20), rng.randint(1, 3 * tile.rows))
        await bench.flush()
        for _ in range(3):
            batch.open(rng.randint(1, 2), rng.randint(1, 3 * tile.rows))
            if len(batch.heads) > 3:
                batch.cache.release([batch.heads.pop(rng.randrange(3))[0]])
            await batch.attend(rng.randint(1, 3 * tile.tokens))
