# SPDX-License-Identifier: BSD-2-Clause
"""Names and shapes of the tensors that a model's checkpoint must hold."""

import math
from dataclasses import dataclass

from .families import FAMILIES
from .kinds import Attention, Block, Mlp, ModelConfig, Moe

BYTE_BLOCK = 32
"""Elements that share one scale in MXFP4; two lie in a byte."""


def tensor_name(config: ModelConfig, role: str, layer: int | None = None, *,
                expert: int | None = None, part: str = ".weight") -> str:
    """Name of the tensor of a role: of the model, of a block, or of an expert in a block."""
    names = FAMILIES[config.family].names
    if layer is None:
        return names[role] + part
    encoder = layer < config.encoder
    name = names["encoder_block" if encoder else "block"]
    if expert is not None:
        name += names["expert"]
        role = f"expert_{role}"
    return (name + names[role]).format(layer=layer if encoder else layer - config.encoder,
                                       last=1 if encoder else 2, expert=expert) + part


def expert_name(config: ModelConfig, layer: int, expert: int, matrix: str,
                part: str = ".weight") -> str:
    """Name of an expert's matrix, w1 (gate), w3 (up) or w2 (down), where each is a tensor."""
    return tensor_name(config, matrix, layer, expert=expert, part=part)


def _attention(a: Attention, hidden: int, prefix: str = "") -> dict[tuple[str, str], tuple]:
    """(role, part) to shape."""
    shapes = {}

    def matrix(role, out, into, bias=False):
        shapes[prefix + role, ".weight"] = (out, into)
        if bias:
            shapes[prefix + role, ".bias"] = (out,)

    if (m := a.latent):
        query = a.heads * (m.plain_dim + m.rope_dim)
        if m.query_rank:
            matrix("q_a", m.query_rank, hidden)
            shapes["q_a_norm", ".weight"] = (m.query_rank,)
            matrix("q_b", query, m.query_rank)
        else:
            matrix("q", query, hidden)
        matrix("kv_a", m.rank + m.rope_dim, hidden)
        shapes["kv_a_norm", ".weight"] = (m.rank,)
        matrix("kv_b", a.heads * (m.plain_dim + m.value_dim), m.rank)
        matrix("o", hidden, a.heads * m.value_dim)
        return shapes
    matrix("q", a.heads * a.head_dim, hidden, a.bias)
    matrix("k", a.kv_heads * a.head_dim, hidden, a.bias)
    matrix("v", a.kv_heads * a.value_dim, hidden, a.bias)
    matrix("o", hidden, a.heads * a.value_dim, a.output_bias)
    if a.norm:
        shapes["q_norm", ".weight"] = shapes["k_norm", ".weight"] = (a.head_dim,)
    if a.sinks:
        shapes["sinks", ""] = (a.heads,)
    return shapes


def matrix_shape(mlp: Mlp, hidden: int, matrix: str) -> tuple[int, int]:
    """Rows and columns of one of the matrices of a feed-forward layer."""
    return (hidden, mlp.width) if matrix == "w2" else (mlp.width, hidden)


def _mlp(mlp: Mlp, hidden: int, prefix: str = "") -> dict[tuple[str, str], tuple]:
    shapes = {}
    for matrix in mlp.matrices:
        shape = matrix_shape(mlp, hidden, matrix)
        shapes[prefix + matrix, ".weight"] = shape
        if mlp.bias:
            shapes[prefix + matrix, ".bias"] = shape[:1]
    return shapes


