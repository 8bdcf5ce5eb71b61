# SPDX-License-Identifier: BSD-2-Clause
"""Room for wires on an LFE5U-85F: rows of LUTs that a placer has to leave out.

nextpnr's placer `static` draws cells together until some two thirds of the LUTs around them are
used, however empty the rest of the device is, and around its buffers a channel has more wires than
fit there. LUTs without a wire, fixed in whole rows (a carry chain runs along one), keep it from
that.
"""

COLUMNS = range(2, 125)
"""Of tiles with eight LUTs, as nextpnr numbers them."""

ROWS = tuple(y for y in range(2, 94) if y % 12 != 10)
"""Of these too: every twelfth row has block RAM or multipliers instead."""

SLOTS = tuple(f"SLICE{slice}.K{lut}" for slice in "ABCD" for lut in (0, 1))

FILL = 0.62
"""Share of the LUTs of the other rows that are to be used, by :data:`LUTS`."""

MOST = len(ROWS) // 3

LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}
"""Of each kind of Yosys' cells; ends of carry chains, a few per cent more, are not counted."""


def rows_left_out(luts: int) -> list[int]:
    """The rows, evenly over the device: as many as leave :data:`FILL`, but at most a third."""
    needed = luts / (FILL * len(COLUMNS) * len(SLOTS))
    count = max(0, min(MOST, int(len(ROWS) - needed)))
    return [ROWS[(2 * i + 1) * len(ROWS) // (2 * count)] for i in range(count)]


def luts_of(modules: dict, name: str) -> int:
    """LUTs of a module of a netlist and of those in it, each as often as it is there."""
    found = {}

    def count(kind):
        if kind not in found:
            cells = modules[kind]["cells"].values() if kind in modules else ()
            found[kind] = LUTS.get(kind, 0) + sum(count(cell["type"]) for cell in cells)
        return found[kind]

    return count(name)


def spread(modules: dict, top: str) -> int:
    """Puts the fixed LUTs into the modules of a netlist of Yosys; returns how many they are."""
    cells, luts = modules[top]["cells"], luts_of(modules, top)
    pins = {"A": "input", "B": "input", "C": "input", "D": "input", "Z": "output"}
    fixed = {}
    for y in rows_left_out(luts):
        for x in COLUMNS:
            for slot in SLOTS:
                place = f"X{x}/Y{y}/{slot}"
                fixed[f"left_out/{place}"] = {
                    "hide_name": 0, "type": "LUT4", "parameters": {"INIT": "0" * 16},
                    "attributes": {"BEL": place}, "port_directions": pins,
                    "connections": {pin: [] for pin in pins}}
    cells.update(fixed)
    return len(fixed)
