# SPDX-License-Identifier: BSD-2-Clause
"""What commands share: options, progress on stderr, tables on stdout."""

import argparse
import sys
import time

from ..driver.memory import scale_words
from ..spec.config import Config
from ..spec.errors import LogicPimError
from ..spec.isa import BYTE_FORMATS, WEIGHT_FORMATS, Format
from ..spec.presets import PRESETS, load_config


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter,
                         allow_abbrev=False, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def whole(least: int, most: int | None = None):
    """An argument type: a whole number in a range."""
    limits = f">= {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not {text!r}")
        return value
    return parse


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config``, ``--set`` and ``--channels``."""
    parser.add_argument("--config", default="channel", metavar="NAME_OR_TOML",
                        help=f"a preset ({', '.join(PRESETS)}) or a .toml file "
                             f"(default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="change one value of the configuration, as in tile.groups=2; "
                             "may be repeated")
    parser.add_argument("--channels", type=whole(1), metavar="C",
                        help="number of channels, instead of the configuration's")


def add_bundles_option(parser: argparse.ArgumentParser) -> None:
    """``--bundles``; :func:`bundles_of` says how many there are in the end."""
    parser.add_argument("--bundles", type=int, choices=(1, 2, 4),
                        help="bank bundles that each matrix is dealt over, streamed in turn: more "
                             "hide the opening of rows and refresh, fewer leave memory to the xPU "
                             "(default: 4, or all that the configuration has)")


def bundles_of(args: argparse.Namespace, config: Config) -> int:
    """Bundles that a matrix is dealt over."""
    return args.bundles or min(4, config.dram.bundles)


def config_of(args: argparse.Namespace) -> Config:
    """The configuration that the options name."""
    config = load_config(args.config, args.overrides)
    return config if args.channels is None else config.replace(channels=args.channels)


def with_formats(config: Config, *formats: Format) -> Config:
    """The configuration with those of the formats that it lacks."""
    names = [f.name.lower() for f in formats if f in WEIGHT_FORMATS]
    return config.replace(formats=tuple(dict.fromkeys((*config.formats, *names))))


def add_weights_options(parser: argparse.ArgumentParser, formats, default: str) -> None:
    """``--weights`` and ``--scale-group``."""
    parser.add_argument("--weights", choices=[f.name.lower() for f in formats], default="fp16",
                        help="format of the weights, added to the configuration's if need be "
                             "(default: %(default)s)")
    parser.add_argument("--scale-group", type=whole(0), metavar="G",
                        help=f"elements along K that share a scale, 0 for all of a row; weights of "
                             f"8 bits only (default: {default})")


def scale_group_of(args: argparse.Namespace, config: Config) -> int | None:
    """Elements that share a scale, checked; None if the option was not given."""
    fmt = Format[args.weights.upper()]
    if args.scale_group is not None:
        if fmt not in BYTE_FORMATS:
            raise LogicPimError(f"--scale-group is for weights of 8 bits, not {args.weights}: add "
                                f"--weights int8")
        scale_words(config, args.scale_group, fmt)
    return args.scale_group


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true",
                        help="print one JSON object on stdout, and nothing else there")


def say(args: argparse.Namespace, text: str) -> None:
    """Part of the result for people, as soon as it is there; dropped where JSON was asked for."""
    if not args.json:
        print(text, end="", flush=True)


class Progress:
    """One line on stderr that says how far long work is: redrawn on a terminal, else rarely."""

    def __init__(self, stream=None):
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._last = time.monotonic()
        self._drawn = 0

    def __call__(self, text: str) -> None:
        """Say that ``text`` is going on."""
        now = time.monotonic()
        if now - self._last < (0.1 if self._terminal else 10):
            return
        self._last = now
        if self._terminal:
            self._stream.write(f"\r{text:{self._drawn}}")
            self._drawn = len(text)
        else:
            self._stream.write(f"logicpim: {text}\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        self._stream.write(f"logicpim: {text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Wipe the redrawn line."""
        if self._drawn:
            self._stream.write(f"\r{'':{self._drawn}}\r")
            self._stream.flush()
            self._drawn = 0


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns of text: the first left-aligned, and any other that holds words; numbers right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    words = [i == 0 or any(row[i][:1].isalpha() for row in rows) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = (cell.ljust(width) if left else cell.rjust(width)
                 for cell, width, left in zip(row, widths, words, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def listing(pairs) -> str:
    """Names and values, one pair a line."""
    pairs = [(name.replace("_", " "), _text(value)) for name, value in pairs]
    width = max(len(name) for name, _ in pairs)
    return "".join(f"{name:{width}}  {text}\n" for name, text in pairs)


def _text(value) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | None) -> str:
    """A fraction for people; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def count(value: int | float | None) -> str:
    """A number for people, with thousands apart; a dash where there is none."""
    return "-" if value is None else f"{round(value):,}"
