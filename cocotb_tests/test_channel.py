# SPDX-License-Identifier: BSD-2-Clause
"""Runs every bench on every simulator; a bench that fails there fails here."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ["gemm", "control", "traffic", "functions", "attention"]
WITH_FUNCTIONS = ["functions", "attention"]

# Refresh takes a bundle from its owner one clock in five, so that every kernel meets it.
BUSY_REFRESH = ["timing_overrides.nRFCSB=60", "timing_overrides.nREFI=600", "postpone=1",
                "timing_overrides.nREFMAX=5400", "timing_overrides.nRFC=60"]


def run(simulator, bench, config, overrides=(), timeout=900, only=""):
    command = [sys.executable, "-m", "cocotb_tests.simulate", simulator, bench,
               "--config", config, *(f"--set={text}" for text in overrides), f"--only={only}"]
    print("repeat with: " + " ".join(["python", *command[1:]]))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"no end after {timeout} s:\n{output[-5000:]}", pytrace=False)
    print(output[-20000:])
    if process.returncode:
        failed = [line for line in output.splitlines() if " failed" in line and "ERROR" not in line]
        pytest.fail("\n".join([*failed, output.splitlines()[-1]]), pytrace=False)


simulators = pytest.mark.parametrize(
    "simulator", ["verilator", pytest.param("icarus", marks=pytest.mark.icarus)])


@pytest.mark.parametrize("simulator, bench", [
    *(("verilator", bench) for bench in BENCHES),
    *(pytest.param("icarus", bench, marks=[
        pytest.mark.icarus, *([pytest.mark.full] if bench == "attention" else [])])
      for bench in BENCHES)])
def test_small(simulator, bench):
    # Two function modules that do nothing make Icarus two to three times as slow.
    without = ["functions=false"] if simulator == "icarus" and bench not in WITH_FUNCTIONS else []
    run(simulator, bench, "small", BUSY_REFRESH + without)


@pytest.mark.icarus
def test_attention_in_icarus():
    """The one of its benches that has most in it."""
    run("icarus", "attention", "small", BUSY_REFRESH, only="contexts_in_a_batch")


@pytest.mark.full
@simulators
@pytest.mark.parametrize("bench", [*BENCHES, "integrity"])
def test_ecc(simulator, bench):
    run(simulator, bench, "small", [*BUSY_REFRESH, "ecc=true"])


@simulators
def test_axi(simulator):
    run(simulator, "axi", "small", [*BUSY_REFRESH, 'host="axi"'])


STACK = ["stack=true", "channels=4", 'host="axi"']


@pytest.mark.icarus
def test_small_stack():
    run("icarus", "axi_stack", "small", [*BUSY_REFRESH, *STACK, "channels=2"])


@pytest.mark.full
@simulators
@pytest.mark.parametrize("bench", ["axi", "axi_stack"])
def test_stack(simulator, bench):
    """Of a channel of a stack the same as of one alone; and what only a stack has."""
    run(simulator, bench, "small", [*BUSY_REFRESH, *STACK])


@pytest.mark.full
@pytest.mark.parametrize("more", [["axi_data_bits=64"], ["axi_data_bits=32", "axi_id_bits=7"]])
def test_narrow_axi(more):
    """Of a bus narrower than a granule, and than a cell of the buffers."""
    run("verilator", "axi", "small", ['host="axi"', *more])


@pytest.mark.full
@pytest.mark.parametrize("bench", BENCHES)
def test_channel(bench):
    run("verilator", bench, "channel", timeout=3000)
