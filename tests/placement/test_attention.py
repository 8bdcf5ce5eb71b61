"""Where attention runs: each sequence once, Duplex's rules, co-processing never slower."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logicpim.placement import ATTENTION, SHARED
from logicpim.placement.attention import AttentionQuery
from logicpim.placement.costs import duplex_units
from logicpim.placement.policy import Query, Unit, time_of


def query(sequences, group=4):
    """Bound by the cache's bytes on both up to 8 queries, Logic-PIM four times as fast."""
    return AttentionQuery(sequences=tuple(sequences), group=group,
                          xpu=lambda tokens, context: 4.0 * context,
                          pim=lambda tokens, context: context * max(1, tokens * group / 8))


SEQUENCES = st.lists(st.one_of(st.tuples(st.just(1), st.integers(1, 500)),
                               st.integers(2, 100).map(lambda n: (n, n))), min_size=1, max_size=9)


@given(SEQUENCES)
def test_rules(sequences):
    q = query(sequences)
    plans = {name: policy(q) for name, policy in ATTENTION.items()}
    decoding = {i for i, (tokens, _) in enumerate(sequences) if tokens == 1}
    for plan in plans.values():
        assert sorted(s.expert for s in plan.steps) == list(range(len(sequences))) and plan.why
    for name in ("duplex", "duplex_pe_paper", "duplex_pe_spaces", "duplex_pe_sim"):
        assert {i for i, u in plans[name].places.items() if u == Unit.PIM} == decoding
    both = plans["duplex_pe_paper"]
    assert both.seconds == max(both.busy(Unit.PIM), both.busy(Unit.XPU))
    assert plans["duplex"].seconds == pytest.approx(both.busy(Unit.PIM) + both.busy(Unit.XPU))
    alone = min(plans["xpu_only"].seconds, plans["pim_only"].seconds)
    assert plans["duplex_best_of"].seconds == alone
    assert {i for i, u in plans["opb_threshold"].places.items() if u == Unit.PIM} == {
        i for i, (tokens, _) in enumerate(sequences) if 4 * tokens <= 8}


def test_names():
    """A policy places both; a rule is said in a sentence."""
    assert ATTENTION.keys() == SHARED.keys()
    for policy in SHARED.values():
        for stage in ("decode", "mixed"):
            assert policy(Query(tokens=(3, 0, 9, 40), costs=duplex_units(), stage=stage)).why


def test_stage_rule():
    """Without co-processing the experts of a stage with a prefill run on the xPU."""
    for stage, unit in (("decode", Unit.PIM), ("mixed", Unit.XPU), ("prefill", Unit.XPU)):
        plan = SHARED["duplex"](Query(tokens=(3, 0, 9), costs=duplex_units(), stage=stage))
        assert set(plan.places.values()) == {unit}


def test_times():
    assert [time_of(t) for t in (0, 2e-9, 1.5e-6, 0.0123, 2.5)] == [
        "0", "2 ns", "1.5 us", "12.3 ms", "2.5 s"]
