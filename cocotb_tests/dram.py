# SPDX-License-Identifier: BSD-2-Clause
"""The DRAM of a channel, at the ports of a bench's design."""

import numpy as np

from logicpim.sim.dram.checker import check_trace
from logicpim.sim.dram.model import NOP, DramModel, Slot


class DramPorts:
    """A :class:`DramModel` behind the ports whose names begin with ``prefix``.

    Parameters
    ----------
    dut : handle
    config : Config
    prefix : str
        As ``"ch00_"`` in a stack.
    seed : int

    Attributes
    ----------
    model : DramModel
    """

    def __init__(self, dut, config, prefix: str, seed: int):
        self.dut, self.config, self.prefix = dut, config, f"{prefix}dram_"
        self.model = DramModel(config, seed=seed)
        self._slots = {bus: [[self._port(f"{bus}{i}_{name}") for name in
                              ("command", "rank", "bank_group", "bank", bus)] for i in (0, 1)]
                       for bus in ("row", "column")}
        self._driven: dict[str, int] = {}
        self._carried = False
        self._reads = self.model.idle_reads()

    def start(self) -> None:
        """Garbage on the read data buses."""
        self._drive_reads()

    def serve(self) -> None:
        """Take the commands and data of a clock, and drive what the model answers."""
        dram = self.model
        # Garbage follows data; then it may stay.
        if dram.carrying or self._carried:
            self._drive_reads()
        self._carried = bool(dram.carrying)
        slots = {}
        for bus, pair in self._slots.items():
            slots[bus] = [Slot(*(int(h.value) for h in handles)) if int(handles[0].value) else NOP
                          for handles in pair]
        whole = self._written("bundle") if dram.takes_bundle_wdata else 0
        host, mask = ((self._written("host"), self._value("host_wmask"))
                      if dram.takes_host_wdata else (0, 0))
        self._reads = dram.step(slots["row"], slots["column"], self._value("path"),
                                whole, host, mask)

    def compare(self, expected: np.ndarray) -> None:
        """Every byte of the DRAM equals what is expected."""
        for at in range(0, len(self.model.memory), 1 << 20):
            part = slice(at, at + (1 << 20))
            wrong = np.flatnonzero(self.model.memory[part] != expected[part])
            assert not len(wrong), (f"{len(wrong)} bytes of {self.prefix}* differ from "
                                    f"{at + wrong[0]:#x} on")

    def judge(self) -> None:
        """No fault of the model, and no violation of the protocol."""
        assert not self.model.faults, "\n".join(self.model.faults[:10])
        violations = check_trace(self.model.trace, self.config, end_clock=2 * self.model.clock)
        assert not violations, "\n".join(map(str, violations[:10]))

    def _port(self, name: str):
        return getattr(self.dut, f"{self.prefix}{name}")

    def _value(self, name: str) -> int:
        return int(self._port(name).value)

    def _drive(self, name: str, value: int) -> None:
        if self._driven.get(name) != value:
            self._driven[name] = value
            self._port(name).value = value

    def _drive_reads(self) -> None:
        """The read data buses; what the model has above the data is the side band."""
        for bus, value in zip(("bundle", "host"), self._reads, strict=True):
            side, data = divmod(value, 1 << len(self._port(f"{bus}_rdata")))
            self._drive(f"{bus}_rdata", data)
            if self.config.ecc:
                self._drive(f"{bus}_rcheck", side)

    def _written(self, bus: str) -> int:
        """What a write data bus carries, as the model takes it."""
        data = self._value(f"{bus}_wdata")
        side = self._value(f"{bus}_wcheck") if self.config.ecc else 0
        return data | side << len(self._port(f"{bus}_wdata"))