def block_shapes(config: ModelConfig, layer: int) -> dict[tuple[str, str], tuple]:
    """(role, part of the name) to shape, for all tensors of a block but its experts."""
    block: Block = config.blocks[layer]
    hidden = config.hidden_size
    shapes = _attention(block.attention, hidden)
    norms = ["attention_norm", "ffn_norm"]
    if block.cross:
        shapes |= _attention(block.cross, hidden, "cross_")
        norms.append("cross_norm")
    for role in norms:
        shapes |= {(role, part): (hidden,) for part in norm_parts(config)}
    if (relative := block.attention.relative) and layer in (0, config.encoder):
        shapes["relative", ".weight"] = (relative.buckets, block.attention.heads)
    if isinstance(block.ffn, Mlp):
        return shapes | _mlp(block.ffn, hidden)
    shapes["router", ".weight"] = (block.ffn.experts, hidden)
    if block.ffn.router.bias:
        shapes["router", ".bias"] = (block.ffn.experts,)
    if block.ffn.router.correction:
        shapes["correction", ""] = (block.ffn.experts,)
    return shapes | (_mlp(block.ffn.shared, hidden, "shared_") if block.ffn.shared else {})


def norm_parts(config: ModelConfig) -> tuple[str, ...]:
    """Parts of the name of a norm of hidden states."""
    return (".weight", ".bias") if config.norm.bias else (".weight",)


def model_shapes(config: ModelConfig) -> dict[tuple[str, str], tuple]:
    """(role, part of the name) to shape, for all tensors that are in no block."""
    hidden = config.hidden_size
    shapes = {("embedding", ".weight"): (config.vocab_size, hidden)}
    if config.positions == "learned":
        shapes["positions", ".weight"] = (config.max_positions + 2, hidden)
    for role in ("norm", "encoder_norm") if config.encoder else ("norm",):
        shapes |= {(role, part): (hidden,) for part in norm_parts(config)}
    if not config.tied:
        shapes["head", ".weight"] = (config.vocab_size, hidden)
    if config.head_bias:
        shapes["head", ".bias"] = (config.vocab_size,)
    return shapes


def expert_shapes(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """Name to shape of the tensors that hold a block's experts."""
    moe, hidden = config.blocks[layer].ffn, config.hidden_size
    assert isinstance(moe, Moe)
    expert, shapes = moe.expert, {}
    if config.storage == "each":
        for e in range(moe.experts):
            for (matrix, part), shape in _mlp(expert, hidden).items():
                shapes[expert_name(config, layer, e, matrix, part)] = shape
        return shapes
    for role, out, into in (("packed_up", 2 * expert.width, hidden),
                            ("packed_down", hidden, expert.width)):
        if config.storage == "mxfp4":
            blocks = (moe.experts, out, into // BYTE_BLOCK)
            shapes[tensor_name(config, role, layer, part="_blocks")] = (*blocks, BYTE_BLOCK // 2)
            shapes[tensor_name(config, role, layer, part="_scales")] = blocks
        else:
            shapes[tensor_name(config, role, layer, part="")] = (moe.experts, into, out)
        shapes[tensor_name(config, role, layer, part="_bias")] = (moe.experts, out)
    return shapes


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint must hold, with its shape."""
    shapes = {tensor_name(config, role, part=part): shape
              for (role, part), shape in model_shapes(config).items()}
    for layer, block in enumerate(config.blocks):
        shapes |= {tensor_name(config, role, layer, part=part): shape
                   for (role, part), shape in block_shapes(config, layer).items()}
        if isinstance(block.ffn, Moe):
            shapes |= expert_shapes(config, layer)
    return shapes


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: of the whole model, and what of them one token uses.

    The embedding is a table that a token takes one row of: it does not count as used.
    """

    total: int
    active: int
    experts: int
    one_expert: int


def parameters(config: ModelConfig) -> Parameters:
    """Counts of a model's parameters."""
    def count(shapes):
        return sum(math.prod(shape) for shape in shapes.values())

    outer = count(model_shapes(config))
    dense = outer + sum(count(block_shapes(config, layer)) for layer in range(config.layers))
    one = count(_mlp(config.expert, config.hidden_size)) if config.expert else 0
    layers = len(config.expert_layers)
    embedding = config.vocab_size * config.hidden_size
    return Parameters(total=dense + layers * config.experts * one,
                      active=dense - (0 if config.tied else embedding)
                      + layers * config.top_k * one,
                      experts=layers * config.experts * one, one_expert=one)
