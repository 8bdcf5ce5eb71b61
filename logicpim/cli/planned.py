# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim inspect --policy``: what a policy would decide for a layer of a model."""

import numpy as np

from ..driver.decisions import Decision, decide_attention, decide_experts
from ..llm.kinds import ModelConfig
from ..placement import ATTENTION, SHARED
from ..placement.policy import Query
from .explain import add_policy_options, costs_key, decisions_key, estimates, read_costs
from .io import (
    add_bundles_option,
    add_config_options,
    bundles_of,
    config_of,
    whole,
)

TEXT = """\
With --policy the first layer of each kind is also given to a placement policy, on the Logic-PIM of
--config (default: a stack) and the xPU beside it: what goes where, what both would take, and the
sentence of the rule. Each token chooses its experts at random, all equally likely (--seed).
"""


def add_planned_options(parser) -> None:
    """``--policy`` and what it needs."""
    add_policy_options(parser, None)
    add_config_options(parser)
    add_bundles_option(parser)
    parser.set_defaults(config="paper")
    parser.add_argument("--seed", type=whole(0), default=1,
                        help="of the experts that tokens choose (default: %(default)s)")


def planned(args, model: ModelConfig, context: int) -> dict:
    """The keys ``policy``, ``costs`` and ``decisions``."""
    table, config = read_costs(args), config_of(args)
    bundles = bundles_of(args, config)
    made = estimates(config, model, table, bundles=bundles)
    new = {"prefill": args.batch, "decode": 0, "mixed": 1}[args.stage]
    old = 0 if args.stage == "prefill" else args.batch
    sequences = [(1, context + 1)] * old + [(args.lin, args.lin)] * new
    decisions: list[Decision] = []
    seen: list = []
    for layer in range(model.encoder, model.layers):
        block = model.blocks[layer]
        a = block.attention
        if a not in seen:
            seen.append(a)
            clipped = [(t, min(c, a.window + t - 1) if a.window else c) for t, c in sequences]
            query = made.attention(a, clipped)
            decisions.append(decide_attention(ATTENTION[args.policy], query, phase=args.stage,
                                              step=0, layer=layer)[1])
        if layer in model.expert_layers and block.ffn not in seen:
            seen.append(block.ffn)
            tokens = _routed(args.seed, old + args.lin * new, block.ffn.experts, block.ffn.top_k)
            sets = max(1, config.dram.bundles // bundles)
            query = Query(tokens=tokens, costs=made.experts(), stage=args.stage,
                          spaces=tuple(e % sets for e in range(len(tokens))))
            decisions.append(decide_experts(SHARED[args.policy], query, step=0, layer=layer)[1])
    return {"policy": args.policy, "costs": costs_key(args, table),
            "decisions": decisions_key(decisions)}


def _routed(seed: int, tokens: int, experts: int, top_k: int) -> tuple[int, ...]:
    """Tokens of each expert."""
    random = np.random.default_rng(seed)
    chosen = random.random((tokens, experts)).argpartition(top_k - 1, axis=1)[:, :top_k]
    return tuple(np.bincount(chosen.ravel(), minlength=experts).tolist())
