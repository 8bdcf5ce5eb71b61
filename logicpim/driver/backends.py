# SPDX-License-Identifier: BSD-2-Clause
"""Devices by name."""

from collections.abc import Callable

from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import LogicPimError
from ..spec.link import BAUD

BACKENDS = ("reference", "verilator", "fpga")


SIMULATED = "sim"
"""The port at which a board is simulated."""


def open_device(name: str, config: Config, *, trace: bool = False, port: str | None = None,
                progress: Callable[[str], None] = lambda text: None) -> Device:
    """The device called ``name``; what simulates compiles the RTL if it has to.

    Parameters
    ----------
    trace : bool
        Whether the device shall record its DRAM commands, to be had by ``device.trace(channel)``.
    port : str, optional
        Serial port of the ``fpga`` backend, or :data:`SIMULATED`; for others it must be None.
    progress : callable
        Called with a few words on what takes long.
    """
    if (port is not None) != (name == "fpga"):
        raise LogicPimError(f"--port goes with --backend fpga: the serial port of the board, or "
                            f"{SIMULATED!r} for its gateware in simulation")
    if name == "reference":
        from ..sim.model.device import ReferenceDevice
        return ReferenceDevice(config)
    if name == "verilator":
        from ..sim.verilog import VerilatorDevice
        progress("compiling the RTL")
        return VerilatorDevice(config, trace=trace)
    if name == "fpga":
        from .fpga.device import FpgaDevice
        return FpgaDevice(config, _line(config, port, progress))
    raise ValueError(f"no backend {name!r}")


def _line(config: Config, port: str, progress: Callable[[str], None]):
    if port != SIMULATED:
        from .fpga.serial_line import SerialLine
        return SerialLine(port, BAUD)
    from ..sim.verilog.board import SimulatedBoard
    progress("compiling the RTL")
    return SimulatedBoard(config)
