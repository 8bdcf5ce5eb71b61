# SPDX-License-Identifier: BSD-2-Clause
"""Which kernels a cost table has: grids of sizes that follow from a configuration."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from ..placement.cost_table import KERNELS
from ..spec.config import Config
from ..spec.isa import BYTE_FORMATS, Format
from .measure import fits

GRIDS = ("small", "full")


def points(config: Config, grid: str, weights: tuple[str, ...], bundles: tuple[int, ...],
           scale_group: int = 0) -> list[dict]:
    """The points of all grids, in the order in which they are measured.

    Where the largest kernel of a grid has no room its longest axis is cut until it has.
    """
    found = []
    for same, axes in _grids(config, grid, weights, bundles, scale_group):
        names = KERNELS[same["kernel"]][1]
        while not fits(config, same | {name: axes[name][-1] for name in names}):
            longest = max((name for name in names if len(axes[name]) > 1),
                          key=lambda name: axes[name][-1] / axes[name][0], default=None)
            if longest is None:
                break
            axes[longest] = axes[longest][:-1]
        else:
            found += [same | dict(zip(names, at, strict=True))
                      for at in product(*(axes[name] for name in names))]
    return found


def held_out(config: Config, rows: list[dict], each: int, seed: int = 1) -> list[dict]:
    """Points at random inside the grids, ``each`` for a grid, that are none of its points."""
    grids: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (row["kernel"], *(row[name] for name in KERNELS[row["kernel"]][0]))
        grids.setdefault(key, []).append(row)
    random, found = np.random.default_rng(seed), []
    for (kernel, *_), inside in sorted(grids.items(), key=str):
        same, sizes = KERNELS[kernel]
        fixed = {name: inside[0][name] for name in ("kernel", *same, "scale_group")
                 if name in inside[0]}
        axes = {name: sorted({row[name] for row in inside}) for name in sizes}
        if all(len(axis) == 1 for axis in axes.values()):
            continue
        known = {tuple(row[name] for name in sizes) for row in inside}
        for _ in range(each):
            # By the logarithm: as many between two small points as between two large ones.
            at = {name: round(float(axis[0] * (axis[-1] / axis[0]) ** random.random()))
                  for name, axis in axes.items()}
            if tuple(at.values()) not in known and fits(config, fixed | at):
                known.add(tuple(at.values()))
                found.append(fixed | at)
    return found


def _grids(config: Config, grid: str, weights, bundles, scale_group) -> Iterator[tuple[dict, dict]]:
    """(what must be equal, sizes by name) of each grid."""
    tokens, unit, rows = config.tile.tokens, config.granule_elements, config.tile.rows
    full = grid == "full"

    def of(*multiples, unit=unit):
        return [unit * multiple for multiple in multiples]

    for name, b in product(weights, bundles):
        resident = config.pass_tokens(Format[name.upper()])
        groups = [t for t in (range(tokens, resident, tokens) if full else (tokens, 2 * tokens))
                  if t < resident]
        scaled = {"scale_group": scale_group} if Format[name.upper()] in BYTE_FORMATS else {}
        m = sorted({1, max(1, tokens // 2), *groups, resident, 2 * resident})
        yield {"kernel": "gemm", "weights": name, "bundles": b, **scaled}, {
            "m": m, "n": of(1, 4, 16, 64, unit=rows) if full else of(1, 8, 32, unit=rows),
            "k": of(1, 4, 8, 32, 128, 256) if full else of(1, 4, 8, 64)}
    if config.functions and "fp16" in weights:
        resident = config.pass_tokens(Format.FP16)
        m = sorted({1, max(1, tokens // 2), tokens, *([2 * tokens] if full else []), resident,
                    2 * resident})
        for b in bundles:
            yield {"kernel": "ffn", "weights": "fp16", "bundles": b}, {
                "m": m, "hidden": of(1, 8, 16, 32, 64, 256) if full else of(1, 8, 32, 64),
                "inner": of(1, 4, 16, 32) if full else of(1, 16)}
        # How many rows of DRAM a head's words lie in goes up and down with their number.
        for b in bundles:
            yield {"kernel": "attention", "bundles": b}, {
                "group": sorted({1, max(1, tokens // 2), tokens, *([2 * tokens] if full else [])}),
                "heads": [1, 2, 4] if full else [1, 3],
                "context": of(1, 4, 16, 64, 256) if full else of(1, 4, 8, 32),
                "size": of(1, 2, 4, 5, 6, 7, 8, 16) if full else of(1, 4, 5, 6, 7, 8)}
        short = [1, max(1, tokens // 2), tokens]
        for kernel in ("activate", "softmax"):
            yield {"kernel": kernel}, {
                "m": sorted({*short, *([2 * tokens] if kernel == "softmax" else [])}),
                "n": of(1, 4, 16, 64, 256) if full else of(1, 4, 32)}
