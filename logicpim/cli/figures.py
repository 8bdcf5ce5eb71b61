# SPDX-License-Identifier: BSD-2-Clause
"""What every kernel's measurement is told, and what it says, as keys and for people."""

from collections.abc import Callable

from ..driver.backends import BACKENDS, SIMULATED
from ..driver.stats import Stats
from ..spec.config import Config
from .io import add_bundles_option, add_config_options, add_json_option, count, percent, whole
from .trace import add_trace_option


def add_backend_options(parser, what: str) -> None:
    """``--backend`` and ``--port``."""
    parser.add_argument("--backend", choices=BACKENDS, default="verilator",
                        help=f"{what} (default: %(default)s)")
    parser.add_argument("--port", metavar="DEVICE",
                        help=f"with --backend fpga: the serial port of a board that holds the "
                             f"--config, as /dev/ttyUSB0; or {SIMULATED!r}, the same gateware in "
                             f"simulation, link included (docs/fpga.md)")


def add_device_options(parser) -> None:
    """Options of all kernels: on what the kernel runs."""
    add_config_options(parser)
    add_backend_options(parser, "what runs it")
    add_bundles_option(parser)
    parser.add_argument("--no-refresh", action="store_true", help="switch the DRAM's refresh off")


def add_run_options(parser, run: Callable, show: Callable) -> None:
    """Options of all kernels: data, traces, the form of the result; and what does it."""
    parser.add_argument("--seed", type=whole(0), default=1,
                        help="of the data (default: %(default)s)")
    add_trace_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run, show=show,
                        status=lambda result: 0 if result["matches_reference"] else 1)


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
