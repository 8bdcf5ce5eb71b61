# SPDX-License-Identifier: BSD-2-Clause
"""Values of a pipeline some clocks later: registers without reset, one chain for each value."""

from amaranth.hdl import Module, Signal, Value


class Delay:
    """Makes and remembers the later copies of signals.

    Parameters
    ----------
    m : Module
    """

    def __init__(self, m: Module):
        self._m = m
        self._chains = {}

    def __call__(self, signal: Signal, clocks: int, *, reset: bool = False) -> Signal:
        """``signal``, ``clocks`` clocks later; with ``reset`` for what must start at zero."""
        _, chain = self._chains.setdefault(id(signal), (signal, [signal]))
        while len(chain) <= clocks:
            later = Signal(signal.shape(), name=f"{Value.cast(signal).name}_{len(chain)}",
                           reset_less=not reset)
            self._m.d.sync += later.eq(chain[-1])
            chain.append(later)
        return chain[clocks]

    def name(self, name: str, value) -> Signal:
        """A signal called ``name`` that is ``value``."""
        signal = Signal(len(value), name=name)
        self._m.d.comb += signal.eq(value)
        return signal

    def register(self, name: str, value, shape=None) -> Signal:
        """A register called ``name`` that takes ``value`` each clock."""
        register = Signal(len(value) if shape is None else shape, name=name, reset_less=True)
        self._m.d.sync += register.eq(value)
        return register
