# SPDX-License-Identifier: BSD-2-Clause
"""Energy: changes are put to the right nets, and the tool is told of all of them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from logicpim.cli.main import main
from logicpim.spec.errors import ToolError
from logicpim.synth import activity, power
from logicpim.synth.liberty import Library

LIBERTY = os.environ.get("LOGICPIM_LIBERTY", "").split()

SAIF = r"""// made by hand
(SAIFILE
(SAIFVERSION "2.0")
(DURATION 8)
 (INSTANCE top
  (NET
   (clk (T0 4) (T1 4) (TZ 0) (TX 0) (TB 0) (TC 8))
  )
  (INSTANCE one
   (NET
    (clk (T0 4) (T1 4) (TZ 0) (TX 0) (TB 0) (TC 8))
    (a\[1\] (T0 6) (T1 2) (TZ 0) (TX 0) (TB 0) (TC 2))
   )
   (INSTANCE sum
    (NET
     (x.y\[0\] (T0 8) (T1 0) (TZ 0) (TX 0) (TB 0) (TC 0))
    )
   )
  )
  (INSTANCE two
   (NET
    (clk (T0 4) (T1 4) (TZ 0) (TX 0) (TB 0) (TC 8))
    (a\[1\] (T0 2) (T1 6) (TZ 0) (TX 0) (TB 0) (TC 4))
   )
   (INSTANCE sum
    (NET
     (x.y\[0\] (T0 4) (T1 4) (TZ 0) (TX 0) (TB 0) (TC 4))
    )
   )
  )
 )
)
"""

NETLIST = """\
module unit(a, clk, q);
  input a;
  output q;
  wire _0_;
  assign q = \\s.t[0] ;
  INV _1_ (
    .A(a),
    .Y(_0_)
  );
  DFF \\s.t[0]$_DFF_P_  (
    .CLK(clk),
    .D(_0_),
    .Q(\\s.t[0] )
  );
  other inner (
    .x({ a, _0_ }),
    .clk(clk)
  );
  INV _2_ (
    .A(q),
    .Y(1'h0)
  );
endmodule
"""


class Cells:
    """Stands for a library with these cells."""

    areas = {"INV": 1.0, "DFF": 4.0}


def test_changes_of_equal_instances_are_averaged():
    """Instances of one name, in others of one kind, count each by itself."""
    found = activity.read(SAIF)
    assert found["top"] == [{"clk": (4, 4, 8)}]
    assert found["sum"] == [{"x.y[0]": (8, 0, 0)}, {"x.y[0]": (4, 4, 4)}]
    assert activity.clocks(found["sum"]) == activity.clocks(found["one"] + found["two"]) == 4
    assert activity.mean(found["one"] + found["two"]) == {"clk": (2.0, 0.5), "a[1]": (0.75, 0.5)}
    assert activity.mean(found["sum"]) == {"x.y[0]": (0.5, 0.25)}


def test_a_netlist_is_made_flat():
    verilog, pins = power.flat(NETLIST, Cells)
    assert pins == {"a": ["i0/A"], "_0_": ["i0/Y", "i1/D"], "s.t[0]": ["i1/Q", "i3/A"]}
    assert [line for line in verilog.splitlines() if " i" in line and "input" not in line] == [
        "  INV i0 (.A(n1), .Y(n2));", "  DFF i1 (.CLK(clk), .D(n2), .Q(n3));",
        "  INV i3 (.A(n3));"]


def test_an_unseen_net_is_an_error():
    with pytest.raises(ToolError, match="1 nets of the netlist were not recorded, s.t"):
        power.measure(NETLIST, {"a": (0.0, 0.5), "_0_": (0.0, 0.5)}, Cells, 1000.0)


def test_without_the_timer_nothing_is_begun(monkeypatch, gates, flip_flops, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["energy", "--config", "small", "--liberty", str(gates), str(flip_flops)]) == 2
    assert "OpenSTA (sta) is missing" in capsys.readouterr().err


def test_more_than_an_instruction_is_refused(monkeypatch, gates, flip_flops, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert main(["energy", "--config", "small", "--k", "100000", "--liberty", str(gates),
                 str(flip_flops)]) == 2
    assert "no single instruction of small" in capsys.readouterr().err


def test_order_of_liberty_files_does_not_matter(gates, flip_flops):
    both = [Library(paths).files for paths in ([gates, flip_flops], [flip_flops, gates])]
    assert both[0] == both[1]


@pytest.mark.full
def test_energy_of_small(capsys):
    """Units take most of it; a longer GEMM is better used, so that its MACs take less each."""
    if not LIBERTY or not all(Path(name).exists() for name in LIBERTY) or not shutil.which("sta"):
        pytest.skip("LOGICPIM_LIBERTY names no liberty files of ASAP7, or there is no OpenSTA")
    results = []
    for k in (64, 256):
        assert main(["energy", "--config", "small", "--m", "2", "--n", "16", "--k", str(k),
                     "--liberty", *LIBERTY, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    short, long = results
    assert short["matches_reference"] and long["matches_reference"]
    assert short["modules"]["processing_unit"]["count"] == 8
    unit, adder = (long["modules"][kind]["internal_pj"]
                   for kind in ("processing_unit", "fp32_adder"))
    assert unit > adder > 0
    assert 0.05 < long["pj_per_mac"]["total"] < short["pj_per_mac"]["total"] < 5
