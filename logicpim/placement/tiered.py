# SPDX-License-Identifier: BSD-2-Clause
"""Policies for an xPU whose memory is too small: the experts lie beyond a link.

Beyond it there may be a processor beside that memory, here Logic-PIM. Timing only: a policy that
predicts experts changes no value that a driver computes.
"""

import math
from collections.abc import Callable

from .policy import Plan, Policy, Query, Unit


def _fetch(plan: Plan, query: Query, expert: int, after: tuple[int, ...] = (),
           next_layer: bool = False) -> int:
    """Weights of an expert into the xPU's memory; the number of the step."""
    costs = query.costs
    return plan.add(Unit.TO_XPU, costs.link.seconds(costs.expert_bytes), expert, after=after,
                    bytes=costs.expert_bytes, what="weights", next_layer=next_layer)


def _on_xpu(plan: Plan, query: Query, expert: int, after: tuple[int, ...] = ()) -> int:
    return plan.add(Unit.XPU, query.costs.xpu(query.tokens[expert]), expert, after=after)


def on_demand(query: Query) -> Plan:
    """What is missing is fetched when the router has spoken; then all run."""
    plan = Plan()
    fetches = tuple(_fetch(plan, query, e) for e in query.active if e not in query.resident)
    for expert in query.active:
        _on_xpu(plan, query, expert, fetches)
    return plan


def _ahead(query: Query, wanted) -> Plan:
    """``on_demand``, and while the layer runs the experts wanted in the next one are fetched."""
    plan = on_demand(query)
    before = tuple(i for i, s in enumerate(plan.steps) if s.what == "weights")
    for expert in wanted:
        if expert not in query.resident_next:
            _fetch(plan, query, expert, after=before, next_layer=True)
    return plan


def pre_gated(query: Query) -> Plan:
    """Pre-gated MoE: the gate of a layer says which experts of the next one are wanted."""
    return _ahead(query, [e for e, tokens in enumerate(query.following or ()) if tokens])


def prefetch_all(query: Query) -> Plan:
    """All experts of the next layer are wanted."""
    return _ahead(query, range(len(query.following or ())))


def hot_and_cold(query: Query, hot: set[int]) -> Plan:
    """The ``hot`` experts come to the xPU; to the others beyond the link their tokens go.

    Experts that are resident run on the xPU.
    """
    plan, costs = Plan(), query.costs
    cold = [e for e in query.active if e not in hot and e not in query.resident]
    size = {e: costs.token_bytes * query.tokens[e] for e in cold}
    done = {}
    for expert in cold:
        sent = plan.add(Unit.TO_PIM, costs.link.seconds(size[expert]), expert,
                        bytes=size[expert], what="activations")
        done[expert] = plan.add(Unit.PIM, costs.pim(query.tokens[expert]), expert, after=(sent,))
    for expert in query.active:
        if expert in query.resident:
            _on_xpu(plan, query, expert)
    for expert in sorted(hot - query.resident, key=lambda e: -query.tokens[e]):
        _on_xpu(plan, query, expert, (_fetch(plan, query, expert),))
    for expert in cold:
        plan.add(Unit.TO_XPU, costs.link.seconds(size[expert]), expert, after=(done[expert],),
                 bytes=size[expert], what="activations")
    return plan


def _hottest(query: Query, count: int) -> set[int]:
    """So many of the experts that are not resident, those with most tokens."""
    away = [e for e in query.active if e not in query.resident]
    return set(sorted(away, key=lambda e: -query.tokens[e])[:count])


def hot_count(active: int, link: float, memory: float, alpha: float = 1.0) -> float:
    """MoNDE's number of hot experts, not rounded: both sides move their weights in equal time."""
    return alpha * link / (memory + link) * active


def monde(alpha: float = 1.0, rounding: Callable[[float], int] = math.ceil) -> Policy:
    """MoNDE: a fixed share of the active experts is hot, by the ratio of the bandwidths.

    How the share is to be rounded is not known to us: any of ceil, floor and round.
    """
    def policy(query: Query) -> Plan:
        costs, active = query.costs, len(query.active)
        share = hot_count(active, costs.link.bandwidth, costs.memory_bandwidth, alpha)
        return hot_and_cold(query, _hottest(query, int(rounding(share))))
    return policy


def sweep(query: Query) -> Plan:
    """DynaNDE: every number of hot experts is tried, the soonest done is taken."""
    return min((hot_and_cold(query, _hottest(query, n)) for n in range(len(query.active) + 1)),
               key=lambda plan: plan.seconds)


def fiddler(query: Query) -> Plan:
    """Fiddler: each expert for itself where it is sooner done, with what must be moved for it."""
    costs = query.costs

    def hot(tokens):
        there = costs.pim(tokens) + 2 * costs.link.seconds(costs.token_bytes * tokens)
        return costs.link.seconds(costs.expert_bytes) + costs.xpu(tokens) < there
    return hot_and_cold(query, {e for e in query.active if hot(query.tokens[e])})
