"""Cost tables: exact on straight lines, honest between them, and only of their own hardware."""

import json
from itertools import product

import pytest

from logicpim.placement.cost_table import (
    FORMAT,
    VERSION,
    CostTable,
    attention_seconds,
    expert_seconds,
    one_channel,
)
from logicpim.spec.errors import LogicPimError
from logicpim.spec.presets import PRESETS

CHANNEL = PRESETS["channel"]
AXES = {"m": (1, 4, 8, 16, 32, 64), "n": (8, 64, 256), "k": (16, 128, 1024)}


def clocks(m, n, k):
    """A device without surprises: beats of groups of eight, a cost for row blocks and a start."""
    passes, rest = divmod(-(-m // 8), 4)
    groups = 4 * passes + rest if m > 8 else 1
    return 60 * max(1, passes) + 5 * n // 8 + 2 * groups * (n // 8) * (k // 16)


def gemm_rows(bundles=4):
    return [{"kernel": "gemm", "weights": "fp16", "bundles": bundles, "m": m, "n": n, "k": k,
             "cycles": clocks(m, n, k)} for m, n, k in product(*AXES.values())]


def values(rows, config=CHANNEL):
    return {"format": FORMAT, "version": VERSION, "digest": config.digest,
            "configuration": config.as_dict(), "clock_hz": config.clock_hz, "rows": rows,
            "held_out": []}


def test_products_are_straight_lines():
    """At the points, between them and beyond: N and K in whole blocks and words, M in groups."""
    table = CostTable(values(gemm_rows()))
    for m, n, k in product((1, 3, 8, 9, 16, 17, 24, 32, 64), (5, 8, 100, 4096),
                           (1, 50, 1024, 5000)):
        up = (-(-m // 8) * 8 if m > 4 else m, -(-n // 8) * 8, -(-k // 16) * 16)
        assert table.gemm(m, n, k, bundles=4) == pytest.approx(clocks(*up)), (m, n, k)
    assert table.gemm(0, 8, 8, bundles=4) == table.gemm(1, 8, 0, bundles=4) == 0


def test_passes():
    """Each 32 tokens stream the weights again; the rest takes its own groups only."""
    table = CostTable(values(gemm_rows()))

    def gemm(m):
        return table.gemm(m, 256, 1024, bundles=4)
    assert gemm(96) - gemm(64) == gemm(64) - gemm(32)
    assert gemm(32) < gemm(40) < gemm(48) < gemm(64)
    assert gemm(40) == gemm(33)


def test_composed():
    """A network is its products and what was measured besides, a straight line in M."""
    table = CostTable(values(gemm_rows()))
    rows = [{"kernel": "ffn", "weights": "fp16", "bundles": 4, "m": m, "hidden": h, "inner": i,
             "cycles": table.gemm(m, 2 * i, h, bundles=4) + table.gemm(m, h, i, bundles=4)
             + 9 * m * i // 8} for m, h, i in product((1, 8, 32), (16, 128), (16, 64))]
    table = CostTable(values([*gemm_rows(), *rows]))
    for m, h, i in product((1, 6, 16, 24, 40), (16, 96, 200), (16, 48, 80)):
        products = table.gemm(m, 2 * i, h, bundles=4) + table.gemm(m, h, i, bundles=4)
        assert table.ffn(m, h, i, bundles=4) == pytest.approx(products + 9 * m * i / 8)
        # Up and gate begin a block of rows each: 2 x 41 columns are 2 x 48 of them.
        assert table.ffn(m, h, i - 7, bundles=4) == table.ffn(m, h, i, bundles=4)


def test_seconds():
    """Experts and heads are dealt over the channels; the busiest one counts."""
    table = CostTable(values(gemm_rows()))
    seconds = expert_seconds(table, hidden=100, width=300, matrices=3, channels=8, bundles=4)
    # 300 rows over 8 channels are 37.5, so 40; 100 rows are 12.5, so 16.
    expected = table.gemm(5, 80, 100, bundles=4) + table.gemm(5, 16, 300, bundles=4)
    assert seconds(5) == pytest.approx(expected / CHANNEL.clock_hz) and seconds(0) == 0
    rows = [{"kernel": "attention", "bundles": 4, "group": g, "heads": h, "context": c, "size": s,
             "cycles": 100 + 10 * h * c // 16}
            for g, h, c, s in product((1, 8), (1, 2), (16, 64), (64, 128))]
    table = CostTable(values([*gemm_rows(), *rows]))
    attend = attention_seconds(table, kv_heads=5, group=4, size=64, channels=2, bundles=4)
    assert attend(1, 64) * table.clock_hz == pytest.approx(
        table.attention(3, 4, 64, 64, bundles=4))
    assert table.attention(1, 4, 64, 80, bundles=4) == table.attention(1, 4, 64, 65, bundles=4)


def test_refused(tmp_path):
    good = values(gemm_rows())
    for bad, words in [
            ([], "is not a cost table"), ({**good, "format": "x"}, "is not a cost table"),
            ({**good, "version": 0}, "calibrate again"),
            ({**good, "rows": good["rows"][1:]}, "1 points are missing"),
            ({**good, "rows": [{"kernel": "gemm"}]}, "is damaged")]:
        with pytest.raises(LogicPimError, match=words):
            CostTable(bad)
    path = tmp_path / "costs.json"
    with pytest.raises(LogicPimError, match="cannot read"):
        CostTable.load(path)
    path.write_text("{")
    with pytest.raises(LogicPimError, match="is not a cost table"):
        CostTable.load(path)
    path.write_text(json.dumps(good))
    table = CostTable.load(path)
    with pytest.raises(LogicPimError, match="no points of gemm int8 4"):
        table.gemm(1, 8, 16, bundles=4, weights="int8")
    table.check(CHANNEL)
    table.check(CHANNEL.replace(channels=4))
    for other in (CHANNEL.replace(formats=("fp16", "int8")), CHANNEL.replace(refresh=False),
                  PRESETS["small"]):
        with pytest.raises(LogicPimError, match="another configuration"):
            table.check(other)


def test_a_stack_is_measured_by_its_channel():
    paper = one_channel(PRESETS["paper"])
    assert paper.channels == 1 and not paper.stack
    assert paper.digest == CHANNEL.digest
