# SPDX-License-Identifier: BSD-2-Clause
"""LambdaConcept ECPIX-5 with an LFE5UM5G-85F of the fastest grade."""

from .base import Board
from .ecp5_pll import ecp5_pll


def _platform():
    from amaranth_boards.ecpix5 import ECPIX585Platform
    return ECPIX585Platform()


BOARD = Board(
    name="ecpix5-85f", title="LambdaConcept ECPIX-5, LFE5UM5G-85F-8BG554I", family="ecp5",
    platform=_platform, input_hz=100_000_000, clock_hz=50_000_000, pll=ecp5_pll,
    connect="the micro-USB port of the FT2232H, whose second channel is the line: a /dev/ttyUSB; "
            "load with `openFPGALoader -b ecpix5`")
