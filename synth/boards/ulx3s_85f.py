# SPDX-License-Identifier: BSD-2-Clause
"""Radiona ULX3S with an LFE5U-85F: 32 multipliers, 128 KiB of DRAM in block RAM."""

from .base import Board
from .ecp5_pll import ecp5_pll


def _platform():
    from amaranth_boards.ulx3s import ULX3S_85F_Platform
    return ULX3S_85F_Platform()


BOARD = Board(
    name="ulx3s-85f", title="Radiona ULX3S, LFE5U-85F-6BG381C", family="ecp5",
    platform=_platform, input_hz=25_000_000, clock_hz=50_000_000, pll=ecp5_pll,
    connect="US1, the micro-USB port of the FT231X: a /dev/ttyUSB; load with "
            "`openFPGALoader -b ulx3s`")
