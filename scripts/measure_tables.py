# SPDX-License-Identifier: BSD-2-Clause
"""Measures the tables of docs/bandwidth.md and docs/results.md again and prints their rows.

From the repository's root: ``.venv/bin/python scripts/measure_tables.py [TABLE ...]``. Clocks are
exact and repeat anywhere; all of it takes some minutes.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

LOGICPIM = Path(sys.executable).with_name("logicpim")
ALL_BANK = "--set 'refresh_kind=\"all\"'"
GRADES = ("hbm3-6.4", "hbm3e-8.0", "hbm3e-9.6", "hbm2-2.0")


def bench(options: str, command: str = "gemm --config channel") -> dict:
    """What ``logicpim bench`` says; raises where the RTL is not the golden model."""
    done = subprocess.run([LOGICPIM, "bench", *shlex.split(f"{command} {options}"), "--json"],
                          stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    if not result["matches_reference"]:
        raise SystemExit(f"{options}: the RTL differs from the golden model")
    return result


def share(value: float) -> str:
    """Three digits, four where three would be 1."""
    return f"{value:.4f}" if value > 0.9975 else f"{value:.3f}"


def row(*cells) -> None:
    print("|", " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells), "|")


def by_bundles(name: str, options: str, tokens=(1,)) -> None:
    for m in tokens:
        for bundles in (1, 2, 4):
            r = bench(f"--m {m} --n 4096 --k 4096 --bundles {bundles} {options}")
            row(name if (m, bundles) == (tokens[0], 1) else "", bundles, m, r["cycles"],
                share(r["bandwidth_efficiency"]), share(r["bandwidth_bound"]),
                f"{r['of_bound']:.3f}")


def bundles() -> None:
    by_bundles("(default: refresh, stagger)", "", (1, 8))
    for options in ("--set stagger=false", "--no-refresh", ALL_BANK):
        by_bundles(f"`{options}`", options)


def memories() -> None:
    for grade in GRADES:
        by_bundles(f"`{grade}`", f"--set 'timing=\"{grade}\"'")


def small() -> None:
    sizes = [16 << 10 << i for i in range(8)] + [32 << 20]
    found = [bench(f"--m 1 --k 1024 --bundles 4 --n {size // 2048}") for size in sizes]
    row("cycles", *(r["cycles"] for r in found))
    row("efficiency", *(share(r["bandwidth_efficiency"]) for r in found))


def kernel() -> None:
    plain = f"--bundles 1 --set stagger=false {ALL_BANK}"
    for options, tokens in (("", (1, 8, 16, 32)), ("--bundles 2", (1,)), ("--bundles 1", (1,)),
                            (plain, (1, 8))):
        for m in tokens:
            r = bench(f"--m {m} --n 1024 --k 4096 {options}")
            stalls = r["stalls"]
            other = sum(stalls.values()) - stalls["activate"] - stalls["refresh"]
            row(f"`{options}`" if m == tokens[0] else "", m, r["cycles"],
                share(r["bandwidth_efficiency"]), share(r["mac_utilisation"]),
                f"{r['of_bound']:.3f}", stalls["activate"], stalls["refresh"], other)
    for m in (8, 16, 32):
        r = bench(f"--m {m} --n 2048 --k 4096 --bundles 1 --no-refresh")
        row(m, r["cycles"], share(r["bandwidth_efficiency"]), share(r["mac_utilisation"]))
        print(r["stalls"])


def bytes_() -> None:
    for options, tokens in (("", (1, 2, 3, 4)), ("--bundles 1 --no-refresh", (1, 2, 3, 4))):
        for m in tokens:
            size = f"--m {m} --n 2048 --k 4096 {options}"
            formats = "--set 'formats=[\"fp16\",\"int8\"]'"
            wide = bench(f"{size} {formats}")["cycles"]
            narrow = [bench(f"{size} --weights int8 {group}")["cycles"]
                      for group in ("", "--scale-group 0", "--scale-group 128")]
            row(f"`{options}`" if m == 1 else "", m, wide,
                *(f"{n:,} ({n / wide:.3f})" for n in narrow))


def transpose() -> None:
    for m, n, k, option in ((8, 128, 512, "--transpose"), (4, 128, 4096, "--transpose"),
                            (8, 128, 4096, "--transpose"), (8, 32, 4096, "--transpose"),
                            (8, 128, 32768, "--transpose"), (8, 128, 4096, "")):
        r = bench(f"--m {m} --n {n} --k {k} {option}")
        row(m, n, k, option, r["cycles"], share(r["bandwidth_efficiency"]))


def networks() -> None:
    for count in (2, 4):
        r = bench(f"--m 4 --hidden 4096 --intermediate 448 --bundles {count}",
                  "ffn --config channel")
        row("ffn", count, r["cycles"], share(r["bandwidth_efficiency"]), r["stalls"])
    for heads in (1, 8):
        r = bench(f"--heads {heads} --group 8 --context 4096 --bundles 2",
                  "attention --config channel")
        row("attention", heads, r["cycles"], share(r["bandwidth_efficiency"]), r["stalls"])


TABLES = {"bundles": bundles, "memories": memories, "small": small, "kernel": kernel,
          "bytes": bytes_, "transpose": transpose, "networks": networks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="*", metavar="TABLE",
                        help=f"{', '.join(TABLES)}; all if none is named")
    chosen = parser.parse_args().table or list(TABLES)
    if unknown := set(chosen) - set(TABLES):
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    for name in chosen:
        print(f"\n{name}", flush=True)
        TABLES[name]()


if __name__ == "__main__":
    main()
