"""``logicpim bench``: keys, sizes of any kind, and one line for what is wrong."""

import pytest

KEYS = {"cycles", "weight_bytes", "bandwidth_efficiency", "mac_utilisation", "stalls",
        "matches_reference", "wall_s", "cycles_per_s", "macs_per_s"}


@pytest.fixture
def gemm(logicpim):
    def call(m, n, k, *more):
        return logicpim("bench", "gemm", "--m", m, "--n", n, "--k", k, "--backend", "reference",
                        *more)
    return call


def test_keys_of_the_reference(gemm):
    result = gemm(3, 5, 7, "--config", "small", "--json").json
    assert KEYS <= set(result)
    assert result["matches_reference"] is True and result["weight_bytes"] == 5 * 7 * 2
    assert result["cycles"] is None and result["bandwidth_efficiency"] is None
    assert result["macs_per_s"] > 0


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (100, 30, 20), (7, 600, 9), (2, 3, 1024)])
@pytest.mark.parametrize("more", [(), ("--channels", 4, "--output", "fp16")])
def test_sizes(gemm, m, n, k, more):
    assert gemm(m, n, k, "--config", "small", *more, "--json").json["matches_reference"]


def test_for_people(gemm):
    result = gemm(2, 3, 4)
    assert "{" not in result.out and "equals the reference  yes" in result.out


@pytest.mark.parametrize("argv, words", [
    ((0, 1, 1), ["--m", "'0'"]),
    ((1, 0, 1), ["--n", "'0'"]),
    ((1, 1, -3), ["--k", "'-3'"]),
    ((1, 1, "many"), ["--k", "'many'"]),
    ((70000, 1, 1), ["--m", "65535"]),
    ((1, 1 << 24, 64), ["needs", "bytes", "channels"]),
    ((1, 1, 1 << 20), ["K = 1048576", "input_buffer_bytes"]),
    ((1, 10 ** 30, 1), ["bytes"]),
    ((1, 1, 1, "--bundles", 4, "--config", "small"), ["4 bundles", "small has 2"]),
    ((1, 1, 1, "--bundles", 3), ["--bundles", "3"]),
    ((1, 1, 1, "--config", "huge"), ["unknown preset 'huge'", "channel, ", "paper, small"]),
    ((1, 1, 1, "--config", "nowhere.toml"), ["nowhere.toml"]),
    ((1, 1, 1, "--set", "tile.rows=3"), ["tile.rows", "power of two"]),
    ((1, 1, 1, "--set", "tile.rows"), ["KEY=VALUE"]),
    ((1, 1, 1, "--set", "tile.rows=4"), ["dram.bundle_banks 8 must equal tile.rows 4"]),
    ((1, 1, 1, "--channels", 3), ["channels", "3"]),
    ((1, 1, 1, "--seed", -1), ["--seed"]),
    ((1, 1, 1, "--trace", "t.csv"), ["--trace", "verilator"]),
])
def test_refused(gemm, tmp_path, argv, words):
    gemm(*argv, "--json").refused(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["nowhere/t.csv", "."])
def test_trace_to_nowhere(logicpim, file):
    logicpim("bench", "gemm", "--m", 1, "--n", 1, "--k", 1, "--trace", file).refused("trace", file)


@pytest.mark.parametrize("weights", ["bf16", "fp8_e4m3", "fp8_e5m2", "int8"])
def test_formats(gemm, weights):
    argv = (3, 9, 70, "--config", "small", "--weights", weights, "--output", "fp16", "--json")
    result = gemm(*argv, "--set", f'formats=["fp16", "{weights}"]').json
    assert result["weights"] == weights and result["matches_reference"]
    assert result["weight_bytes"] == 9 * 70 * (2 if weights == "bf16" else 1)
    assert gemm(*argv).json["matches_reference"]    # added where it is missing


@pytest.mark.parametrize("group", [0, 16, 48])
def test_scales(gemm, group):
    result = gemm(3, 9, 70, "--config", "small", "--weights", "int8", "--scale-group", group,
                  "--json").json
    assert result["scale_group"] == group and result["matches_reference"]


def test_refused_scales(gemm):
    gemm(1, 1, 1, "--scale-group", 32).refused("--scale-group", "8 bits, not fp16")
    gemm(1, 1, 1, "--scale-group", 33, "--weights", "int8").refused("33 elements", "multiple of 32")
    gemm(1, 1, 1, "--scale-group", 8192, "--weights", "int8").refused("8192", "up to 8160")


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 20, 33), (2, 8, 16)])
def test_transposed(gemm, m, n, k):
    result = gemm(m, n, k, "--config", "small", "--channels", 2, "--transpose", "--json").json
    assert result["transpose"] and result["matches_reference"]
    assert result["weight_bytes"] == 2 * n * k


def test_refused_transposed(gemm):
    gemm(1, 1, 1, "--transpose", "--weights", "int8").refused("--transpose", "16 bits")
    gemm(1, 1, 1, "--transpose", "--config", "small", "--set", "tile.depth=8").refused(
        "rows as they are deep")


@pytest.mark.parametrize("kernel, weight_bytes", [
    (("ffn", "--m", 3, "--hidden", 20, "--intermediate", 30), 6 * 20 * 30),
    (("ffn", "--m", 3, "--hidden", 20, "--intermediate", 30, "--function", "gelu", "--channels", 2),
     6 * 20 * 30),
    (("attention", "--heads", 3, "--group", 2, "--context", 20, "--size", 8), 4 * 3 * 20 * 8)])
def test_networks_and_attention(logicpim, kernel, weight_bytes):
    argv = ("bench", *kernel, "--backend", "reference", "--config", "small")
    result = logicpim(*argv, "--json").json
    assert KEYS <= set(result)
    assert result["matches_reference"] is True and result["weight_bytes"] == weight_bytes
    shown = logicpim(*argv)
    assert "{" not in shown.out and "equals the reference  yes" in shown.out
    logicpim(*argv, "--set", "functions=false").refused("functions=true")
    logicpim(*argv, "--set", "input_buffer_bytes=128").refused("enlarge them")
