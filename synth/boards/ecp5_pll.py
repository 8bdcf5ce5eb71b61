# SPDX-License-Identifier: BSD-2-Clause
"""The PLL of an ECP5 (EHXPLLL; Lattice FPGA-TN-02200)."""

from amaranth.hdl import Instance, Signal

_VCO = 400e6, 800e6
_DETECTOR = 3.125e6, 400e6  # at the phase detector
_OUTPUT_MHZ = range(1, 401)  # whole ones, up to the highest


def ecp5_pll(in_hz: int, out_hz: int):
    """A function that adds the PLL to a module, see :class:`~.base.Board`.

    Raises ValueError where no setting makes ``out_hz`` exactly.
    """
    setting = min(_settings(in_hz, out_hz), default=None)
    if setting is None:
        raise ValueError(f"no setting of the PLL makes {out_hz / 1e6:g} MHz of "
                         f"{in_hz / 1e6:g} MHz: --mhz {_nearest(in_hz, out_hz)} is nearest")
    _, ki, fb, op = setting

    def add(m, clock_in, clock_out):
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{in_hz / 1e6:g}", a_FREQUENCY_PIN_CLKOP=f"{out_hz / 1e6:g}",
            p_CLKI_DIV=ki, p_CLKFB_DIV=fb, p_CLKOP_DIV=op, p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=op - 1, p_CLKOP_FPHASE=0, p_FEEDBK_PATH="CLKOP",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_OUTDIVIDER_MUXA="DIVA",
            i_CLKI=clock_in, i_CLKFB=clock_out, i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=0, i_PHASESTEP=0, i_PHASELOADREG=0, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=clock_out, o_LOCK=locked)
        return locked
    return add


def _settings(in_hz: int, out_hz: int):
    """(distance of the oscillator from the middle of its range, dividers ki, fb, op) of each."""
    for ki in range(1, 17):
        fb, rest = divmod(out_hz * ki, in_hz)
        if rest or not 1 <= fb <= 64 or not _DETECTOR[0] <= in_hz / ki <= _DETECTOR[1]:
            continue
        yield from ((abs(out_hz * op - 600e6), ki, fb, op) for op in range(1, 129)
                    if _VCO[0] <= out_hz * op <= _VCO[1])


def _nearest(in_hz: int, out_hz: int) -> str:
    """The next whole megahertz below and above that can be made."""
    made = [mhz for mhz in _OUTPUT_MHZ if any(_settings(in_hz, mhz * 1_000_000))]
    below = [mhz for mhz in made if mhz * 1_000_000 < out_hz][-1:]
    above = [mhz for mhz in made if mhz * 1_000_000 > out_hz][:1]
    return " or ".join(str(mhz) for mhz in below + above)
