"""Placement policies: known vectors, and what must hold for every layer."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logicpim.placement import SHARED, TIERED, monde
from logicpim.placement.costs import Costs, Link, duplex_units, roofline, table
from logicpim.placement.policy import Query, Unit, total
from logicpim.placement.tiered import hot_count, on_demand, pre_gated, prefetch_all

DUPLEX = duplex_units()
COUNTS = st.lists(st.integers(0, 300), min_size=1, max_size=16).map(tuple)


def pim_set(plan):
    return {e for e, unit in plan.places.items() if unit == Unit.PIM}


@pytest.mark.parametrize("name, pim, seconds", [
    ("duplex_pe_paper", {0, 1, 2, 5, 6, 7}, 1.53125),
    ("duplex_pe_sim", {0, 1, 2, 6, 7}, 2.0),
    ("xpu_only", set(), 7.0),
    ("pim_only", {0, 1, 2, 4, 5, 6, 7}, 5 * .25 + .703125 + .28125),
])
def test_a_known_layer(name, pim, seconds):
    """Eight experts, one without tokens; a space is two neighbours."""
    plan = SHARED[name](Query(tokens=(3, 1, 9, 0, 30, 2, 12, 7), costs=DUPLEX))
    assert pim_set(plan) == pim and plan.seconds == seconds


@pytest.mark.parametrize("tokens, known", [
    (16, (7.91, 1.98, 1.73, 1.98)), (32, (8.00, 2.04, 1.75, 2.00)), (64, (8.00, 3.01, 2.06, 2.13)),
    (128, (8.00, 6.00, 3.40, 4.00)), (256, (8.00, 12.00, 5.00, 5.67))])
def test_means_of_uniform_routing(tokens, known, seed):
    """Two of eight experts a token: means of 200 draws, against those of others."""
    random = np.random.default_rng(seed)
    names = ("xpu_only", "pim_only", "duplex_pe_paper", "duplex_pe_sim")
    sums = np.zeros(4)
    for _ in range(200):
        chosen = random.random((tokens, 8)).argsort(axis=1)[:, :2]
        query = Query(tokens=tuple(np.bincount(chosen.ravel(), minlength=8).tolist()),
                      costs=DUPLEX)
        sums += [SHARED[name](query).seconds for name in names]
    assert np.allclose(sums / 200, known, rtol=0.04)


def tiered(tokens, **more):
    costs = Costs(xpu=lambda t: 1e-6 * max(t, 20), pim=lambda t: 4e-5 + 1e-5 * t,
                  expert_bytes=10_000_000, token_bytes=4096,
                  link=Link(bandwidth=32e9, latency=1e-6), memory_bandwidth=512e9)
    return Query(tokens=tokens, costs=costs, **more)


@given(COUNTS, st.integers(1, 4))
def test_shared(counts, spaces):
    query = Query(tokens=counts, costs=DUPLEX, spaces=tuple(e % spaces for e in range(len(counts))))
    plans = {name: policy(query) for name, policy in SHARED.items()}
    for plan in plans.values():
        done = [s.expert for s in plan.steps]
        assert sorted(done) == query.active and plan.bytes == 0
    seconds = {name: plan.seconds for name, plan in plans.items()}
    alone = min(seconds["xpu_only"], seconds["pim_only"])
    assert seconds["duplex_best_of"] == alone
    assert seconds["duplex_pe_paper"] <= alone and seconds["duplex_pe_spaces"] <= alone
    assert seconds["duplex_pe_sim"] <= seconds["pim_only"]
    for name in ("duplex_pe_spaces", "duplex_pe_sim"):  # a space belongs to one of them
        of = {(query.spaces[e], unit) for e, unit in plans[name].places.items()}
        assert len(of) == len({space for space, _ in of})


@given(COUNTS, st.sets(st.integers(0, 15)), st.data())
def test_tiered(counts, resident, data):
    following = data.draw(st.lists(st.integers(0, 9), min_size=len(counts),
                                   max_size=len(counts)).map(tuple))
    query = tiered(counts, resident=frozenset(resident), following=following)
    plans = {name: policy(query) for name, policy in TIERED.items()}
    for plan in plans.values():
        products = [s.expert for s in plan.steps if s.what == "product"]
        assert sorted(products) == query.active
        assert all(i < at for at, s in enumerate(plan.steps) for i in s.after)
        moved = {s.expert for s in plan.steps if s.what == "weights" and not s.next_layer}
        there = {e for e, unit in plan.places.items() if unit == Unit.XPU}
        assert moved == there - query.resident
        assert plan.bytes == sum(
            query.costs.expert_bytes if s.what == "weights"
            else query.costs.token_bytes * counts[s.expert]
            for s in plan.steps if s.what != "product")
    assert plans["pregated"].fetched == {e for e, t in enumerate(following) if t}
    for rounding in (math.ceil, math.floor, round):
        assert plans["dynande_sweep"].seconds <= monde(rounding=rounding)(query).seconds


def test_pre_gated_hides_fetches():
    """Four layers that run 1 each and whose experts take 0.6, 0.6, 1.5 and 0.6 to fetch."""
    costs = Costs(xpu=lambda t: t / 10, pim=lambda t: math.inf, expert_bytes=3,
                  link=Link(bandwidth=10))
    pair, five = (5, 5, 0, 0, 0), (2,) * 5
    counts = [pair, pair, five, pair]
    layers = [Query(tokens=now, following=then, costs=costs)
              for now, then in zip(counts, [*counts[1:], None], strict=True)]
    assert total(pre_gated, layers) == pytest.approx(5.1)
    assert total(on_demand, layers) == pytest.approx(7.3)
    # All five experts of the next layer: 1.5 each time, behind a layer that runs 1.
    assert total(prefetch_all, layers) == pytest.approx(0.6 + 3 * 1.5 + 1)


def test_hot_count():
    """With 32 GB/s and 512 GB/s, 5.88 % of the active experts."""
    assert [round(hot_count(n, 32, 512), 2) for n in (17, 64, 128)] == [1.0, 3.76, 7.53]
    on_xpu = [sum(u == Unit.XPU for u in monde(rounding=r)(tiered((1,) * 64)).places.values())
              for r in (math.ceil, math.floor)]
    assert on_xpu == [4, 3]


def test_few_tokens_stay_many_move():
    """One token: its activation is cheap to move. Thousands: the weights are."""
    query = tiered((1, 4000))
    for name in ("fiddler", "dynande_sweep"):
        assert pim_set(TIERED[name](query)) == {0}


def test_costs():
    seconds = roofline(3, 4096, 14336, peak=665.6e9 * 32, bandwidth=83.2e9 * 32)
    assert seconds(0) == 0
    assert seconds(1) == pytest.approx(3 * 2 * 4096 * 14336 / (83.2e9 * 32), rel=1e-3)
    assert seconds(64) == pytest.approx(3 * 2 * 64 * 4096 * 14336 / (665.6e9 * 32))
    measured = table({1: 2.0, 3: 3.0, 7: 11.0})
    assert [measured(t) for t in (0, 1, 2, 3, 5, 9)] == [0, 2, 2.5, 3, 7, 15]
    with pytest.raises(ValueError, match="points at 1 token"):
        table({})
