# SPDX-License-Identifier: BSD-2-Clause
"""Devices by name."""

from collections.abc import Callable

from ..spec.config import Config
from ..spec.device import Device

BACKENDS = ("reference", "verilator")


def open_device(name: str, config: Config, *, trace: bool = False,
                progress: Callable[[str], None] = lambda text: None) -> Device:
    """The device called ``name``; the ``verilator`` one compiles the RTL if it has to.

    Parameters
    ----------
    trace : bool
        Whether the device shall record its DRAM commands, to be had by ``device.trace(channel)``.
    progress : callable
        Called with a few words on what takes long.
    """
    if name == "reference":
        from ..sim.model.device import ReferenceDevice
        return ReferenceDevice(config)
    if name == "verilator":
        from ..sim.verilog import VerilatorDevice
        progress("compiling the RTL")
        return VerilatorDevice(config, trace=trace)
    raise ValueError(f"no backend {name!r}")
