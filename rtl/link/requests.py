# SPDX-License-Identifier: BSD-2-Clause
"""Requests of the link, served one at a time at the ports of a channel."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config
from logicpim.spec.device import Region
from logicpim.spec.isa import INSTRUCTION_BITS
from logicpim.spec.link import (
    ANSWER_OVERHEAD,
    COMPLETION,
    HEADER,
    IDENTITY,
    INSTRUCTION_BYTES,
    TARGET,
    VERSION,
    Outcome,
    Request,
    pack,
    read_granules,
    size,
)

from .frames import BYTE

RESET_CLOCKS = 16


class RequestServer(wiring.Component):
    """Takes a request, does it, answers it; then takes the next.

    Promises that a request is done once however often it arrives: one with the number of the last
    has its answer sent again, one with any other number than the next changes nothing.

    Parameters
    ----------
    config : Config
    frame_bytes : int
        Most bytes of a frame, CRC included.
    clock_hz : int
        What a HELLO is told.
    address_bits : int
        Width of the host port's addresses.

    Members
    -------
    i, o : streams of :data:`~logicpim.rtl.link.frames.BYTE`: requests in, answers out
    again : Out, pulse: the last answer once more; while ``o.ready``
    reset : Out, the channel is to be reset; a register, as it goes everywhere
    insn_*, done_*, host_req_*, host_resp_* : ports of a :class:`~logicpim.rtl.channel.Channel`
    """

    def __init__(self, config: Config, *, frame_bytes: int, clock_hz: int, address_bits: int):
        self.config, self.frame_bytes, self.clock_hz = config, frame_bytes, clock_hz
        super().__init__({
            "i": In(stream.Signature(BYTE)), "o": Out(stream.Signature(BYTE)),
            "again": Out(1), "reset": Out(1, init=1),
            "insn_valid": Out(1), "insn_ready": In(1), "insn_payload": Out(INSTRUCTION_BITS),
            "done_valid": In(1), "done_ready": Out(1), "done_tag": In(16), "done_status": In(8),
            "host_req_valid": Out(1), "host_req_ready": In(1), "host_req_write": Out(1),
            "host_req_region": Out(2), "host_req_address": Out(address_bits),
            "host_req_data": Out(config.granule_bits), "host_req_mask": Out(config.granule_bytes),
            "host_resp_valid": In(1), "host_resp_ready": Out(1),
            "host_resp_data": In(config.granule_bits), "host_resp_error": In(1),
        })

    def _registers(self) -> None:
        config = self.config
        self._head = Signal(8 * size(HEADER))       # of the request at hand
        self._current, self._known = Signal.like(self._head), Signal()
        self._kind, self._count = Signal(8), Signal(8)
        self._target = Signal(8 * size(TARGET))
        self._mask_bytes = config.granule_bytes // 8
        self._unit = max(INSTRUCTION_BYTES, config.granule_bytes + self._mask_bytes,
                         size(IDENTITY))
        self._shift = Signal(8 * self._unit)        # bytes enter at the top, leave at the bottom
        self._place = Signal(range(self._unit + 1))  # byte of what is gathered or sent
        self._ended, self._repeat = Signal(), Signal()
        self._outcome, self._taken = Signal(Outcome), Signal(8)
        # Set at configuration alone, as the contents of block RAM are.
        self._fresh = Signal(init=1, reset_less=True)
        self._timer = Signal(range(RESET_CLOCKS), init=RESET_CLOCKS - 1)

    def elaborate(self, platform):
        m = Module()
        self._registers()
        self._ports(m)
        with m.FSM():
            self._header(m)
            self._arguments(m)
            self._gather(m)
            self._settle(m)
            self._granules(m)
            self._answer(m)
        return m

    def _ports(self, m: Module) -> None:
        config, shift = self.config, self._shift
        at = 8 * (self._unit - config.granule_bytes)
        every = self._kind != Request.WRITE_MASKED
        m.d.comb += [
            self.insn_payload.eq(shift[8 * (self._unit - INSTRUCTION_BYTES):]),
            self.host_req_write.eq(self._kind != Request.READ),
            self.host_req_region.eq(self._target), self.host_req_address.eq(self._target[8:]),
            self.host_req_data.eq(shift[at:]),
            self.host_req_mask.eq(shift[at - 8 * self._mask_bytes:at]
                                  | every.replicate(config.granule_bytes)),
        ]
        m.d.sync += self.reset.eq(self._timer != 0)
        self._need, granule = Signal(range(self._unit + 1)), config.granule_bytes
        with m.Switch(self._kind):
            with m.Case(Request.RUN):
                m.d.comb += self._need.eq(INSTRUCTION_BYTES)
            with m.Case(Request.WRITE):
                m.d.comb += self._need.eq(granule)
            with m.Default():
                m.d.comb += self._need.eq(granule + self._mask_bytes)
        with m.If(self._timer != 0):
            m.d.sync += self._timer.eq(self._timer - 1)
        with m.If(transfer(self.i)):
            m.d.sync += self._ended.eq(self.i.payload.last)

    def _header(self, m: Module) -> None:
        """Whose frame it is: a session's first, the last once more, the next, or a strange one."""
        byte, head, current = self.i.payload, self._head, self._current
        with m.State("header"):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [self._outcome.eq(Outcome.OK), self._taken.eq(0), self._repeat.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += self._place.eq(self._place + 1)
                with m.If(self._place == size(HEADER)):
                    m.d.sync += [self._kind.eq(byte.data), self._place.eq(0)]
                    m.next = "decide"
                with m.Else():
                    m.d.sync += head.eq(Cat(head[8:], byte.data))
                    with m.If(byte.last):
                        m.d.sync += self._place.eq(0)
        session = 8 * HEADER[0].size
        same = self._known & (head[:session] == current[:session])
        with m.State("decide"):
            m.next = "settle"
            with m.If(self._kind == Request.HELLO):
                m.d.sync += [current.eq(head), self._known.eq(1),
                             self._timer.eq(RESET_CLOCKS - 1)]
            with m.Elif(same & (head[session:] == current[session:])):
                m.d.sync += self._repeat.eq(1)
            with m.Elif(~same | (head[session:] != (current[session:] + 1)[:8])):
                m.d.sync += self._outcome.eq(Outcome.STRANGER)
            with m.Else():
                m.d.sync += current.eq(head)
                with m.Switch(self._kind):
                    with m.Case(Request.RUN):
                        m.next = "gather"
                    with m.Case(Request.READ, Request.WRITE, Request.WRITE_MASKED):
                        m.next = "arguments"
                    with m.Default():
                        m.d.sync += self._outcome.eq(Outcome.MALFORMED)

    def _arguments(self, m: Module) -> None:
        byte, most = self.i.payload, read_granules(self.frame_bytes, self.config.granule_bytes)
        reading = self._kind == Request.READ
        with m.State("arguments"):
            m.d.comb += self.i.ready.eq(~self._ended)
            with m.If(self._ended):
                m.d.sync += self._outcome.eq(Outcome.MALFORMED)
                m.next = "settle"
            with m.Elif(self.i.valid):
                m.d.sync += self._place.eq(self._place + 1)
                with m.If(self._place == size(TARGET)):
                    m.d.sync += [self._count.eq(byte.data), self._place.eq(0)]
                    with m.If((byte.data > most) | ~byte.last):
                        m.d.sync += self._outcome.eq(Outcome.MALFORMED)
                    m.next = "settle"
                with m.Else():
                    m.d.sync += self._target.eq(Cat(self._target[8:], byte.data))
                    with m.If((self._place == size(TARGET) - 1) & ~reading):
                        m.d.sync += self._place.eq(0)
                        m.next = "gather"

    def _gather(self, m: Module) -> None:
        """Bytes of a granule or an instruction, until the request ends."""
        with m.State("gather"):
            with m.If(self._place == self._need):
                m.d.sync += self._place.eq(0)
                m.next = "write"
                with m.If(self._kind == Request.RUN):
                    m.next = "push"
            with m.Elif(self._ended):
                with m.If(self._place != 0):
                    m.d.sync += self._outcome.eq(Outcome.MALFORMED)
                m.next = "settle"
            with m.Else():
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [self._place.eq(self._place + 1),
                                 self._shift.eq(Cat(self._shift[8:], self.i.payload.data))]
        with m.State("push"):
            m.next = "settle"  # the rest finds no room: the host sends it again
            with m.If(self.insn_ready):
                m.d.comb += self.insn_valid.eq(1)
                m.d.sync += [self._taken.eq(self._taken + 1), self._fresh.eq(0)]
                m.next = "gather"

    def _settle(self, m: Module) -> None:
        """Let the rest of the request go by."""
        with m.State("settle"):
            m.d.sync += self._place.eq(0)
            m.d.comb += self.i.ready.eq(~self._ended)
            with m.If(self._ended & (self._timer == 0) & ~self.reset):
                m.next = "answer"
                with m.If(self._repeat):
                    m.next = "settle"
                    with m.If(self.o.ready):
                        m.d.comb += self.again.eq(1)
                        m.next = "header"

    def _granules(self, m: Module) -> None:
        """A granule through the host port."""
        target, region = self._target, 8 * TARGET[0].size
        address = len(self.host_req_address)
        beyond = target[2:region].any() | target[region + address:].any()
        with m.State("write"):
            m.d.comb += self.host_req_valid.eq(~beyond)
            with m.If(self.host_req_region == Region.DRAM):
                m.d.sync += self._fresh.eq(0)
            with m.If(beyond | self.host_req_ready):
                m.next = "await"
        with m.State("await"):
            m.d.comb += self.host_resp_ready.eq(1)
            with m.If(beyond | self.host_resp_valid):
                with m.If(beyond | self.host_resp_error):
                    m.d.sync += self._outcome.eq(Outcome.REFUSED)
                m.d.sync += target[region:].eq(target[region:] + 1)
                m.next = "gather"
                with m.If(self._kind == Request.READ):
                    m.d.sync += [self._count.eq(self._count - 1),
                                 self._shift.eq(Mux(beyond, 0, self.host_resp_data))]
                    m.next = "emit"

    def _answer(self, m: Module) -> None:
        """Header, body, outcome."""
        granule, head, reading = self.config.granule_bytes, self._head, self._kind == Request.READ
        most = min(255, (self.frame_bytes - ANSWER_OVERHEAD - 1) // size(COMPLETION))
        identity = pack(IDENTITY, version=VERSION, fresh=0, frame_bytes=self.frame_bytes,
                        clock_khz=self.clock_hz // 1000, digest=int(self.config.digest, 16))
        fresh = 8 * IDENTITY[0].size
        with m.State("answer"):
            self._send(m, head)
            with m.If(self.o.ready):
                m.d.sync += [self._place.eq(self._place + 1), head.eq(Cat(head[8:], head[:8]))]
                with m.If(self._place == size(HEADER) - 1):
                    m.d.sync += self._place.eq(0)
                    m.next = "finish"
                    with m.If(self._outcome == Outcome.OK):
                        with m.If(reading & (self._count != 0)):
                            m.next = "write"
                        with m.Elif(self._kind == Request.RUN):
                            m.d.sync += self._count.eq(most)
                            m.next = "taken"
                        with m.Elif(self._kind == Request.HELLO):
                            m.d.sync += [self._shift.eq(int.from_bytes(identity, "little")),
                                         self._shift[fresh].eq(self._fresh)]
                            m.next = "emit"
        with m.State("taken"):
            self._send(m, self._taken)
            with m.If(self.o.ready):
                m.next = "completions"
        with m.State("completions"):
            m.next = "finish"
            with m.If(self.done_valid & (self._count != 0)):
                m.d.comb += self.done_ready.eq(1)
                m.d.sync += [self._shift.eq(Cat(self.done_tag, self.done_status)),
                             self._count.eq(self._count - 1)]
                m.next = "emit"
        length = Mux(reading, granule, Mux(self._kind == Request.RUN, size(COMPLETION),
                                           size(IDENTITY)))
        with m.State("emit"):
            self._send(m, self._shift)
            with m.If(self.o.ready):
                m.d.sync += [self._place.eq(self._place + 1), self._shift.eq(self._shift >> 8)]
                with m.If(self._place == length - 1):
                    m.d.sync += self._place.eq(0)
                    m.next = "finish"
                    with m.If(self._kind == Request.RUN):
                        m.next = "completions"
                    with m.Elif(reading & (self._count != 0)):
                        m.next = "write"
        with m.State("finish"):
            self._send(m, self._outcome, last=1)
            with m.If(self.o.ready):
                m.next = "header"

    def _send(self, m: Module, byte, last=0) -> None:
        m.d.comb += [self.o.valid.eq(1), self.o.payload.data.eq(byte),
                     self.o.payload.last.eq(last)]
