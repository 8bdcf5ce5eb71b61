# SPDX-License-Identifier: BSD-2-Clause
"""What kernels cost: clocks, their causes, and the two figures of merit made from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..spec.config import Config
from ..spec.device import STALLS, Counter
from ..spec.isa import BYTE_FORMATS, Format

_STALL_NAMES = {c.name.lower(): c.name.lower().removeprefix("stall_") for c in STALLS}


@dataclass
class Stats:
    """Sums over programs run one after the other.

    Clocks are those of the channel that took longest in each program, so that
    ``cycles == active + sum of stalls`` still holds; all else is summed over the channels.

    Attributes
    ----------
    programs, gemms : int
        Programs executed; products X . W^T asked for.
    cycles, active : int
        Logic clocks with an instruction in flight; of these, with the tile taking a beat.
    stalls : dict
        The other clocks by cause.
    words_read, refreshes : int
    weight_bytes : int
        Useful bytes of weights, each matrix once for each product: N * K times those of an element.
    macs : int
        Useful multiply-accumulates: M * N * K.
    """

    programs: int = 0
    gemms: int = 0
    cycles: int = 0
    active: int = 0
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STALL_NAMES.values(), 0))
    words_read: int = 0
    refreshes: int = 0
    weight_bytes: int = 0
    macs: int = 0

    def add_program(self, channels: list[dict[str, int]]) -> None:
        """Count one program by what each channel's counters gained in it (none if untimed)."""
        self.programs += 1
        if not channels or not channels[0]:
            return
        slowest = max(channels, key=lambda c: c["cycles"])
        self.cycles += slowest["cycles"]
        self.active += slowest["active"]
        for counter, name in _STALL_NAMES.items():
            self.stalls[name] += slowest[counter]
        for counter in (Counter.WORDS_READ, Counter.REFRESHES):
            name = counter.name.lower()
            setattr(self, name, getattr(self, name) + sum(c[name] for c in channels))

    def add_gemm(self, m: int, n: int, k: int, weights: Format = Format.FP16) -> None:
        """Count one product's useful work."""
        self.gemms += 1
        self.weight_bytes += n * k * (1 if weights in BYTE_FORMATS else 2)
        self.macs += m * n * k

    def add(self, other: "Stats") -> None:
        """Count all of ``other`` as well."""
        for name, value in vars(other).items():
            if name == "stalls":
                for cause, clocks in value.items():
                    self.stalls[cause] += clocks
            else:
                setattr(self, name, getattr(self, name) + value)

    @classmethod
    def of(cls, parts: Iterable["Stats"]) -> "Stats":
        """The sum of all parts."""
        total = cls()
        for part in parts:
            total.add(part)
        return total

    def bandwidth_efficiency(self, config: Config) -> float | None:
        """Useful weight bytes by what the added TSVs could have carried; None if untimed."""
        peak = config.channels * self.cycles * config.beat_bytes
        return self.weight_bytes / peak if peak else None

    def mac_utilisation(self, config: Config) -> float | None:
        """Useful MACs by those the tiles could have done; None if untimed."""
        peak = config.channels * self.cycles * config.tile.macs
        return self.macs / peak if peak else None
