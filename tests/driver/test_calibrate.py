# SPDX-License-Identifier: BSD-2-Clause
"""Tables of costs measured on the RTL: the clocks of the kernels, nothing twice, nothing mixed."""

import json

import numpy as np
import pytest

from logicpim.driver import calibrate as engine
from logicpim.driver.backends import open_device
from logicpim.driver.calibrate import calibrate
from logicpim.driver.grid import held_out, points
from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.measure import fits, measure, settle
from logicpim.driver.memory import Memory, load
from logicpim.driver.stats import Stats
from logicpim.placement.cost_table import KERNELS, CostTable
from logicpim.spec.errors import LogicPimError
from logicpim.spec.presets import PRESETS

SMALL, CHANNEL = PRESETS["small"], PRESETS["channel"]


@pytest.mark.parametrize("grid", ["small", "full"])
@pytest.mark.parametrize("config", [SMALL, CHANNEL, SMALL.replace(formats=("fp16", "int8"))])
def test_grids(config, grid):
    """Whole grids that fit, each point once; what is held out is none of them."""
    bundles = tuple(b for b in (1, 2, 4) if b <= config.dram.bundles)
    found = points(config, grid, config.formats, bundles)
    assert len({json.dumps(p) for p in found}) == len(found)
    assert all(fits(config, p) for p in found)
    assert {p["kernel"] for p in found} == KERNELS.keys()
    CostTable({"format": engine.FORMAT, "version": engine.VERSION, "digest": config.digest,
               "configuration": config.as_dict(), "clock_hz": 1, "rows": [
                   p | {"cycles": 1} for p in found]})
    besides = held_out(config, found, 3)
    assert besides and not any(p in found for p in besides)
    assert not fits(SMALL, {"kernel": "softmax", "m": 8, "n": 4096})


def fake(monkeypatch, clocks=lambda point: 100):
    """Rows without a simulator; what was asked for is noted."""
    asked = []

    def row(config, point):
        asked.append(point)
        return {**point, "cycles": clocks(point), "active": 1, "stalls": {}, "words_read": 1,
                "refreshes": 0}
    monkeypatch.setattr(engine, "measure", row)
    monkeypatch.setattr(engine, "verilog_hash", lambda config: "v")
    return asked


OPTIONS = {"grid": "small", "weights": ("fp16",), "bundles": (1, 2)}


def test_kept(tmp_path, monkeypatch):
    """A second run measures nothing, a larger one only what is new."""
    path, asked = tmp_path / "t.json", fake(monkeypatch)
    first = calibrate(SMALL, path, **OPTIONS)
    assert len(asked) == len(first["rows"]) + len(first["held_out"]) and first["reused"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
    asked.clear()
    again = calibrate(SMALL, path, **OPTIONS)
    assert not asked and again["rows"] == first["rows"]
    more = calibrate(SMALL, path, **OPTIONS | {"grid": "full"})
    assert len(asked) + more["reused"] == len(more["rows"]) + len(more["held_out"])
    assert more["reused"] > 0
    assert CostTable.load(path).gemm(1, 4, 8, bundles=1) == 100


def test_interrupted(tmp_path, monkeypatch):
    """What was measured lies in the part; the file is not there; the next run goes on."""
    path, many = tmp_path / "t.json", 30
    asked = fake(monkeypatch, lambda point: 1 / (len(asked) <= many))
    monkeypatch.setattr(engine, "_SAVED_EVERY", 0)
    with pytest.raises(ZeroDivisionError):
        calibrate(SMALL, path, **OPTIONS)
    assert not path.exists() and (tmp_path / "t.json.part").exists()
    asked = fake(monkeypatch)
    assert calibrate(SMALL, path, **OPTIONS)["reused"] == many
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_never_mixed(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    fake(monkeypatch)
    calibrate(SMALL, path, **OPTIONS)
    before = path.read_text()
    with pytest.raises(LogicPimError, match="other hardware"):
        calibrate(SMALL.replace(refresh=False), path, **OPTIONS)
    monkeypatch.setattr(engine, "verilog_hash", lambda config: "w")
    with pytest.raises(LogicPimError, match="its Verilog has changed"):
        calibrate(SMALL, path, **OPTIONS)
    assert path.read_text() == before
    other = tmp_path / "notes.json"
    other.write_text('{"a": 1}')
    with pytest.raises(LogicPimError, match="no cost table"):
        calibrate(SMALL, other, **OPTIONS)
    assert other.read_text() == '{"a": 1}'
    with pytest.raises(LogicPimError, match="no folder"):
        calibrate(SMALL, tmp_path / "none" / "t.json", **OPTIONS)


def test_errors(tmp_path, monkeypatch):
    """Clocks on straight lines: no error where nothing was measured."""
    def straight(p):
        sizes = [p[name] for name in KERNELS[p["kernel"]][1]]
        return 50 + 3 * sizes[0] if p["kernel"] in ("softmax", "activate") else 100
    fake(monkeypatch, straight)
    made = calibrate(SMALL, tmp_path / "t.json", **OPTIONS)
    for kernel in ("gemm", "softmax", "activate"):
        assert made["errors"][kernel]["points"] and made["errors"][kernel]["largest"] < 1e-9
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize("point", [
    {"kernel": "gemm", "weights": "fp16", "bundles": 2, "m": 3, "n": 24, "k": 40},
    {"kernel": "ffn", "weights": "fp16", "bundles": 1, "m": 2, "hidden": 24, "inner": 16},
    {"kernel": "attention", "bundles": 2, "heads": 2, "group": 2, "context": 24, "size": 16},
    {"kernel": "activate", "m": 2, "n": 24}, {"kernel": "softmax", "m": 2, "n": 24}],
    ids=lambda point: point["kernel"])
def test_measured(point):
    """On the RTL: the same again, all clocks accounted for; a product's those of other data."""
    row = measure(SMALL, point)
    assert row == measure(SMALL, point)
    assert row["cycles"] == row["active"] + sum(row["stalls"].values()) > 0
    if point["kernel"] != "gemm":
        return
    random = np.random.default_rng(3)
    x, w = (random.standard_normal(s).astype(np.float16).view(np.uint16) for s in (
        (3, 40), (24, 40)))
    matrix, stats = Memory(SMALL).place(24, 40, 0, 2), Stats()
    with open_device("verilator", SMALL) as device:
        load(device, matrix, w)
        settle(device)
        Kernels(device).run([Job(x, (matrix,))], stats=stats)
    assert stats.cycles == row["cycles"] and stats.words_read == row["words_read"]
