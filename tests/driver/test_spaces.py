"""Memory spaces: an account that equals what is really placed, and blocks that never overlap."""

import numpy as np
import pytest

from logicpim.driver.experts import place_experts
from logicpim.driver.spaces import Blocks, KvSpaces, account
from logicpim.llm.presets import preset
from logicpim.llm.tensors import parameters
from logicpim.sim.model import layout
from logicpim.spec.errors import CapacityError
from logicpim.spec.presets import PRESETS

PAPER, SMALL = PRESETS["paper"], PRESETS["small"].replace(channels=4)


@pytest.fixture
def model(make_model):
    from logicpim.llm.config import load_config
    return load_config(make_model(num_hidden_layers=3, head_dim=18))


def words_of(config, placed):
    used = np.zeros((config.channels, config.dram.bundles), np.int64)
    for matrices in placed.values():
        for matrix in matrices.values():
            for piece in matrix.pieces:
                used[piece.channel, matrix.space] += layout.weight_words(
                    config, piece.rows, matrix.k, matrix.format)
    return used


@pytest.mark.parametrize("config", [SMALL, SMALL.replace(channels=2), PRESETS["channel"]])
def test_experts_as_placed(model, config):
    found = account(config, model)
    placed = words_of(config, place_experts(config, model))
    assert np.array_equal(found["experts"], placed * config.word_bytes)


def test_all_bytes_are_told(model):
    """With sequences: what a space holds and what is free are the space, but for part rows."""
    found = account(SMALL, model, stacks=2, sequences=3, context=7, prefills=2, lin=5)
    space = SMALL.dram.words_per_bundle * SMALL.word_bytes
    rest = space - sum(found.values())
    assert (rest >= 0).all() and (rest < SMALL.dram.columns * SMALL.word_bytes).all()
    counts = parameters(model)
    dense = 2 * (counts.total - counts.experts)
    assert dense <= found["xPU weights"].sum() < dense + SMALL.word_bytes
    # The last space is for prefill alone.
    assert not found["KV cache"][:, -1].any() and not found["prefill"][:, :-1].any()


@pytest.mark.parametrize("name, sequences, context", [
    ("llama3-8b", 4, 4096), ("mixtral-8x7b", 8, 1024), ("deepseek-v2-lite", 16, 2048)])
def test_cache_of_real_models(name, sequences, context):
    """Contexts of whole blocks: exactly K and V, where a head's rows fill the words."""
    model = preset(name)
    found = account(PAPER, model, stacks=8, sequences=sequences, context=context)
    cached = sum(block.attention.cached for block in model.blocks)
    exact = 2 * sequences * context * cached
    # Keys: 4 row blocks of 36 words in 5 rows of 32; the values once more, 4 of 32 in 4.
    fill = {"deepseek-v2-lite": (160 + 128) / 144}.get(name, 1)
    assert found["KV cache"].sum() == pytest.approx(exact * fill)
    # Evenly over the channels, and over three of the spaces.
    channels, spaces = (found["KV cache"].sum(axis=axis) for axis in (1, 0))
    assert channels.max() <= 2 * channels.min()
    assert spaces[:3].max() <= 1.2 * spaces[:3].min() and spaces[3] == 0


def test_does_not_fit():
    """One stack of 16 GiB does not hold Mixtral 8x7B, six do."""
    with pytest.raises(CapacityError, match="space 0 of channel 0 .*experts.*stacks") as caught:
        account(PAPER, preset("mixtral-8x7b"), stacks=1)
    assert "\n" not in str(caught.value)
    assert account(PAPER, preset("mixtral-8x7b"), stacks=6)["free"].min() >= 0
    with pytest.raises(CapacityError, match="KV cache .*shorter context"):
        account(PAPER, preset("llama3-8b"), stacks=2, sequences=64, context=8192)


def test_encoder():
    """What the encoder read is kept beside what the decoder has made."""
    model = preset("switch-base-128")
    found = account(PAPER, model, stacks=2, sequences=5, context=64, lin=192)
    # 64 elements are 4 granules: 64 tokens a block of 2 rows.
    assert Blocks(PAPER, model).tokens == 64
    assert found["KV cache"].sum() == 5 * (64 + 192) * 12 * 2 * 768 * 2
    assert found["experts"].sum() == 2 * 12 * 128 * 2 * 768 * 3072


def rows_of(spaces, sequence):
    """Every DRAM row that a sequence has: (channel, space, row)."""
    for at, blocks in sequence.blocks.items():
        channel, space = spaces.pool(sequence.number, *at, sequence.prefill)
        for block in blocks:
            yield from ((channel, space, block + r) for r in range(spaces.blocks.rows))


def test_blocks(model, seed):
    """Sequences come, grow, move over and go at random: no row twice, none outside, none lost."""
    random = np.random.default_rng(seed)
    used = random.integers(0, 40, (SMALL.channels, SMALL.dram.bundles))
    config = SMALL.replace(dram=SMALL.dram.__class__(**{**SMALL.dram.__dict__, "rows": 64}))
    spaces = KvSpaces(config, model, used)
    whole = spaces.room()
    alive, refused = [], 0
    for _ in range(400):
        before = spaces.room()
        try:
            kind = random.integers(0, 4)
            if kind == 0:
                alive.append(spaces.admit(int(random.integers(1, 30))))
            elif alive:
                sequence = alive[random.integers(0, len(alive))]
                if kind == 1 and sequence.prefill:
                    held = set(rows_of(spaces, sequence))
                    moves = spaces.migrate(sequence)
                    assert {(*a, row) for a, row, _, _ in moves} <= held
                    assert {(*b, row) for _, _, b, row in moves} <= set(rows_of(spaces, sequence))
                elif kind == 2:
                    spaces.append(sequence, int(random.integers(1, 9)))
                elif kind == 3:
                    alive.remove(sequence)
                    spaces.release(sequence)
        except CapacityError:
            refused += 1
            assert np.array_equal(before, spaces.room())
        taken = [row for sequence in alive for row in rows_of(spaces, sequence)]
        assert len(taken) == len(set(taken))
        assert all(-(-used[c, s] // config.dram.columns) <= row < 64 for c, s, row in taken)
        assert whole.sum() - spaces.room().sum() == len(taken) // spaces.blocks.rows
        for sequence in alive:
            assert {len(b) for b in sequence.blocks.values()} == {
                spaces.blocks.count(sequence.tokens)}
    assert refused
    for sequence in alive:
        spaces.release(sequence)
    assert np.array_equal(spaces.room(), whole)


def test_a_block_holds_its_tokens(model):
    """K and V of a block's tokens, as weight matrices lie, fit its rows, V behind K."""
    for config, m in ((SMALL, model), (PAPER, preset("mixtral-8x7b")),
                      (PAPER, preset("deepseek-v3")), (PAPER, preset("gpt-oss-20b"))):
        blocks, a = Blocks(config, m), m.blocks[-1].attention
        columns = config.dram.columns
        assert layout.weight_words(config, blocks.tokens, a.head_dim) <= blocks.value_row * columns
        behind = layout.weight_words(config, blocks.tokens, a.value_dim)
        assert behind <= (blocks.rows - blocks.value_row) * columns
        assert blocks.count(blocks.tokens) == 1 and blocks.count(blocks.tokens + 1) == 2
