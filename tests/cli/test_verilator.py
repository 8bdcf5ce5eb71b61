"""``run`` and ``bench gemm`` on the generated Verilog: equal to the reference, and fast enough."""

import csv
import json

import pytest

from logicpim.sim.dram.checker import check_trace
from logicpim.sim.dram.trace import read_csv
from logicpim.spec.presets import PRESETS

SMALL = ["--config", "small"]


def bench(logicpim, m, n, k, *more):
    return logicpim("bench", "gemm", "--m", m, "--n", n, "--k", k, *more, "--json")


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 30, 20), (9, 600, 3)])
def test_gemm(logicpim, m, n, k):
    result = bench(logicpim, m, n, k, *SMALL).json
    assert result["matches_reference"] is True and result["backend"] == "verilator"
    assert result["cycles"] == result["active"] + sum(result["stalls"].values())
    config = PRESETS["small"]
    assert result["weight_bytes"] == 2 * n * k
    assert result["bandwidth_efficiency"] == 2 * n * k / (result["cycles"] * config.beat_bytes)
    assert result["mac_utilisation"] == m * n * k / (result["cycles"] * config.tile.macs)
    assert 0 < result["bandwidth_efficiency"] < 1 and result["cycles_per_s"] > 0


def test_channels_share_the_rows(logicpim):
    one, two = (bench(logicpim, 2, 400, 24, *SMALL, "--channels", c, "--output", "fp16").json
                for c in (1, 2))
    assert one["matches_reference"] and two["matches_reference"]
    assert 0.4 < two["cycles"] / one["cycles"] < 0.65


@pytest.mark.full  # builds another simulator
def test_no_refresh(logicpim):
    shape = (20, 400, 30, *SMALL)
    with_refresh, without = bench(logicpim, *shape).json, bench(logicpim, *shape,
                                                                "--no-refresh").json
    assert with_refresh["refreshes"] > 0 and without["refreshes"] == 0
    assert without["stalls"]["refresh"] == 0 and without["cycles"] < with_refresh["cycles"]


PLAIN = ["--bundles", 1, "--set", "stagger=false", "--set", 'refresh_kind="all"']


@pytest.mark.parametrize("m", [1, 8])
@pytest.mark.parametrize("options, least", [
    ([], 0.98), (["--bundles", 1], 0.54), (["--bundles", 2], 0.92), (PLAIN, 0.6)],
    ids=["default", "one", "two", "plain"])
def test_bandwidth(logicpim, m, options, least):
    """What is asked of each number of bundles; and within 2 % of the closed formula."""
    result = bench(logicpim, m, 1024, 4096, *options).json
    assert result["matches_reference"] is True
    assert least <= result["bandwidth_efficiency"] <= result["bandwidth_bound"]
    assert result["of_bound"] >= 0.98


def test_trace(logicpim, tmp_path):
    path = tmp_path / "commands.csv"
    result = bench(logicpim, 2, 40, 30, *SMALL, "--channels", 2, "--trace", path).json
    assert result["matches_reference"] and list(tmp_path.iterdir()) == [path]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == "clock channel command rank bank_group bank row column".split()
    assert {row["channel"] for row in rows} == {"0", "1"}
    assert sum(row["command"] == "ALL_RD" for row in rows) == result["words_read"]
    for channel, trace in read_csv(path).items():
        clocks = trace["clock"]
        assert (clocks[1:] >= clocks[:-1]).all()
        config = PRESETS["small"].replace(channels=2)
        assert check_trace(trace, config, channel) == []


def test_decode_small(logicpim, make_model):
    """Unaligned sizes, two channels, every logit compared."""
    folder = make_model()
    result = logicpim("run", folder, "--prompt", "ab", "--tokens", 4, "--json", *SMALL,
                      "--channels", 2).json
    assert result["matches_reference"] is True and len(result["token_ids"]) == 4
    plain = logicpim("run", folder, "--prompt", "ab", "--tokens", 4, "--json", "--backend",
                     "reference").json
    assert result["token_ids"] == plain["token_ids"]
    pim = [row for row in result["placements"] if row["where"] == "Logic-PIM"]
    assert sum(row.get("cycles", 0) for row in pim) == result["cycles"] > 0


@pytest.mark.full  # builds another simulator
@pytest.mark.parametrize("group", [0, 32])
def test_decode_quantised(logicpim, bundled_model, group):
    result = logicpim("run", bundled_model, "--prompt", "In the beginning", "--tokens", 4,
                      "--weights", "int8", "--scale-group", group, "--json").json
    assert result["matches_reference"] is True and result["text"].startswith(" of the first")


def test_decode_bundled(logicpim, bundled_model):
    """The main job: the bundled model on one channel, as transformers decodes it."""
    golden = json.loads((bundled_model / "golden" / "grace.json").read_text())
    result = logicpim("run", bundled_model, "--prompt", golden["prompt"], "--tokens", 8,
                      "--json").json
    assert result["matches_reference"] is True
    assert result["token_ids"] == golden["token_ids"][:8]
    assert result["bandwidth_efficiency"] > 0.4


@pytest.mark.full
@pytest.mark.parametrize("name", ["answered", "beginning", "behold", "elders", "grace",
                                  "shepherd", "third-year", "wise-son"])
def test_golden(logicpim, bundled_model, name):
    golden = json.loads((bundled_model / "golden" / f"{name}.json").read_text())
    result = logicpim("run", bundled_model, "--prompt", golden["prompt"], "--tokens", 64,
                      "--json").json
    assert result["matches_reference"] is True
    assert result["token_ids"] == golden["token_ids"] and result["text"] == golden["text"]


def test_no_compiler(logicpim, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CXX", raising=False)
    result = bench(logicpim, 1, 1, 1, *SMALL, "--trace", tmp_path / "t.csv")
    result.refused("no C++ compiler", "g++")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
