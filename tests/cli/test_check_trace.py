# SPDX-License-Identifier: BSD-2-Clause
"""``check-trace`` on files made by hand."""

HEADER = "clock,channel,command,rank,bank_group,bank,row,column\n"
LEGAL = HEADER + """\
100,0,ACT,0,1,2,7,
119,0,RD,0,1,2,,3
100,1,PART_ACT,1,0,3,9,
139,1,PART_ACT,1,1,3,9,
164,1,ALL_RD,1,,3,,31
"""


def test_legal(logicpim, tmp_path):
    (tmp_path / "t.csv").write_text(LEGAL)
    result = logicpim("check-trace", "t.csv", "--dram", "hbm3-5.2", "--json").json
    assert result["legal"] and result["commands"] == 5 and result["channels"] == 2
    assert result["messages"] == [] and result["dram"] == "hbm3-5.2"


def test_too_soon_for_a_faster_one(logicpim, tmp_path):
    """The same clocks are too few at 6.4 Gb/s; each message names both commands."""
    (tmp_path / "t.csv").write_text(LEGAL)
    result = logicpim("check-trace", "t.csv", "--dram", "hbm3-6.4")
    assert result.status == 1 and "violations" in result.out.splitlines()[-1]
    line = next(line for line in result.out.splitlines() if "nRCDRD" in line)
    assert "channel 0" in line and "RD rank 0" in line and "ACT rank 0" in line
    assert line.endswith(": 19, required 23")


def test_refresh_is_owed(logicpim, tmp_path):
    (tmp_path / "t.csv").write_text(LEGAL)
    late = ["check-trace", "t.csv", "--end", 10 ** 6]
    assert logicpim(*late).status == 1
    assert logicpim(*late, "--no-refresh").status == 0


def test_refused(logicpim, tmp_path):
    (tmp_path / "t.csv").write_text(HEADER + "1,0,JUMP,,,,,\n")
    logicpim("check-trace", "t.csv").refused("t.csv line 2", "JUMP")
    logicpim("check-trace", "nowhere.csv").refused("nowhere.csv")
    logicpim("check-trace", "t.csv", "--dram", "ddr9").refused("--dram", "ddr9")
