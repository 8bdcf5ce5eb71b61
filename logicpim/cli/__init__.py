# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one file per command.

A command's module has ``add_parser(subparsers)``, whose parser's defaults name ``run(args)``,
which does the work and returns the keys of the JSON object. They may name ``show(result, args)``,
which prints the keys for people instead of a plain list, and ``status(result)``, the exit status.
``run`` writes nothing to stdout but what :func:`logicpim.cli.io.say` lets through.
"""

from .main import main

__all__ = ["main"]
