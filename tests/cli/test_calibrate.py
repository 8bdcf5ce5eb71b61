"""``logicpim calibrate``: a table of the small channel, and what it refuses."""

import json

import pytest

from logicpim.driver import calibrate as engine
from logicpim.placement.cost_table import CostTable
from logicpim.spec.presets import PRESETS


def test_told(logicpim, monkeypatch):
    """What it says, of clocks that nobody measured."""
    monkeypatch.setattr(engine, "verilog_hash", lambda config: "0" * 64)
    monkeypatch.setattr(engine, "measure", lambda config, point: {
        **point, "cycles": 100, "active": 90, "stalls": {"control": 10}, "words_read": 1,
        "refreshes": 0})
    told = logicpim("calibrate", "--config", "small", "-o", "c.json", "--json").json
    assert told["reused"] == 0 and told["points"] == sum(told["by_kernel"].values())
    again = logicpim("calibrate", "--config", "small", "-o", "c.json")
    assert again.status == 0 and "0 measured now" in again.out and "gemm" in again.out


@pytest.mark.full
def test_small(logicpim, tmp_path):
    """What it says is what the file has; provenance is there; a second call measures nothing."""
    call = ("calibrate", "--config", "small", "--bundles", "2", "--held-out", "1", "-o", "c.json")
    told = logicpim(*call, "--json").json
    assert told["measured"] and not told["reused"] and told["points"] == sum(
        told["by_kernel"].values())
    values = json.loads((tmp_path / "c.json").read_text())
    assert len(values["rows"]) == told["points"] and values["errors"] == told["errors"]
    made = values["made"]
    assert made["command"].startswith("logicpim") and made["simulator"].startswith("Verilator 5")
    assert len(made["verilog_sha256"]) == 64 and made["date"] and made["grid"] == "small"
    assert values["digest"] == PRESETS["small"].digest
    for row in values["rows"]:
        assert row["cycles"] == row["active"] + sum(row["stalls"].values())
    # A product that no grid has: as near as the straight lines are said to be, or a few clocks.
    bench = logicpim("bench", "gemm", "--config", "small", "--bundles", "2", "--m", "2", "--n",
                     "64", "--k", "64", "--json").json
    estimate = CostTable.load(tmp_path / "c.json").gemm(2, 64, 64, bundles=2)
    assert abs(estimate - bench["cycles"]) < 0.05 * bench["cycles"] + 100  # a refresh
    again = logicpim(*call)
    assert again.status == 0 and "0 measured now" in again.out and "gemm" in again.out


def test_refused(logicpim, tmp_path):
    logicpim("calibrate", "--backend", "reference", "-o", "c.json").refused("no clocks of the RTL")
    logicpim("calibrate", "-o", "none/c.json").refused("no folder none")
    logicpim("calibrate", "-o", tmp_path).refused("is a folder")
    logicpim("calibrate", "--config", "small", "--bundles", "4", "-o", "c.json").refused(
        "--bundles 4", "small has 2")
    (tmp_path / "c.json").write_text("{}")
    logicpim("calibrate", "--config", "small", "-o", "c.json").refused("no cost table")
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]
