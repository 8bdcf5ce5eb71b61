# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one file per command.

A command's module has ``add_parser(subparsers)``, which returns its parser, ``run(args)``, which
does the work and returns the keys of the JSON object, and ``show(result, args)``, which prints
them for people. ``run`` writes nothing to stdout but what :func:`logicpim.cli.io.say` lets through.
"""

from .main import main

__all__ = ["main"]
