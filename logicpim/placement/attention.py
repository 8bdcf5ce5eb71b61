# SPDX-License-Identifier: BSD-2-Clause
"""Where the attention of a layer runs, sequence by sequence, by the names of the experts' policies.

Duplex (MICRO 2024): the attention of sequences that decode runs on Logic-PIM, that of prefill on
the xPU; co-processing is both at once, which the memory spaces allow: prefill has its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .policy import Plan, Unit, time_of

Seconds = Callable[[int, int], float]
"""Time of the attention of a sequence by its new tokens and its context, all heads."""


@dataclass(frozen=True, kw_only=True)
class AttentionQuery:
    """A layer's attention that is to be placed.

    Parameters
    ----------
    sequences : tuple of (int, int)
        New tokens and context, these included, of each sequence: one token if it decodes.
    xpu, pim : callable
    group : int
        Queries to a head of keys and values.
    """

    sequences: tuple[tuple[int, int], ...]
    xpu: Seconds
    pim: Seconds
    group: int = 1

    @property
    def decoding(self) -> set[int]:
        """Sequences that decode."""
        return {i for i, (tokens, _) in enumerate(self.sequences) if tokens == 1}


AttentionPolicy = Callable[[AttentionQuery], Plan]


def split(query: AttentionQuery, pim: set[int], why: str, together: bool = True) -> Plan:
    """Sequences of ``pim`` there, the others on the xPU; ``together`` or first those."""
    plan, before = Plan(why=why), ()
    for unit, cost, members in ((Unit.PIM, query.pim, pim), (Unit.XPU, query.xpu,
                                set(range(len(query.sequences))) - pim)):
        done = tuple(plan.add(unit, cost(*query.sequences[i]), i, after=before)
                     for i in sorted(members))
        before = () if together else done
    return plan


def xpu_only(query: AttentionQuery) -> Plan:
    """All on the xPU."""
    return split(query, set(), "all attention runs on the xPU")


def pim_only(query: AttentionQuery) -> Plan:
    """All on Logic-PIM."""
    return split(query, set(range(len(query.sequences))), "all attention runs on Logic-PIM")


def op_b_threshold(limit: float = 8.0) -> AttentionPolicy:
    """On Logic-PIM where at most ``limit`` queries share keys, which is about the Op/B in FP16."""
    def policy(query: AttentionQuery) -> Plan:
        pim = {i for i, (tokens, _) in enumerate(query.sequences)
               if tokens * query.group <= limit}
        return split(query, pim, f"where at most {limit:g} queries share their keys attention "
                                 f"runs on Logic-PIM")
    return policy


def duplex(query: AttentionQuery) -> Plan:
    """Sequences that decode on Logic-PIM, prefill on the xPU, one processor at a time."""
    return split(query, query.decoding, "sequences that decode attend on Logic-PIM, then those in "
                                        "prefill on the xPU", together=False)


def best_of(query: AttentionQuery) -> Plan:
    """All of it on the processor that is sooner done."""
    pim, xpu = pim_only(query), xpu_only(query)
    best = min(pim, xpu, key=lambda plan: plan.seconds)
    best.why = (f"attention takes {time_of(pim.seconds)} on Logic-PIM and {time_of(xpu.seconds)} "
                f"on the xPU: all of it runs where it is sooner done")
    return best


def co_processing(query: AttentionQuery) -> Plan:
    """Sequences that decode on Logic-PIM, prefill on the xPU at the same time."""
    return split(query, query.decoding, "sequences that decode attend on Logic-PIM, those in "
                                        "prefill on the xPU at the same time")


ATTENTION: dict[str, AttentionPolicy] = {
    "xpu_only": xpu_only, "pim_only": pim_only, "opb_threshold": op_b_threshold(),
    "duplex": duplex, "duplex_best_of": best_of, "duplex_pe_paper": co_processing,
    "duplex_pe_spaces": co_processing, "duplex_pe_sim": co_processing,
}
"""By the names of :data:`~logicpim.placement.SHARED`. The authors' simulator has no mixed stage, so
that its co-processing of attention is never met; both processors' times are merged as in the
paper's."""
