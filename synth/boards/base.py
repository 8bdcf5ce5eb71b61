# SPDX-License-Identifier: BSD-2-Clause
"""What a board is to a build, and the top of its gateware."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from logicpim.spec.errors import ConfigError

DOMAIN = "pll"


@dataclass(frozen=True)
class Board:
    """A board with a serial line and a PLL.

    Attributes
    ----------
    name : str
        Of the board, of its preset, and of its file here.
    title : str
        What people call it, with its FPGA.
    family : str
        Of its FPGA: a key of :data:`logicpim.synth.flow.FAMILIES`.
    platform : callable
        Makes Amaranth's platform of the board.
    input_hz, clock_hz : int
        The board's oscillator, and what the gateware runs at.
    pll : callable
        From both, a function that adds the PLL to a module: called with it, the input clock and
        the output's, it returns the signal that says the clock is stable. ValueError where no
        setting makes the one of the other.
    connect : str
        How to load it, and which port of the host reaches it.
    """

    name: str
    title: str
    family: str
    platform: Callable
    input_hz: int
    clock_hz: int
    pll: Callable
    connect: str

    def add_pll(self, m: Module, clock_in, clock_out):
        """The PLL in a module; returns the signal that says its clock is stable."""
        return self.pll(self.input_hz, self.clock_hz)(m, clock_in, clock_out)

    def at(self, clock_hz: int) -> "Board":
        """The board at another clock; :class:`ConfigError` where its PLL cannot make it."""
        try:
            self.pll(self.input_hz, clock_hz)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return replace(self, clock_hz=clock_hz)


class BoardTop(Elaboratable):
    """The prototype, by name, behind the board's PLL and pins.

    Parameters
    ----------
    board : Board
    module : str
        Module of the :class:`~logicpim.rtl.prototype.Prototype`, which is synthesised beside.
    """

    def __init__(self, board: Board, module: str):
        self.board, self.module = board, module

    def elaborate(self, platform):
        m = Module()
        m.domains.pll = domain = ClockDomain(DOMAIN)
        pin = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_buffer = buffer = io.Buffer("i", pin)
        locked = self.board.add_pll(m, buffer.i, domain.clk)
        m.submodules.reset = ResetSynchronizer(~locked, domain=DOMAIN)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.submodules.prototype = Instance(
            self.module, i_clock=ClockSignal(DOMAIN), i_reset=ResetSignal(DOMAIN), i_rx=rx.i,
            o_tx=tx.o)
        return m
