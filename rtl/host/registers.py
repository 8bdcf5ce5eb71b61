# SPDX-License-Identifier: BSD-2-Clause
"""AXI4-Lite slave: instruction queue, completions, interrupts, and a window on the registers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.control.descriptor import COMPLETION
from logicpim.rtl.control.host import host_address_bits, host_response
from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config
from logicpim.spec.host import (
    COUNTERS_BASE,
    COUNTERS_STRIDE,
    IDENTITY,
    INSTRUCTION_WORDS,
    INTERRUPTS,
    REGISTERS,
    WORD_BITS,
    control_registers,
)
from logicpim.spec.isa import INSTRUCTION_BITS

from .ports import DECERR, OKAY, SLVERR, lite_channels, slave_streams, window_request


class AxiLiteRegisters(wiring.Component):
    """The registers of :func:`logicpim.spec.host.control_registers`, and the native register
    region, in a stack that of each channel.

    Registers are written whole: a write with some of its strobes low, to a register that is read
    only, or of the last instruction word while the queue is full is answered SLVERR and has no
    effect, as is a read of a register that is written only. Where there is nothing the answer is
    DECERR. Of a 64-bit register the lower half is read first; the upper half is then that of the
    same value.

    Parameters
    ----------
    config : Config

    Members
    -------
    aw, w, ar : In, b, r : Out, streams of :func:`~.ports.lite_channels`
    instruction : Out, stream of descriptors
    channels : Out, in a stack: the set of channels that they are for, valid with it
    completion : In, stream of completions
    window : Out, stream of :func:`~.ports.window_request`
    answer : In, valid with ``answered``: the host port's response to it
    fault : In, an access to the AXI4 port failed
    irq : Out, a cause that is enabled holds
    """

    def __init__(self, config: Config):
        self.config, self._registers = config, control_registers(config)
        every = (1 << config.channels) - 1
        channels = {"channels": Out(config.channels, init=every)} if config.stack else {}
        super().__init__({
            **slave_streams(lite_channels(config)),
            "instruction": Out(stream.Signature(unsigned(INSTRUCTION_BITS))),
            "completion": In(stream.Signature(COMPLETION)),
            "window": Out(stream.Signature(window_request(config))),
            "answer": In(host_response(config)), "answered": In(1), "fault": In(1),
            "irq": Out(1), **channels,
        })

    def _state(self, m: Module):
        """(status word, causes of interrupts)."""
        queued, fault = Signal(16), Signal()
        m.d.sync += queued.eq(queued + transfer(self.instruction) - transfer(self.completion))
        with m.If(self._clear_fault):
            m.d.sync += fault.eq(0)
        with m.If(self.fault):
            m.d.sync += fault.eq(1)
        ready, done, busy = self.instruction.ready, self.completion.valid, queued != 0
        causes = {"completion": done, "ready": ready, "idle": ~busy, "fault": fault}
        fields = {"ready": ready, "completion": done, "busy": busy, "instructions": queued}
        status = self._word(REGISTERS["status"], fields)
        return status, self._word(REGISTERS["irq_pending"], causes)

    @staticmethod
    def _word(register, values):
        """A word of 32 bits with the fields of a register in their places."""
        word = Const(0, WORD_BITS)
        for field in register.fields:
            word = word | (values[field.name] << field.lsb)
        return word[:WORD_BITS]

    def _read(self, m: Module, address, status, pending, enable, go):
        """(data, response) of a read below the window; ``go``: it is done in this clock."""
        value, resp = Signal(WORD_BITS), Signal(2)
        m.d.comb += resp.eq(DECERR)
        done = self.completion
        values = {
            "identity": Const(IDENTITY, WORD_BITS),
            "digest": Const(int(self.config.digest[:8], 16), WORD_BITS), "status": status,
            "irq_enable": enable, "irq_pending": pending,
            "completion": Mux(done.valid, self._word(REGISTERS["completion"], {
                "tag": done.payload.tag, "status": Value.cast(done.payload.status),
                "valid": Const(1, 1)}), 0),
        }
        for name, register in self._registers.items():
            for i in range(register.count):
                with m.If(address == register.offset // 4 + i):
                    m.d.comb += resp.eq(OKAY if register.access.readable else SLVERR)
                    if name == "channels":
                        m.d.comb += value.eq(self._chosen(i))
                    elif register.access.readable:
                        m.d.comb += value.eq(values[name])
                    if name == "completion":
                        m.d.comb += done.ready.eq(go)
        return value, resp

    def _write(self, m: Module, address, word, enable, go):
        """Response of a write below the window."""
        resp, known = Signal(2), Signal(2)
        early = Signal(INSTRUCTION_BITS - WORD_BITS)
        m.d.comb += [known.eq(DECERR), resp.eq(known),
                     self.instruction.payload.eq(Cat(early, word.data))]
        first = REGISTERS["instruction"].offset // 4
        for register in self._registers.values():
            for i in range(register.count):
                with m.If(address == register.offset // 4 + i):
                    m.d.comb += known.eq(OKAY if register.access.writable else SLVERR)
        with m.If((address == first + INSTRUCTION_WORDS - 1) & ~self.instruction.ready):
            m.d.comb += resp.eq(SLVERR)
        with m.If((known == OKAY) & ~word.strb.all()):
            m.d.comb += resp.eq(SLVERR)
        with m.If(go & (resp == OKAY)):
            for i in range(INSTRUCTION_WORDS - 1):
                with m.If(address == first + i):
                    m.d.sync += early.word_select(i, WORD_BITS).eq(word.data)
            with m.If(address == first + INSTRUCTION_WORDS - 1):
                m.d.comb += self.instruction.valid.eq(1)
            with m.If(address == REGISTERS["irq_enable"].offset // 4):
                m.d.sync += enable.eq(word.data)
            if channels := self._registers.get("channels"):
                for i in range(channels.count):
                    with m.If(address == channels.offset // 4 + i):
                        m.d.sync += self._chosen(i).eq(word.data)
            with m.If(address == REGISTERS["irq_pending"].offset // 4):
                fault, = (f for f in INTERRUPTS if f.name == "fault")
                m.d.comb += self._clear_fault.eq(word.data[fault.lsb])
        return resp

    def _chosen(self, word: int):
        """Of the set of channels the part that a word has."""
        return self.channels[WORD_BITS * word:WORD_BITS * (word + 1)]

    def _window(self, m: Module, address):
        """Where an address is in the register regions; (whether it is there, or in none)."""
        place, inside, nowhere = Signal(window_request(self.config)), Signal(), Signal()
        index, bits = place.address, host_address_bits(self.config)
        m.d.comb += [index.eq(address[ceil_log2(COUNTERS_STRIDE):]),
                     inside.eq(address >= COUNTERS_BASE), nowhere.eq(index >> bits != 0)]
        if self.config.stack:
            page = address[ceil_log2(COUNTERS_BASE):]
            m.d.comb += place.channel.eq(page - 1)
            with m.If(page > self.config.channels):
                m.d.comb += nowhere.eq(1)
        return place, inside, nowhere

    def elaborate(self, platform):
        m = Module()
        self._clear_fault = Signal()
        enable = Signal(len(INTERRUPTS))
        status, pending = self._state(m)
        m.d.comb += self.irq.eq((pending & enable) != 0)

        # One access at a time; each response has a place of its own, so no channel waits for
        # the other's.
        last_write, do_write, do_read = Signal(), Signal(), Signal()
        b_valid, b_resp = Signal(), Signal(2)
        r_valid, r_data, r_resp = Signal(), Signal(WORD_BITS), Signal(2)
        m.d.comb += [self.b.valid.eq(b_valid), self.b.payload.resp.eq(b_resp),
                     self.r.valid.eq(r_valid), self.r.payload.data.eq(r_data),
                     self.r.payload.resp.eq(r_resp)]
        with m.If(self.b.ready):
            m.d.sync += b_valid.eq(0)
        with m.If(self.r.ready):
            m.d.sync += r_valid.eq(0)
        can_write = self.aw.valid & self.w.valid & ~b_valid
        can_read = self.ar.valid & ~r_valid
        address = Mux(do_write, self.aw.payload.addr, self.ar.payload.addr)
        upper, halves = Signal(WORD_BITS), address[2]
        place, in_window, nowhere = self._window(m, address)
        m.d.comb += place.write.eq(do_write)
        value, read_resp = self._read(m, self.ar.payload.addr[2:], status, pending, enable,
                                      do_read)
        write_resp = self._write(m, self.aw.payload.addr[2:], self.w.payload, enable, do_write)
        refused = do_write & (halves | ~self.w.payload.strb.all())
        writing = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [do_write.eq(can_write & ~(can_read & last_write)),
                             do_read.eq(can_read & ~do_write)]
                m.d.comb += [self.aw.ready.eq(do_write), self.w.ready.eq(do_write),
                             self.ar.ready.eq(do_read)]
                m.d.sync += [writing.eq(do_write), self.window.payload.eq(place)]
                with m.If(do_write):
                    m.d.sync += [last_write.eq(1), b_valid.eq(1), b_resp.eq(write_resp)]
                with m.If(do_read):
                    m.d.sync += [last_write.eq(0), r_valid.eq(1), r_data.eq(value),
                                 r_resp.eq(read_resp)]
                ask = in_window & ~nowhere & ~refused & ~(do_read & halves)
                # The other channel's answer may still wait to be taken: it is left alone.
                with m.If(do_write & in_window):
                    m.d.sync += [b_valid.eq(~ask), b_resp.eq(Mux(nowhere, DECERR, SLVERR))]
                with m.If(do_read & in_window):
                    m.d.sync += [r_valid.eq(~ask), r_resp.eq(Mux(nowhere, DECERR, OKAY)),
                                 r_data.eq(upper)]
                with m.If((do_write | do_read) & ask):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.window.valid.eq(1)
                with m.If(self.window.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.answered):
                    resp = Mux(self.answer.error, DECERR, OKAY)
                    m.next = "IDLE"
                    with m.If(writing):
                        m.d.sync += [b_valid.eq(1), b_resp.eq(resp)]
                    with m.Else():
                        m.d.sync += [r_valid.eq(1), r_resp.eq(resp), upper.eq(
                            self.answer.data[WORD_BITS:2 * WORD_BITS]),
                            r_data.eq(self.answer.data[:WORD_BITS])]
        return m
