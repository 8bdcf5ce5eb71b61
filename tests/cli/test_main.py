"""The frame of the command line: help, version, one line for what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import logicpim as package
from logicpim.cli import bench
from logicpim.spec.errors import ToolError

COMMAND = Path(sys.executable).parent / "logicpim"


@pytest.mark.parametrize("argv", [[], ["run"], ["bench"], ["bench", "gemm"], ["generate"]])
def test_help_teaches(logicpim, argv):
    result = logicpim(*argv, "--help")
    assert result.status == 0 and result.out.startswith("usage: logicpim")
    assert len(argv) == 1 and argv[0] != "run" or "examples\n  logicpim" in result.out


def test_version(logicpim):
    assert logicpim("--version").out == f"logicpim {package.__version__}\n"


@pytest.mark.parametrize("argv, words", [
    ([], ["COMMAND"]),
    (["fly"], ["'fly'", "run", "bench"]),
    (["bench"], ["KERNEL"]),
    (["bench", "gemm", "--n", "1", "--k", "1"], ["--m"]),
    (["bench", "gemm", "--ch", "1"], []),
    (["run"], ["MODEL_DIR"]),
    (["run", "here"], ["--prompt", "--prompt-ids"]),
    (["run", "here", "--prompt", "x", "--tokens", "0"], ["--tokens", "'0'"]),
    (["run", "here", "--prompt", "x", "--backend", "abacus"], ["abacus", "verilator"]),
])
def test_wrong_words(logicpim, argv, words):
    logicpim(*argv).refused(*words, "--help")


def test_interrupt(logicpim, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(bench, "open_device", interrupted)
    result = logicpim("bench", "gemm", "--m", 1, "--n", 1, "--k", 1)
    assert (result.status, result.out, result.err) == (130, "", "logicpim: interrupted\n")


def test_an_error_is_one_line(logicpim, monkeypatch):
    def broken(*_, **__):
        raise ToolError("it failed:\n  in two lines")
    monkeypatch.setattr(bench, "open_device", broken)
    logicpim("bench", "gemm", "--m", 1, "--n", 1, "--k", 1).refused("it failed: in two lines")


def test_reader_that_leaves():
    command = f"'{COMMAND}' bench gemm --help | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True,
                          env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert done.stderr == ""
