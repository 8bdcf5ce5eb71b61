# SPDX-License-Identifier: BSD-2-Clause
"""The upper bound of a stream's bandwidth: closed formulas from the rows of the speed grade.

A bare model of the DRAM: one word each nCCDL, every command at the first command clock (nCK) that
the protocol allows, nothing lost in the logic die. All times below are in nCK.
"""

from dataclasses import dataclass

from ..spec.config import Config


@dataclass(frozen=True)
class Bound:
    """What a stream over ``bundles`` bundles costs at least.

    Parameters
    ----------
    row : int
        The words of a row: ``columns * nCCDL``.
    period : float
        From one row's first word to the next row's: ``max(row, (row - nCCDL + reopen) / B)``
        with ``reopen = nRTPL + nRP + stagger + nRCDRD`` and, of a staggered activation,
        ``stagger = (parts - 1) * nFAW + (groups - 1) * nRRDS``.
    stall : float
        What refresh costs in each nREFI. A bundle that is refreshed, ``n`` of its banks one after
        the other, is away for ``away(n) = nRTPL + nRP + (n - 1) * nRREFD + nRFCSB + nRCDRD``; the
        other bundles stream for ``(B - 1) * row + nCCDL`` of that, and the rest is lost, but only
        once for all bundles: in a round of the stream each can wait while the ones before it do.
        As ``away`` grows by the same for each bank, it is best to refresh either all banks of a
        bundle in one round or one bank in each of as many rounds; whichever costs less. All at
        once: the same with nRFC of a rank, of which both bundles are away.
    start : int
        Before the first word's data: activation, nRCDRD, nCL and nBL.
    """

    row: int
    period: float
    stall: float
    start: int
    refresh: int
    saved: int

    def clocks(self, words: int, columns: int) -> float:
        """Command clocks for so many words. ``saved`` refreshes may be made before or after."""
        rows = words / columns
        work = self.start + rows * self.period - (self.period - self.row)
        if not self.stall or work <= self.saved * self.refresh:
            return work
        return (work - self.saved * self.stall) / (1 - self.stall / self.refresh)


def bound(config: Config, bundles: int) -> Bound:
    """The bound of a configuration that streams over so many bundles."""
    t, org = config.dram_timing, config.dram
    stagger = org.stagger_of(t) if config.stagger else 0
    row, close = org.columns * t.nCCDL, t.nRTPL + t.nRP
    reopen = close + stagger + t.nRCDRD
    period = max(row, (row - t.nCCDL + reopen) / bundles)
    away = (bundles - 1) * row + t.nCCDL
    if config.refresh_kind == "all":
        # Both bundles of a rank are away at once; rows of the other rank go on, and its refresh
        # is at best hidden behind the first rank's.
        other = (bundles - min(bundles, org.bundles_per_rank)) * row + t.nCCDL
        chain = close + t.nRFC + stagger + t.nRCDRD
        stall = max(0, chain - other - max(0, reopen - away))
    else:
        one = close + t.nRFCSB + t.nRCDRD
        chain = one + (org.bundle_banks - 1) * t.nRREFD
        stall = min(max(0, chain - max(away, reopen)),
                    org.bundle_banks * max(0, one - max(away, reopen)))
    # Before and after the kernel: what may be postponed, one ahead of time, and one in between.
    saved = 1 if config.refresh_kind == "all" else config.postpone + 2
    return Bound(row, period, stall if config.refresh else 0, stagger + t.nRCDRD + t.nCL + t.nBL,
                 t.nREFI, saved)


def bandwidth_bound(config: Config, bundles: int, words: int, passes: int, groups: int) -> float:
    """The largest ``bandwidth_efficiency`` of a kernel.

    Parameters
    ----------
    words : int
        Bundle words of the weights in the channel that holds most.
    passes : int
        Times that they are streamed, once for each block of ``tile.max_tokens`` tokens.
    groups : int
        Groups of ``tile.tokens`` tokens in all: each uses a word for two clocks.
    """
    t = config.dram_timing
    least = bound(config, bundles).clocks(words * passes, config.dram.columns) / t.CK_PER_CLOCK
    return 2 * words / max(least, 2 * words * groups)
