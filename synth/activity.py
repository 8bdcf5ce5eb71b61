# SPDX-License-Identifier: BSD-2-Clause
"""How often each net of a GEMM module's gates changes while a channel runs.

The channel is the generated Verilog; of each kind of shared module below the GEMM module some
instances are put in as their netlists, and these are recorded. All others are equal to them but
for their data, and gates cost a simulator a hundred times what the Verilog does.
"""

import re
from dataclasses import dataclass

from logicpim.rtl.generate.artefacts import WAIVER, artefacts
from logicpim.spec.config import Config

from .area import SIZED_FOR
from .cells import kept
from .liberty import Library
from .modules import choose
from .netlist import INSTANCE, models
from .units import units

PREFIX = "logicpim_"
_NODE = re.compile(r"\(INSTANCE (\S+)|\(NET\b|\((\S+) \(T0 (\d+)\) \(T1 (\d+)\).*?\(TC (\d+)\)\)"
                   r"|\(|\)")


@dataclass(frozen=True)
class Sampled:
    """A channel's Verilog, some instances of which are netlists.

    Attributes
    ----------
    texts : dict of str to str
        Verilog and the waiver by file name, as :func:`.netlist.simulator` takes them.
    netlists : dict of str to str
        Of each kind of module, its netlist.
    instances : dict of str to tuple of str
        Names of the instances that are netlists, by kind.
    counts : dict of str to int
        Instances in the GEMM module, by kind.
    """

    texts: dict[str, str]
    netlists: dict[str, str]
    instances: dict[str, tuple[str, ...]]
    counts: dict[str, int]


def sample(config: Config, library: Library, each: int, note=lambda text: None) -> Sampled:
    """Put netlists in the place of ``each`` instances of every kind, spread over the tile.

    Modules without flip-flops or with memories stay as they are, as does what is there once.

    Parameters
    ----------
    config : Config
        Of one channel.
    library : Library
    each : int
    note : callable, optional
        Told in a line of text what takes long.
    """
    choice = choose(config, "gemm")
    texts, _ = artefacts(config.replace(name="model"))
    parts = [unit for unit in units(choice.make, choice.name)
             if unit.registers and not unit.memory_bits and unit.name != choice.name]
    netlists = {}
    for unit in parts:
        note(f"synthesising {unit.name}")
        folder = kept(unit, library, SIZED_FOR * 1e12 / config.clock_hz)
        netlists[unit.name] = (folder / "netlist.v").read_text()
    gemm, instances, counts = texts[f"{PREFIX}gemm.v"], {}, {}
    for kind in netlists:
        names = re.findall(rf"^  {PREFIX}{kind} (\S+) \($", gemm, re.MULTILINE)
        counts[kind] = len(names)
        chosen = names[::-(-len(names) // each)] if names else ()
        for name in chosen:
            gemm = gemm.replace(f"  {PREFIX}{kind} {name} (", f"  {kind} {name} (")
        instances[kind] = tuple(name.lstrip("\\") for name in chosen)
    for kind, text in netlists.items():     # what stands in others of them
        for inner in netlists:
            names = re.findall(rf"^  {inner} (\S+)\s+\($", text, re.MULTILINE)
            counts[inner] += len(names) * counts[kind]
            instances[inner] += tuple(name.lstrip("\\") for name in names)
    used = {kind for text in netlists.values() for kind in INSTANCE.findall(text)}
    texts = {name: text for name, text in texts.items() if name.endswith(".v") or name == WAIVER}
    rtl = [name for name in texts if name.endswith(".v")]
    texts |= {f"{PREFIX}gemm.v": gemm, "cells.v": models(library, used & library.areas.keys()),
              **{f"{kind}.v": text for kind, text in netlists.items()}}
    # An instance is recorded if the file that it stands in is, and that of its module.
    seen = [f"{PREFIX}gemm.v", *(f"{kind}.v" for kind in netlists)]
    texts[WAIVER] += "".join(f'tracing_off -file "{name}"\n' for name in [*rtl, "cells.v"]
                             if name not in seen)
    texts[WAIVER] += "".join(f'tracing_on -file "{name}"\n' for name in seen)
    return Sampled(texts, netlists, instances, counts)


def read(saif: str) -> dict[str, list[dict[str, tuple[int, int, int]]]]:
    """Of a SAIF file as Verilator's: by name, of each instance that has it, its nets' time at 0,
    time at 1, changes."""
    found, path, depth = {}, [], 0      # path: (nets of the instance, depth of its bracket)
    for node in _NODE.finditer(saif):
        if node[2]:
            path[-1][0][node[2].replace("\\", "")] = tuple(int(node[i]) for i in (3, 4, 5))
        elif node[0] == ")":
            depth -= 1
            if path and path[-1][1] == depth:
                path.pop()
        else:
            if node[1]:
                path.append(({}, depth))
                found.setdefault(node[1].replace("\\", ""), []).append(path[-1][0])
            depth += 1
    return found


def clocks(instances) -> int:
    """How many clocks were recorded, of instances as :func:`read` gives them."""
    low, high, _ = next(iter(instances[0].values()))
    return (low + high) // 2    # the harness records each half of a clock


def mean(instances) -> dict[str, tuple[float, float]]:
    """By net: changes in a clock, and the part of the time it is 1; over all instances."""
    time = 2 * clocks(instances) * len(instances)
    return {net: (2 * sum(nets[net][2] for nets in instances) / time,
                  sum(nets[net][1] for nets in instances) / time) for net in instances[0]}
