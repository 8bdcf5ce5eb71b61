"""Records of decisions: sums that fit, and estimates of a table in place of the roofline."""

from itertools import product

import pytest

from logicpim.driver.decisions import Estimates, decide_attention, decide_experts
from logicpim.llm.presets import preset
from logicpim.placement import ATTENTION, SHARED
from logicpim.placement.cost_table import FORMAT, VERSION, CostTable
from logicpim.placement.policy import Query
from logicpim.spec.errors import LogicPimError
from logicpim.spec.presets import PRESETS

CHANNEL, MIXTRAL = PRESETS["channel"], preset("mixtral-8x7b")


def table(factor=1):
    """Of a channel without surprises: a beat a clock, a tenth more for attention."""
    rows = [{"kernel": "gemm", "weights": "fp16", "bundles": 4, "m": m, "n": n, "k": k,
             "cycles": factor * n * k // 64 * max(1, m // 8)}
            for m, n, k in product((1, 4, 8, 32, 64), (8, 4096), (16, 4096))]
    rows += [{"kernel": "attention", "bundles": 4, "group": g, "heads": h, "context": c, "size": s,
              "cycles": 2.2 * factor * h * c * s / 64}
             for g, h, c, s in product((1, 4, 8), (1, 2), (16, 512), (64, 128))]
    return CostTable({"format": FORMAT, "version": VERSION, "digest": CHANNEL.digest,
                      "configuration": CHANNEL.as_dict(), "clock_hz": CHANNEL.clock_hz,
                      "rows": rows, "held_out": []})


@pytest.mark.parametrize("name", SHARED)
def test_records(name):
    made = Estimates(CHANNEL, MIXTRAL)
    query = Query(tokens=(3, 1, 0, 90, 7, 7, 2, 1), costs=made.experts(), stage="mixed")
    plan, d = decide_experts(SHARED[name], query, step=4, layer=2)
    assert (d.what, d.phase, d.step, d.layer) == ("experts", "mixed", 4, 2)
    assert [i["index"] for i in d.items] == query.active
    assert [i["where"] for i in d.items] == [str(plan.places[e]) for e in query.active]
    for unit, busy, key in (("Logic-PIM", d.pim_s, "pim_s"), ("xPU", d.xpu_s, "xpu_s")):
        assert busy == pytest.approx(sum(i[key] for i in d.items if i["where"] == unit))
    assert d.seconds == pytest.approx(max(d.pim_s, d.xpu_s)) and d.why
    attention = made.attention(MIXTRAL.blocks[0].attention, [(1, 70), (1, 9), (40, 40)])
    _, d = decide_attention(ATTENTION[name], attention, phase="mixed", step=0, layer=0)
    assert [i["context"] for i in d.items] == [70, 9, 40] and d.why
    assert d.seconds <= d.pim_s + d.xpu_s


def test_table_in_place_of_the_roofline():
    """A table as fast as the roofline gives its times; with one ten times slower all moves."""
    line, same = Estimates(CHANNEL, MIXTRAL), Estimates(CHANNEL, MIXTRAL, table(), bundles=4)
    assert (line.source, same.source) == ("roofline", "table")
    for tokens in (1, 4, 8, 32):
        assert same.experts().pim(tokens) == pytest.approx(line.experts().pim(tokens), rel=0.01)
        assert same.experts().xpu(tokens) == line.experts().xpu(tokens)
    slow = Estimates(CHANNEL, MIXTRAL, table(10), bundles=4)
    places = [set(SHARED["duplex_best_of"](Query(tokens=(2, 2), costs=made.experts())
                                           ).places.values()) for made in (same, slow)]
    assert places == [{"Logic-PIM"}, {"xPU"}]
    a = MIXTRAL.blocks[0].attention
    assert same.attention(a, [(1, 512)]).pim(1, 512) == pytest.approx(
        line.attention(a, [(1, 512)]).pim(1, 512), rel=0.15)


def test_refused():
    with pytest.raises(LogicPimError, match="another configuration"):
        Estimates(PRESETS["small"], MIXTRAL, table())
    with pytest.raises(LogicPimError, match="no points of gemm fp16 2"):
        Estimates(CHANNEL, MIXTRAL, table(), bundles=2).experts()
