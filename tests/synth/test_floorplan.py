# SPDX-License-Identifier: BSD-2-Clause
"""The floor plan: every place is there and given once, and neighbours are neighbours."""

import re

import pytest

from logicpim.spec.presets import PRESETS, load_config
from logicpim.synth import floorplan

BEL = re.compile(r"X(\d+)/Y(\d+)/(?:EBR([0-3])|MULT18_([0145]))")


def cell(kind):
    return {"type": kind, "attributes": {}, "connections": {}}


def netlist(config, bank_slices=32):
    """Modules as Yosys leaves those of a channel: shared ones once, for all their instances."""
    tile, made = config.tile, {}

    def module(name, **cells):
        made[name] = {"attributes": {}, "cells": {k.replace("__", "."): cell(v) if isinstance(
            v, str) else v for k, v in cells.items()}}

    cells = config.line_bits // (16 * tile.rows)
    each = max(1, tile.rows // 2)
    module("line_memory", **{f"cell_{c}__0__{j}": floorplan.RAM
                             for c in range(cells) for j in range(each)})
    module("bank", **{f"memory__0__{j}": floorplan.RAM for j in range(bank_slices)})
    module("unit", other="LUT4", **{f"dot__product_product_{e}_DI": floorplan.MULTIPLIER
                                    for e in range(tile.depth)})
    module("gemm", divider=floorplan.MULTIPLIER, **{
        f"tile__pu_{t}_{r}": "unit" for t in range(tile.tokens) for r in range(tile.rows)})
    module("top", chan__gemm="gemm", dram__bank_0_0="bank", dram__bank_0_1="bank",
           input_buffer__lines="line_memory", temp_buffer__lines="line_memory",
           host__storage__0__0=floorplan.RAM, frames__memory__0__0=floorplan.RAM)
    return made


def placed(modules, name="top", path=""):
    """Path to (column, row, what) of every fixed cell, and the paths of the others."""
    found, left = {}, []
    for inner, c in modules[name]["cells"].items():
        here = f"{path}.{inner}"
        if c["type"] in modules:
            more, others = placed(modules, c["type"], here)
            found, left = found | more, left + others
        elif "BEL" in c["attributes"]:
            x, y, ram, multiplier = BEL.fullmatch(c["attributes"]["BEL"]).groups()
            offset = 2 * int(ram) if ram else int(multiplier)
            assert int(x) - offset in floorplan.GROUPS
            rows = floorplan.RAM_ROWS if ram else floorplan.MULTIPLIER_ROWS
            assert int(y) in rows and (c["type"] == floorplan.RAM) == bool(ram)
            found[here] = int(x), int(y), ram or multiplier
        else:
            left.append(here)
    return found, left


CONFIGS = [[], ["tile.tokens=4"], ["tile.tokens=1"], ["tile.depth=16", "dram.rows=32"],
           ["tile.tokens=1", "tile.depth=4", "tile.groups=1", "dram.rows=16", "dram.columns=8"],
           ["tile.rows=4", "dram.bundle_banks=4", "dram.banks_per_group=2"]]


@pytest.mark.parametrize("overrides", CONFIGS, ids=lambda o: "-".join(o) or "preset")
def test_places(overrides):
    config = load_config("ulx3s-85f", overrides)
    modules = netlist(config)
    count = floorplan.place(modules, "top", config)
    found, left = placed(modules)
    assert count == len(found) == len(set(found.values()))
    # What it does not know is the placer's.
    assert {path.rpartition(".")[2] for path in left} <= {"0", "divider", "other"}
    assert [p for p in left if p.endswith(".0")] == [".frames.memory.0.0"]


def test_neighbours():
    """Of 64 multipliers: each unit's in a row, a token's slices in one, equal bits in columns."""
    config = load_config("ulx3s-85f", ["tile.tokens=4"])
    modules = netlist(config)
    floorplan.place(modules, "top", config)
    found, _ = placed(modules)
    starts = {}
    for t in range(4):
        for r in range(2):
            unit = [place for path, place in found.items() if f".pu_{t}_{r}." in path]
            assert len(unit) == 8 and len({y for _, y, _ in unit}) == 1
            assert max(x for x, *_ in unit) - min(x for x, *_ in unit) < 3 * 9
            starts.setdefault(unit[0][1], []).append(min(x for x, *_ in unit))
    # Units have equal shares of their row, for the logic around them.
    assert [len(row) for row in starts.values()] == [4, 4]
    assert all(b - a > 24 for row in starts.values() for a, b in zip(row, row[1:], strict=False))
    rows = [{y for path, (_, y, _) in found.items()
             if (m := re.search(r"_buffer\.lines\.cell_(\d+)\.", path)) and int(m[1]) // 8 == t}
            for t in range(4)]
    # Tokens 0 and 2 get the same data, and are neighbours.
    assert rows == [{22}, {70}, {46}, {82}]
    for c in range(4):      # its slice of the other beat and of the other buffer is near
        columns = [found[f".{buffer}_buffer.lines.cell_{c + 4 * beat}.0.0"][0]
                   for buffer in ("input", "temp") for beat in (0, 1)]
        assert max(columns) - min(columns) <= 13 * 9 / 4


def test_more_than_there_are():
    """The rest is left to the placer, which says that they do not fit."""
    config = PRESETS["ulx3s-85f"]
    modules = netlist(config, bank_slices=120)
    floorplan.place(modules, "top", config)
    found, left = placed(modules)
    assert sum(y in floorplan.RAM_ROWS for _, y, _ in found.values()) == 4 * floorplan.SITES
    assert any("memory" in path for path in left if "bank" in path)
