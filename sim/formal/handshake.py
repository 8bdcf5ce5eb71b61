# SPDX-License-Identifier: BSD-2-Clause
"""The rule of every stream: what is offered stays, unchanged, until it is taken."""

from amaranth.hdl import Assert, Assume, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In


def is_stream(member) -> bool:
    """Whether a member of a signature is a stream, in either direction."""
    signature = member.signature if member.is_signature else None
    if isinstance(signature, wiring.FlippedSignature):
        signature = signature.flip()
    return isinstance(signature, stream.Signature)


def kept(m: Module, port, name: str) -> Signal:
    """1 unless ``port`` takes back or changes what it offered in the clock before."""
    payload = Value.cast(port.payload)
    waited, before = Signal(name=f"{name}_waited"), Signal(len(payload), name=f"{name}_before")
    rule = Signal(name=f"{name}_kept")
    m.d.sync += [waited.eq(port.valid & ~port.ready), before.eq(payload)]
    m.d.comb += rule.eq(~waited | (port.valid & (payload == before)))
    return rule


class Handshake(wiring.Component):
    """Asserts the rule on each stream that ``dut`` gives, assumes it on each that it takes.

    Parameters
    ----------
    dut : Component
        It has the ports of this one.
    environment : callable, optional
        Of (module, dut); adds what else is assumed of the inputs.
    """

    def __init__(self, dut, environment=None):
        self.dut, self.environment = dut, environment
        super().__init__(dut.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = self.dut
        wiring.connect(m, wiring.flipped(self), self.dut)
        for name, member in self.dut.signature.members.items():
            if is_stream(member):
                judge = Assume if member.flow is In else Assert
                m.d.comb += judge(kept(m, getattr(self.dut, name), name))
        if self.environment is not None:
            self.environment(m, self.dut)
        return m
