# SPDX-License-Identifier: BSD-2-Clause
"""What every kernel's measurement says, as keys and for people."""

from ..driver.stats import Stats
from ..spec.config import Config
from .io import count, percent


def figures(config: Config, stats: Stats, timed: bool, matches: bool, setup: float, wall: float
            ) -> dict:
    """The keys that all kernels have; clocks are None where the device is untimed."""
    return {
        "cycles": stats.cycles if timed else None,
        "weight_bytes": stats.weight_bytes,
        "bandwidth_efficiency": stats.bandwidth_efficiency(config),
        "mac_utilisation": stats.mac_utilisation(config),
        "active": stats.active if timed else None,
        "stalls": stats.stalls if timed else {},
        "words_read": stats.words_read if timed else None,
        "refreshes": stats.refreshes if timed else None,
        "matches_reference": matches,
        "setup_s": setup,
        "wall_s": wall,
        "cycles_per_s": stats.cycles / wall if timed else None,
        "macs_per_s": stats.macs / wall,
    }


def rows(r: dict) -> list[tuple[str, str]]:
    """The same for people: what and how much."""
    return [
        ("cycles", count(r["cycles"])),
        ("weight bytes", count(r["weight_bytes"])),
        ("bandwidth efficiency", percent(r["bandwidth_efficiency"])),
        ("MAC utilisation", percent(r["mac_utilisation"])),
        ("tile active", count(r["active"])),
        *((f"stalled: {cause}", count(clocks)) for cause, clocks in r["stalls"].items()),
        ("equals the reference", "yes" if r["matches_reference"] else "NO"),
        ("seconds", f"{r['wall_s']:.2f}"),
        ("cycles a second", count(r["cycles_per_s"])),
        ("MACs a second", count(r["macs_per_s"])),
    ]
