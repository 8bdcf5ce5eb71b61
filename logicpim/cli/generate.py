# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim generate``: the Verilog of a configuration and its companions."""

import time
from pathlib import Path

from .io import Progress, add_config_options, add_json_option, config_of


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "generate", help="write the Verilog of a configuration and its companions",
        description="Writes Verilog, a file list for simulators, a lint waiver, a C header, a "
                    "FuseSoC core, a map of names, set-ups of waveform viewers, with AXI ports "
                    "a SystemRDL map, and a manifest into a folder, replacing one written "
                    "before.")
    add_config_options(parser)
    parser.add_argument("--prefix", default="logicpim_",
                        help="what names of shared modules begin with (default: %(default)s)")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show, collect=False)


def run(args) -> dict:
    """Generate; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config, progress = config_of(args), Progress()
    from ..rtl.generate.artefacts import artefacts, check_folder, check_prefix, write_folder
    check_prefix(args.prefix)
    check_folder(args.output)
    progress.note(f"elaborating {config.name!r}")
    files, modules = artefacts(config, args.prefix)
    write_folder(args.output, files)
    return {
        "config": config.name, "digest": config.digest, "folder": str(args.output),
        "files": sorted(files), "modules": modules,
        "verilog_bytes": sum(len(text.encode()) for name, text in files.items()
                             if name.endswith(".v")),
        "wall_s": round(time.perf_counter() - start, 3),
    }


def show(result: dict, args) -> None:
    """The files, and how much it is."""
    print("".join(f"{args.output / name}\n" for name in result["files"])
          + f"{len(result['modules'])} modules, {result['verilog_bytes']:,} bytes of Verilog, "
            f"in {result['wall_s']:.1f} s")
