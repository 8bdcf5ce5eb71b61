# SPDX-License-Identifier: BSD-2-Clause
"""Policies for processors that share the memory: Duplex (MICRO 2024) and what it is compared with.

No weights move, so a plan is a set of experts for each processor.
"""

from collections.abc import Sequence

from .policy import Plan, Policy, Query, Unit, time_of


def split(query: Query, pim: set[int] | frozenset[int], why: str = "") -> Plan:
    """The plan that runs the experts of ``pim`` there and the others on the xPU."""
    plan = Plan(why=why)
    for expert in query.active:
        unit = Unit.PIM if expert in pim else Unit.XPU
        cost = query.costs.pim if expert in pim else query.costs.xpu
        plan.add(unit, cost(query.tokens[expert]), expert)
    return plan


def xpu_only(query: Query) -> Plan:
    """All on the xPU."""
    return split(query, frozenset(), "all experts run on the xPU")


def pim_only(query: Query) -> Plan:
    """All on Logic-PIM."""
    return split(query, frozenset(query.active), "all experts run on Logic-PIM")


def op_b_threshold(limit: float = 8.0) -> Policy:
    """Experts with at most ``limit`` tokens, which is about their Op/B in FP16, on Logic-PIM."""
    def policy(query: Query) -> Plan:
        return split(query, {e for e in query.active if query.tokens[e] <= limit},
                     f"experts of at most {limit:g} tokens, so of an Op/B of at most about "
                     f"{limit:g}, run on Logic-PIM")
    return policy


def duplex(query: Query) -> Plan:
    """Duplex without co-processing: the stage decides, one processor at a time."""
    if query.stage == "decode":
        return split(query, frozenset(query.active),
                     "all sequences decode, so the layer runs on Logic-PIM")
    return split(query, frozenset(), "a sequence is in prefill, so the layer runs on the xPU")


def best_of(query: Query) -> Plan:
    """The whole layer on the processor that is sooner done."""
    pim, xpu = pim_only(query), xpu_only(query)
    best = min(pim, xpu, key=lambda plan: plan.seconds)
    best.why = (f"the layer takes {time_of(pim.seconds)} on Logic-PIM and {time_of(xpu.seconds)} "
                f"on the xPU: the whole of it runs where it is sooner done")
    return best


def _active(query: Query, groups: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Groups of which an expert has tokens."""
    return [group for group in groups if any(query.tokens[e] for e in group)]


def _best_prefix(query: Query, groups: Sequence[Sequence[int]], what: str) -> Plan:
    """Groups go to Logic-PIM one by one, the fewest tokens first; the best moment is kept."""
    order = sorted(_active(query, groups), key=lambda group: sum(query.tokens[e] for e in group))
    pim: set[int] = set()
    best, moved = split(query, pim), 0
    on_xpu = best.seconds
    for number, group in enumerate(order, 1):
        pim |= set(group)
        plan = split(query, pim)
        if plan.seconds < best.seconds:
            best, moved = plan, number
    best.why = (f"of the ways to move {what} with the fewest tokens to Logic-PIM, one more each "
                f"time, moving {moved} of {len(order)} is soonest done ({time_of(best.seconds)}; "
                f"none {time_of(on_xpu)}, all {time_of(pim_only(query).seconds)})")
    return best


def _by_space(query: Query) -> list[list[int]]:
    """Experts by memory space; without a map of spaces, four runs of neighbours."""
    if query.spaces:
        return [[e for e, s in enumerate(query.spaces) if s == space]
                for space in sorted(set(query.spaces))]
    count = len(query.tokens)
    size = -(-count // 4) if count > 4 else 1
    return [list(range(at, min(at + size, count))) for at in range(0, count, size)]


def co_processing(query: Query) -> Plan:
    """Duplex's co-processing as the paper tells it, each expert for itself."""
    return _best_prefix(query, [[e] for e in range(len(query.tokens))], "experts")


def co_processing_by_space(query: Query) -> Plan:
    """The same where all experts of a memory space must run on one processor."""
    return _best_prefix(query, _by_space(query), "memory spaces")


def co_processing_of_simulator(query: Query) -> Plan:
    """Duplex's co-processing as its authors' simulator does it.

    All begin on Logic-PIM; the spaces with the most tokens go to the xPU until that helps no more.
    """
    order = sorted(_active(query, _by_space(query)),
                   key=lambda group: -sum(query.tokens[e] for e in group))
    pim = set(range(len(query.tokens)))
    best, moved, end = split(query, pim), 0, "no space is left"
    on_pim = best.seconds
    for group in order:
        pim -= set(group)
        plan = split(query, pim)
        if plan.seconds >= best.seconds:
            end = f"moving the next would take {time_of(plan.seconds)}"
            break
        best, moved = plan, moved + 1
    best.why = (f"begun on Logic-PIM ({time_of(on_pim)}), the {moved} of {len(order)} memory "
                f"spaces with the most tokens move to the xPU ({time_of(best.seconds)}): {end}")
    return best
