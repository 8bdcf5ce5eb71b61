# SPDX-License-Identifier: BSD-2-Clause
"""What an expert costs: on the xPU, on Logic-PIM, and on the link between two memories."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Seconds = Callable[[int], float]
"""Time that one expert takes for so many tokens; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link of the xPU to the memory that holds the experts, in both directions at once.

    Parameters
    ----------
    bandwidth : float
        Bytes a second, each way.
    latency : float
        Seconds before the first byte.
    """

    bandwidth: float
    latency: float = 0.0

    def seconds(self, size: float) -> float:
        """Time of a transfer of so many bytes."""
        return self.latency + size / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What policies reckon with.

    Parameters
    ----------
    xpu, pim : callable
        Time of an expert on each processor, its weights in that processor's memory.
    expert_bytes : int
        Weights of an expert.
    token_bytes : int
        Activation of a token, into an expert or out of it.
    link : Link or None
        None where both processors share the memory, as on Duplex: nothing is moved.
    memory_bandwidth : float
        Of the memory beside Logic-PIM, bytes a second; only policies that compare it with the
        link look at it.
    """

    xpu: Seconds
    pim: Seconds
    expert_bytes: int = 0
    token_bytes: int = 0
    link: Link | None = None
    memory_bandwidth: float = 0.0


def roofline(matrices: int, hidden: int, width: int, *, peak: float, bandwidth: float,
             element_bytes: float = 2.0) -> Seconds:
    """Time of an expert of so many matrices by work and traffic, whichever takes longer.

    Parameters
    ----------
    matrices, hidden, width : int
        Matrices of an expert and their sizes.
    peak, bandwidth : float
        Operations and bytes a second.
    """
    def seconds(tokens: int) -> float:
        if not tokens:
            return 0.0
        work = 2 * tokens * hidden * width
        moved = element_bytes * (tokens * hidden + hidden * width + tokens * width)
        return matrices * max(work / peak, moved / bandwidth)
    return seconds


def table(points: Mapping[int, float]) -> Seconds:
    """Measured times: straight lines between the points, and on beyond the last two.

    Below the first point its time counts, but for no tokens.
    """
    known = sorted(points)
    if not known or known[0] < 1:
        raise ValueError("a table of times needs points at 1 token or more")

    def seconds(tokens: int) -> float:
        if not tokens:
            return 0.0
        if tokens <= known[0] or len(known) == 1:
            return points[known[0]]
        right = min(bisect_right(known, tokens), len(known) - 1)
        a, b = known[right - 1], known[right]
        return points[a] + (points[b] - points[a]) * (tokens - a) / (b - a)
    return seconds


def duplex_units(*, peak: float = 989.4e12, bandwidth: float = 3.352e12, derate: float = 0.75,
                 gain: int = 4, pim_op_b: int = 8) -> Costs:
    """Costs in units of one read of an expert's weights by the xPU, as Duplex's simulator has them.

    Parameters
    ----------
    peak, bandwidth : float
        Of the xPU; it reaches ``derate`` of the bandwidth.
    gain : int
        Times the xPU's bandwidth that Logic-PIM has.
    pim_op_b : int
        Op/B up to which Logic-PIM is bound by memory.
    """
    ridge = peak / (derate * bandwidth)
    return Costs(xpu=lambda t: max(1.0, t / ridge) if t else 0.0,
                 pim=lambda t: max(1.0, derate * t / pim_op_b) / gain if t else 0.0)
