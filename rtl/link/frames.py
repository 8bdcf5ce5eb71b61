# SPDX-License-Identifier: BSD-2-Clause
"""Frames between bytes of a line and the bytes of requests and answers."""

from amaranth.hdl import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from logicpim.spec.link import CRC_BYTES, CRC_RESIDUE, END, ESC, ESC_END, ESC_ESC

from .crc import START, crc_step

BYTE = data.StructLayout({"data": unsigned(8), "last": unsigned(1)})
"""A byte of a frame, and whether it is the frame's last."""


class FrameReceiver(wiring.Component):
    """Sound frames out of what a line delivers, from any point of it on.

    Promises that a frame leaves whole, without its CRC, and only if its CRC is right; anything
    else is dropped up to the next END. What arrives while a frame leaves is dropped.

    Parameters
    ----------
    size : int
        Most bytes of a frame, its CRC included; a power of two.

    Members
    -------
    valid, byte, bad : In, a byte of the line; with ``bad`` it spoils its frame
    o : Out, stream of :data:`BYTE`
    """

    def __init__(self, *, size: int):
        self.size = size
        super().__init__({"valid": In(1), "byte": In(8), "bad": In(1),
                          "o": Out(stream.Signature(BYTE))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.size, init=[])
        write, read = memory.write_port(), memory.read_port()
        length, spoilt = Signal(range(self.size + 1)), Signal(init=1)
        escaped, crc = Signal(), Signal(32, init=START)
        sending, fetched, at = Signal(), Signal(), Signal(range(self.size))

        plain, payload = Signal(8), Signal()
        wrong = escaped & (self.byte != ESC_END) & (self.byte != ESC_ESC)
        m.d.comb += [
            plain.eq(Mux(escaped, Mux(self.byte == ESC_END, END, ESC), self.byte)),
            payload.eq(self.valid & (self.byte != END) & (escaped | (self.byte != ESC))),
            write.addr.eq(length), write.data.eq(plain), write.en.eq(payload & ~sending),
            read.addr.eq(at), read.en.eq(1),
            self.o.valid.eq(fetched), self.o.payload.data.eq(read.data),
            self.o.payload.last.eq(at == (length - (CRC_BYTES + 1))[:len(at)]),
        ]
        with m.If(self.valid):
            m.d.sync += escaped.eq((self.byte == ESC) & ~escaped)
            with m.If(wrong | self.bad | sending):
                m.d.sync += spoilt.eq(1)
        with m.If(payload & ~sending):
            m.d.sync += [length.eq(length + 1), crc.eq(crc_step(crc, plain))]
            with m.If(length == self.size):
                m.d.sync += [length.eq(length), spoilt.eq(1)]
        with m.If(self.valid & (self.byte == END)):
            m.d.sync += [spoilt.eq(0), crc.eq(START)]
            with m.If(~sending):
                m.d.sync += length.eq(0)
                with m.If(~spoilt & ~escaped & ~self.bad & (length > CRC_BYTES)
                          & (crc == CRC_RESIDUE)):
                    m.d.sync += [sending.eq(1), length.eq(length), at.eq(0)]
        with m.If(sending):
            m.d.sync += fetched.eq(1)
            with m.If(fetched & self.o.ready):
                m.d.sync += [fetched.eq(0), at.eq(at + 1)]
                with m.If(self.o.payload.last):
                    m.d.sync += [sending.eq(0), length.eq(0)]
        return m


class FrameSender(wiring.Component):
    """Frames onto a line, with their CRC; the last one again when asked.

    Promises that ``i`` is taken only between frames, and nothing leaves before its last byte came.

    Parameters
    ----------
    size : int
        Most bytes of a frame without its CRC; a power of two.

    Members
    -------
    i : In, stream of :data:`BYTE`
    again : In, pulse: send the last frame once more; while ``i`` is ready
    o : Out, stream of bytes of the line
    """

    def __init__(self, *, size: int):
        self.size = size
        super().__init__({"i": In(stream.Signature(BYTE)), "again": In(1),
                          "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.size, init=[])
        write, read = memory.write_port(), memory.read_port()
        filled, last, at = (Signal(range(self.size)) for _ in range(3))
        tail = Signal(range(CRC_BYTES + 1))
        crc, escaped, plain = Signal(32), Signal(), Signal(8)
        held = Array(~crc[8 * i:8 * i + 8] for i in range(CRC_BYTES))
        m.d.comb += [
            write.addr.eq(filled), write.data.eq(self.i.payload.data),
            read.addr.eq(at), read.en.eq(1),
            plain.eq(Mux(tail == 0, read.data, held[(tail - 1)[:2]])),
        ]
        special = (plain == END) | (plain == ESC)
        with m.FSM():
            with m.State("fill"):
                m.d.comb += [self.i.ready.eq(1), write.en.eq(self.i.valid)]
                m.d.sync += [at.eq(0), tail.eq(0), crc.eq(START), escaped.eq(0)]
                with m.If(self.again):
                    m.next = "begin"
                with m.Elif(self.i.valid):
                    m.d.sync += filled.eq(filled + 1)
                    with m.If(self.i.payload.last):
                        m.d.sync += [filled.eq(0), last.eq(filled)]
                        m.next = "begin"
            with m.State("begin"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(END)]
                with m.If(self.o.ready):
                    m.next = "bytes"
            with m.State("bytes"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(plain)]
                with m.If(escaped):
                    m.d.comb += self.o.payload.eq(Mux(plain == END, ESC_END, ESC_ESC))
                with m.Elif(special):
                    m.d.comb += self.o.payload.eq(ESC)
                with m.If(self.o.ready):
                    m.d.sync += escaped.eq(special & ~escaped)
                    with m.If(~special | escaped):
                        with m.If(tail == 0):
                            m.d.sync += [at.eq(at + 1), crc.eq(crc_step(crc, plain))]
                            with m.If(at == last):
                                m.d.sync += tail.eq(1)
                        with m.Else():
                            m.d.sync += tail.eq(tail + 1)
                        m.next = "fetch"
                        with m.If(tail == CRC_BYTES):
                            m.next = "end"
            with m.State("fetch"):
                m.next = "bytes"
            with m.State("end"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(END)]
                with m.If(self.o.ready):
                    m.next = "fill"
        return m
