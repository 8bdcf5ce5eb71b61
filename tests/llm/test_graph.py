"""The graph of a step: work and Op/B by closed formulas."""

from logicpim.llm.config import ModelConfig
from logicpim.llm.graph import Place, step

# Mixtral-8x7B.
CONFIG = ModelConfig(vocab_size=32000, hidden_size=4096, intermediate_size=14336, layers=32,
                     heads=32, kv_heads=8, head_dim=128, experts=8, top_k=2)


def find(operations, name):
    return [o for o in operations if o.name == name]


def test_decode():
    operations = step(CONFIG, 1, 1023, [1] * 64)
    experts = [o for o in operations if o.place == Place.LOGIC_PIM]
    assert sum(o.calls for o in experts) == 32 * 2 * 3
    assert sum(o.flops for o in experts) == 2 * 3 * 4096 * 14336 * 2 * 32
    assert all(0.99 < o.op_b < 1 for o in experts)
    # Grouped attention reads each key for four queries: 2 * 4 operations on 2 bytes.
    scores, = find(operations, "attention scores")
    assert (scores.m, scores.n, scores.k, scores.calls) == (4, 1024, 128, 256)
    assert 3.8 < scores.op_b < 4


def test_op_b_grows_with_the_tokens_of_an_expert():
    operations = step(CONFIG, 64, 0, [8, 8, 32])
    up = find(operations, "expert w1, w3")
    assert [(o.m, o.calls) for o in up] == [(8, 4), (32, 2)]
    assert 7.9 < up[0].op_b < 8 and 31 < up[1].op_b < 32


def test_weights_of_a_model():
    """All weights but the embedding are used once for one token."""
    c, h = CONFIG, CONFIG.hidden_size
    dense = [o for o in step(c, 1, 0, [1] * 64) if o.k and o.name not in
             ("attention scores", "attention values")]
    weights = sum(o.n * o.k * o.calls for o in dense)
    attention = h * (2 * c.heads + 2 * c.kv_heads) * c.head_dim
    assert weights == c.layers * (attention + h * c.experts + 6 * h * c.intermediate_size) \
        + h * c.vocab_size
