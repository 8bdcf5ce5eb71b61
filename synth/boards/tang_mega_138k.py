# SPDX-License-Identifier: BSD-2-Clause
"""Sipeed Tang Mega 138K Pro on its dock, with a GW5AST-138."""

from amaranth.hdl import Const

from .base import Board


def _platform():
    from amaranth_boards.tang_mega_138k_pro_dock import TangMega138kProDockPlatform

    class Platform(TangMega138kProDockPlatform):
        # What the tools call the die; Amaranth's parser of names knows none of this series.
        family = "GW5AST-138C"

        def parse_part(self):
            self.series = self.series_f = "GW5AST"

    return Platform()


def _no_pll(in_hz: int, out_hz: int):
    """The oscillator's clock as it is, see :class:`~.base.Board`."""
    if in_hz != out_hz:
        raise ValueError(f"this board runs at its oscillator's {in_hz / 1e6:g} MHz, "
                         f"not at {out_hz / 1e6:g} MHz")

    def add(m, clock_in, clock_out):
        m.d.comb += clock_out.eq(clock_in)
        return Const(1)
    return add


BOARD = Board(
    name="tang-mega-138k", title="Sipeed Tang Mega 138K Pro, GW5AST-LV138FPG676AC1/I0",
    family="gw5a", platform=_platform, input_hz=50_000_000, clock_hz=50_000_000, pll=_no_pll,
    connect="the USB-C port of the dock's BL616, whose second channel is the line: a /dev/ttyUSB; "
            "load with `openFPGALoader -b tangmega138k`")
