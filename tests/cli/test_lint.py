# SPDX-License-Identifier: BSD-2-Clause
"""``lint``: tools judge a generated folder; its status says what they found."""

import pytest

SMALL = ("generate", "--config", "small", "--set", "functions=false", "-o", "out")


def test_clean_and_not(logicpim, tmp_path):
    assert logicpim(*SMALL).status == 0
    result = logicpim("lint", "out", "--json").json
    assert result["clean"] and result["top"] == "channel" and result["parts"] == 1
    assert result["modules"] > 50 and {"verilator", "yosys"} <= result["messages"].keys()
    path = tmp_path / "out" / "channel.v"
    path.write_text(path.read_text().replace(
        "endmodule", "  reg latch;\n  always @* if (clk) latch = rst;\nendmodule", 1))
    done = logicpim("lint", "out")
    assert done.status == 1 and "LATCH" in done.out and "verilator: " in done.out


@pytest.mark.parametrize("text", [None, "{}", "[]", "no JSON"])
def test_refused(logicpim, tmp_path, text):
    (tmp_path / "out").mkdir()
    if text is not None:
        (tmp_path / "out" / "manifest.json").write_text(text)
    logicpim("lint", "out").refused("out has no manifest.json", "logicpim generate")
