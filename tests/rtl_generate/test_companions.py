# SPDX-License-Identifier: BSD-2-Clause
"""What travels with the Verilog: names, core file, set-ups of viewers, all true of it."""

import json
import re

import pytest

from logicpim.rtl.generate.artefacts import artefacts
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import Opcode
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


STACK = {"stack": True, "channels": 2}


@pytest.fixture(scope="module", params=[{}, {"host": "axi"}, STACK, {"host": "axi", **STACK}],
                ids=["channel", "axi_channel", "stack", "axi_stack"])
def generated(request):
    """(files, body of each module by name)."""
    files, _ = artefacts(SMALL.replace(**request.param))
    text = "".join(text for name, text in files.items() if name.endswith(".v"))
    return files, dict(re.findall(r"^module (\w+)\(.*?;\n(.*?)^endmodule", text, re.M | re.S))


def follow(names, path):
    """(module, signal) in Verilog of a path of Amaranth."""
    *instances, signal = path.split(".")
    module = names["top"]
    for instance in instances:
        module = names["modules"][module]["instances"][instance][1]
    return module, names["modules"][module]["signals"].get(signal, signal)


def test_names(generated):
    files, bodies = generated
    names = json.loads(files["names.json"])
    assert names["modules"].keys() == bodies.keys()
    assert names["top"] == json.loads(files["manifest.json"])["top"]
    for title, module in names["modules"].items():
        for instance, kind in module["instances"].values():
            assert f"  {kind} {instance} (\n" in bodies[title] and kind in bodies
        declared = re.findall(r"^  (?:wire|reg|input|output) (?:\[\d+:\d+\] )?(\w+(?:, \w+)*)",
                              bodies[title], re.M)
        assert set(module["signals"].values()) <= set(", ".join(declared).split(", "))
    inner = {"channel": "", "axi_channel": "channel.", "stack": "controller.",
             "axi_stack": "stack.controller."}[names["top"]]
    module, signal = follow(names, f"{inner}decoder.i__ready")
    assert re.search(rf"^  output {signal};$", bodies[module], re.M)
    with pytest.raises(KeyError):
        follow(names, f"{inner}none.signal")
    renamed = [(ours, verilog) for module in names["modules"].values()
               for ours, verilog in module["signals"].items()]
    assert len(renamed) > 50 and all(ours != verilog for ours, verilog in renamed)
    assert all(re.fullmatch(r"[A-Za-z_]\w*", verilog) for _, verilog in renamed)


def test_core_file(generated):
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    files, _ = generated
    first, _, rest = files["logicpim.core"].partition("\n")
    core = yaml.safe_load(rest)
    assert first == "CAPI=2:"
    assert core["filesets"]["rtl"]["files"] == files["channel.f"].split()
    assert core["filesets"]["waivers"]["files"] == ["lint.vlt"]
    assert core["targets"]["default"]["toplevel"] == json.loads(files["manifest.json"])["top"]
    assert core["targets"]["lint"]["toplevel"] == core["targets"]["default"]["toplevel"]


def test_translations(generated):
    files, _ = generated
    assert files["dram.gtkw.txt"].split("\n")[DramCommand.ALL_RD] == "A ALL_RD"
    assert f"{Opcode.GEMM:02X} GEMM\n" in files["opcode.gtkw.txt"]
    head, bits, *lines = files["opcode.surfer.txt"].splitlines()
    assert (head, bits) == ("Name = logicpim_opcode", "Bits = 8")
    assert lines == [f"{o.value} {o.name}" for o in Opcode]


@pytest.mark.parametrize("simulator, scope", [("verilator", "TOP."), ("icarus", "")])
def test_viewers(generated, simulator, scope):
    """Every signal is one of the Verilog, as wide as it is said to be; every translation exists."""
    files, bodies = generated
    top = json.loads(files["manifest.json"])["top"]
    shown = re.findall(r"(?:^|\))(?:TOP\.)?(\w+(?:\.\w+)+)(?:\[(\d+):0\])?",
                       files[f"{simulator}.gtkw"], re.M)
    assert len(shown) > 20
    for path, most in shown:
        assert path.startswith(f"{top}.")
        *where, name = path.split(".")
        width = rf"\[{most}:0\] " if most else ""
        declared = rf"^  (?:wire|input|output) {width}(?:\w+, )*{name}(?:, \w+)*;$"
        assert re.search(declared, bodies["__".join(where)], re.M), path
    for name in re.findall(r"^\^1 (.*)$", files[f"{simulator}.gtkw"], re.M):
        assert name in files
    paths = re.findall(r"^variable_add (\S+)$", files[f"{simulator}.sucl"], re.M)
    assert paths == list(dict.fromkeys(scope + path for path, _ in shown))
    for name in re.findall(r"^item_set_format logicpim_(\w+)$", files[f"{simulator}.sucl"], re.M):
        assert f"{name}.surfer.txt" in files
