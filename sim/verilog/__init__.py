"""The generated Verilog as a device: C++ harness, build and binding."""

from .binding import Pauses, Requests
from .device import DeviceFault, VerilatorDevice

__all__ = ["DeviceFault", "Pauses", "Requests", "VerilatorDevice"]
