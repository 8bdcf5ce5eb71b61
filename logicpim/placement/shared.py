# SPDX-License-Identifier: BSD-2-Clause
"""Policies for processors that share the memory: Duplex (MICRO 2024) and what it is compared with.

No weights move, so a plan is a set of experts for each processor.
"""

from collections.abc import Sequence

from .policy import Plan, Policy, Query, Unit


def split(query: Query, pim: set[int] | frozenset[int]) -> Plan:
    """The plan that runs the experts of ``pim`` there and the others on the xPU."""
    plan = Plan()
    for expert in query.active:
        unit = Unit.PIM if expert in pim else Unit.XPU
        cost = query.costs.pim if expert in pim else query.costs.xpu
        plan.add(unit, cost(query.tokens[expert]), expert)
    return plan


def xpu_only(query: Query) -> Plan:
    """All on the xPU."""
    return split(query, frozenset())


def pim_only(query: Query) -> Plan:
    """All on Logic-PIM."""
    return split(query, frozenset(query.active))


def op_b_threshold(limit: float = 8.0) -> Policy:
    """Experts with at most ``limit`` tokens, which is about their Op/B in FP16, on Logic-PIM."""
    def policy(query: Query) -> Plan:
        return split(query, {e for e in query.active if query.tokens[e] <= limit})
    return policy


def best_of(query: Query) -> Plan:
    """The whole layer on the processor that is sooner done."""
    return min(pim_only(query), xpu_only(query), key=lambda plan: plan.seconds)


def _best_prefix(query: Query, groups: Sequence[Sequence[int]]) -> Plan:
    """Groups go to Logic-PIM one by one, the fewest tokens first; the best moment is kept."""
    order = sorted(groups, key=lambda group: sum(query.tokens[e] for e in group))
    pim: set[int] = set()
    best = split(query, pim)
    for group in order:
        pim |= set(group)
        plan = split(query, pim)
        if plan.seconds < best.seconds:
            best = plan
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
    return _best_prefix(query, [[e] for e in range(len(query.tokens))])


def co_processing_by_space(query: Query) -> Plan:
    """The same where all experts of a memory space must run on one processor."""
    return _best_prefix(query, _by_space(query))


def co_processing_of_simulator(query: Query) -> Plan:
    """Duplex's co-processing as its authors' simulator does it.

    All begin on Logic-PIM; the spaces with the most tokens go to the xPU until that helps no more.
    """
    order = sorted(_by_space(query), key=lambda group: -sum(query.tokens[e] for e in group))
    pim = set(range(len(query.tokens)))
    best = split(query, pim)
    for group in order:
        pim -= set(group)
        plan = split(query, pim)
        if plan.seconds >= best.seconds:
            break
        best = plan
    return best
