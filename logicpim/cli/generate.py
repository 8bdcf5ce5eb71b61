# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim generate``: the Verilog of a configuration and its companions."""

import time
from pathlib import Path

from logicpim.spec.presets import PRESETS, load_config


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "generate", help="write the Verilog of a configuration and its companions",
        description="Writes Verilog, a file list for simulators, a lint waiver, a C header and a "
                    "manifest into a folder, replacing one written before.")
    parser.add_argument("--config", default="channel", metavar="NAME_OR_TOML",
                        help=f"one of {', '.join(PRESETS)}, or a .toml file (default: channel)")
    parser.add_argument("--set", dest="overrides", action="append", default=[],
                        metavar="KEY=VALUE", help="change one value, as in tile.groups=2")
    parser.add_argument("--prefix", default="logicpim_",
                        help="what names of shared modules begin with (default: logicpim_)")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args) -> dict:
    """Generate; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config = load_config(args.config, args.overrides)
    from logicpim.rtl.generate.artefacts import artefacts, check_folder, write_folder
    check_folder(args.output)
    files, modules = artefacts(config, args.prefix)
    write_folder(args.output, files)
    return {
        "config": config.name, "digest": config.digest, "folder": str(args.output),
        "files": sorted(files), "modules": modules,
        "verilog_bytes": sum(len(text.encode()) for name, text in files.items()
                             if name.endswith(".v")),
        "wall_s": round(time.perf_counter() - start, 3),
    }
