# SPDX-License-Identifier: BSD-2-Clause
"""Clocks of kernels as they were measured on the RTL: the file, and what lies between its points.

A table is of one channel. A kernel streams ``rows / tile.rows`` times ``K / granule`` words and has
costs for each row block and each instruction besides, so that its clocks are close to
``a + b N + c K + d N K``: straight lines along each axis, between the points and beyond the last.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path

from ..spec.config import Config
from ..spec.errors import LogicPimError
from ..spec.isa import BYTE_FORMATS

FORMAT = "logicpim cost table"
VERSION = 1
KERNELS = {
    "gemm": (("weights", "bundles"), ("m", "n", "k")),
    "ffn": (("weights", "bundles"), ("m", "hidden", "inner")),
    "attention": (("bundles",), ("group", "heads", "context", "size")),
    "activate": ((), ("m", "n")),
    "softmax": ((), ("m", "n")),
}
"""Of each kernel, what must be equal and the sizes that are interpolated; the first is in tokens.

``gemm`` is Y [m, n] = X [m, k] . W [n, k]^T, ``ffn`` a gated network of three such, ``attention``
a decode step of ``heads`` heads of keys and values with ``group`` queries each, ``activate`` and
``softmax`` single instructions on [m, n]."""
_BYTES = tuple(f.name.lower() for f in BYTE_FORMATS)
FIGURES = ("cycles", "active", "stalls", "words_read", "refreshes")
"""What is measured of a point."""


def one_channel(config: Config) -> Config:
    """The channel that is measured for a configuration; of a stack, with buffers as large as its.

    What a stack's channels cost each other, sharing its buffers and its controller, is not in it.
    """
    if not config.stack:
        return config.replace(channels=1)
    return config.replace(channels=1, stack=False, **{
        name: config.channels * getattr(config, name)
        for name in ("input_buffer_bytes", "temp_buffer_bytes")})


class CostTable:
    """Measured clocks of one channel, and an estimate of them for any sizes.

    Parameters
    ----------
    values : mapping
        What ``logicpim calibrate`` writes. Refused with LogicPimError if it is anything else, or
        if points of a grid are missing.
    source : str
        What errors call it.

    Attributes
    ----------
    digest : str
        Of the channel, see :func:`one_channel`.
    clock_hz : float
    """

    def __init__(self, values: Mapping, source: str = "the cost table"):
        self.source = source
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise LogicPimError(f"{source} is not a cost table: make one with logicpim calibrate")
        if values.get("version") != VERSION:
            raise LogicPimError(f"{source} is a cost table of version {values.get('version')}, "
                                f"this logicpim reads {VERSION}: calibrate again")
        try:
            self.values = values
            self.digest, self.name = values["digest"], values["configuration"]["name"]
            self.clock_hz = values["clock_hz"]
            tile = values["configuration"]["tile"]
            self._tokens, self.tile_rows = tile["tokens"], tile["rows"]
            self._granule, self._resident = 2 * tile["depth"], tile["tokens"] * tile["groups"]
            self._grids = {}
            self._read(_by_grid(values["rows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise LogicPimError(f"{source} is damaged ({error}): calibrate again") from None

    def _read(self, grids: Mapping[tuple, Mapping]) -> None:
        """The products first: of what is composed of them, only the rest is kept."""
        for kernel in KERNELS:
            for (name, *same), points in grids.items():
                if name == kernel:
                    if kernel in ("ffn", "attention"):
                        points = {sizes: clocks - self._products(kernel, tuple(same), sizes)
                                  for sizes, clocks in points.items()}
                    self._grids[name, *same] = _Grid(points)

    @classmethod
    def load(cls, path: Path | str) -> "CostTable":
        """The table of a file."""
        try:
            return cls(json.loads(Path(path).read_text()), str(path))
        except OSError as error:
            raise LogicPimError(f"cannot read {path}: {error.strerror}") from None
        except ValueError:
            raise LogicPimError(f"{path} is not a cost table: make one with logicpim calibrate"
                                ) from None

    def check(self, config: Config) -> None:
        """Raise LogicPimError unless the table is of this configuration, for any channels."""
        wanted = one_channel(config).digest
        if wanted != self.digest:
            raise LogicPimError(
                f"{self.source} was measured on another configuration than {config.name}: digest "
                f"{self.digest} ({self.name}, formats {', '.join(self.formats)}, "
                f"{self.values['configuration'].get('timing')}), not {wanted}; calibrate with the "
                f"same --config, --set and --weights")

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of weights that the measured channel has."""
        return tuple(self.values["configuration"].get("formats", ()))

    def has(self, kernel: str, *same) -> bool:
        """Whether there are points of a kernel."""
        return (kernel, *same) in self._grids

    def gemm(self, m: int, n: int, k: int, *, bundles: int, weights: str = "fp16") -> float:
        """Clocks of Y [m, n] = X [m, k] . W [n, k]^T."""
        grid = self._grid("gemm", weights, bundles)
        if not m or not n or not k:
            return 0.0
        resident = self._resident // (2 if weights in _BYTES else 1)
        m, n, k = self._group(m), up(n, self.tile_rows), up(k, self._granule)
        passes, rest = divmod(m, resident)
        if not passes or passes == 1 and not rest:
            return grid(m, n, k)
        # As many tokens as the accumulators hold share a pass over the weights.
        one, two = grid(resident, n, k), grid(2 * resident, n, k)
        once = max(0.0, 2 * one - two)  # what is paid once, however many passes
        clocks = one + (passes - 1) * (two - one)
        return clocks + (grid(rest, n, k) - once if rest else 0.0)

    def ffn(self, m: int, hidden: int, inner: int, *, bundles: int, weights: str = "fp16"
            ) -> float:
        """Clocks of a gated network, activation included, all its rows in the channel."""
        inner = up(inner, self.tile_rows)
        return self._composed("ffn", (weights, bundles), (m, hidden, inner))

    def attention(self, heads: int, group: int, context: int, size: int, *, bundles: int) -> float:
        """Clocks of a decode step of so many heads of keys and values in the channel."""
        size = up(size, self._granule)  # a head's rows are whole words, of keys and of values
        return self._composed("attention", (bundles,), (group, heads, context, size))

    def activate(self, m: int, n: int) -> float:
        """Clocks of an ACTIVATE, gated."""
        return self._grid("activate")(m, up(n, self.tile_rows)) if m and n else 0.0

    def softmax(self, m: int, n: int) -> float:
        """Clocks of a SOFTMAX."""
        return self._grid("softmax")(m, n) if m and n else 0.0

    def _composed(self, kernel: str, same: tuple, sizes: tuple[int, ...]) -> float:
        """Of several products, and what is measured besides: the functions, less what overlaps."""
        beside = self._grid(kernel, *same)
        if not all(sizes):
            return 0.0
        return max(1.0, self._products(kernel, same, sizes) + beside(*sizes))

    def _products(self, kernel, same, sizes) -> float:
        if kernel == "ffn":
            (weights, bundles), (m, hidden, inner) = same, sizes
            options = {"bundles": bundles, "weights": weights}
            return self.gemm(m, 2 * inner, hidden, **options) + self.gemm(
                m, hidden, inner, **options)
        (bundles,), (group, heads, context, size) = same, sizes
        return heads * (self.gemm(group, context, size, bundles=bundles)
                        + self.gemm(group, size, context, bundles=bundles))

    def _grid(self, kernel: str, *same) -> "_Grid":
        if (kernel, *same) not in self._grids:
            text = " ".join(map(str, (kernel, *same)))
            raise LogicPimError(f"{self.source} has no points of {text}: calibrate again with "
                                f"these --weights and --bundles")
        return self._grids[kernel, *same]

    def _group(self, tokens: int) -> int:
        """The tile serves whole groups, and with 8-bit weights also half of one."""
        half = max(1, self._tokens // 2)
        return tokens if tokens <= half else up(tokens, self._tokens)


def up(value: int, unit: int) -> int:
    """The next multiple of ``unit``."""
    return -(-value // unit) * unit


class _Grid:
    """Values at the points of a grid, straight lines along each axis; below it the first point.

    Raises ValueError where points are missing.
    """

    def __init__(self, points: Mapping[tuple[int, ...], float]):
        self._points = points
        self._axes = [tuple(sorted(set(values))) for values in zip(*points, strict=True)]
        if lacking := prod(map(len, self._axes)) - len(points):
            raise ValueError(f"{lacking} points are missing")

    def __call__(self, *at: int) -> float:
        return self._along((), at)

    def _along(self, fixed: tuple[int, ...], at: Sequence[int]) -> float:
        if not at:
            return self._points[fixed]
        axis = self._axes[len(fixed)]
        x, right = max(at[0], axis[0]), min(bisect_left(axis, at[0]), len(axis) - 1)
        if axis[right] == x or len(axis) == 1:
            return self._along((*fixed, axis[right]), at[1:])
        a, b = axis[right - 1], axis[right]
        low, high = (self._along((*fixed, point), at[1:]) for point in (a, b))
        return low + (high - low) * (x - a) / (b - a)


def _by_grid(rows: Iterable[Mapping]) -> dict[tuple, dict[tuple[int, ...], int]]:
    """Clocks by sizes, by kernel and what must be equal."""
    grids: dict[tuple, dict] = {}
    for row in rows:
        same, sizes = KERNELS[row["kernel"]]
        key = (row["kernel"], *(row[name] for name in same))
        grids.setdefault(key, {})[tuple(row[name] for name in sizes)] = row["cycles"]
    return grids


def expert_seconds(table: CostTable, *, hidden: int, width: int, matrices: int, channels: int,
                   bundles: int, weights: str = "fp16", whole: bool = False
                   ) -> Callable[[int], float]:
    """Time of an expert by its tokens, its matrices dealt over the channels by rows.

    Parameters
    ----------
    hidden, width, matrices : int
        Sizes of the expert: two matrices, or three if it is gated.
    whole : bool
        It runs as one program with its activation, in one channel.
    """
    def share(rows):
        return up(-(-rows // channels), table.tile_rows)

    @cache
    def seconds(tokens: int) -> float:
        if whole and channels == 1 and table.has("ffn", weights, bundles):
            return table.ffn(tokens, hidden, width, bundles=bundles, weights=weights
                             ) / table.clock_hz
        options = {"bundles": bundles, "weights": weights}
        first = table.gemm(tokens, (matrices - 1) * share(width), hidden, **options)
        return (first + table.gemm(tokens, share(hidden), width, **options)) / table.clock_hz
    return seconds


def attention_seconds(table: CostTable, *, kv_heads: int, group: int, size: int, channels: int,
                      bundles: int) -> Callable[[int, int], float]:
    """Time of a sequence's attention by its (tokens, context), heads dealt over the channels."""
    @cache
    def seconds(tokens: int, context: int) -> float:
        return table.attention(-(-kv_heads // channels), group * tokens, context, size,
                               bundles=bundles) / table.clock_hz
    return seconds
