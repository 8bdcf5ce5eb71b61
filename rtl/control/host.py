# SPDX-License-Identifier: BSD-2-Clause
"""Host port: plain requests to DRAM, buffers and registers, answered in order."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line, host_access
from logicpim.rtl.stream import SkidBuffer
from logicpim.rtl.tsv.lanes import groups
from logicpim.spec.config import Config
from logicpim.spec.device import Counter, LaneRegister, Region

from .mover import buffer_lines, buffer_parts, part_bits

RESPONSES = 64  # accesses between request and response: those that wait to be opened included


def host_address_bits(config: Config) -> int:
    """Width of a granule address within a region."""
    return ceil_log2(max(config.dram.granules, buffer_lines(config) * config.tile.tokens,
                         registers(config)))


def registers(config: Config) -> int:
    """Addresses of the register region, from 0 to the last that there is."""
    return LaneRegister.GROUPS + len(groups(config)) if config.lane_repair else len(Counter)


def host_request(config: Config) -> data.StructLayout:
    """One granule: ``region`` is a :class:`~logicpim.spec.device.Region`, ``mask`` has a bit
    for each byte that a write changes. Buffers are written in whole cells: a mask that covers
    part of a cell is answered with an error."""
    return data.StructLayout({
        "write": unsigned(1), "region": Region,
        "address": unsigned(host_address_bits(config)),
        "data": unsigned(config.granule_bits), "mask": unsigned(config.granule_bytes)})


def host_response(config: Config) -> data.StructLayout:
    """The granule read (zero after a write) and whether the address did not exist, its granule is
    not correct (``config.ecc``) or its bundle was not the host's (``ownership = "refuse"``)."""
    return data.StructLayout({"data": unsigned(config.granule_bits), "error": unsigned(1)})


def checked_request(config: Config) -> data.StructLayout:
    """A request, whether it may be served, whether it is then one to a buffer, and the cells to
    write in its granule."""
    return data.StructLayout({"request": host_request(config), "good": unsigned(1),
                              "buffer": unsigned(1),
                              "cells": unsigned(config.granule_elements // config.tile.rows)})


class HostPort(wiring.Component):
    """Routes host requests to their region and answers each with exactly one response, in order.

    A write has taken effect when its response is given. Buffer accesses are pipelined, one a
    clock, but for a read right behind a write, which waits for one; DRAM accesses are pipelined
    among themselves; a change of region waits for the ones before. Accesses under way never exceed
    the room for their responses.

    Requests are checked as they come, and both they and responses stand in registers: ports of
    the buffers, and who has them, lie between.

    With ``ownership = "refuse"``, a DRAM access to a bundle that is ``owned`` in the clock in which
    it would be handed on is answered with an error instead.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of :func:`host_request`
    o : Out, stream of :func:`host_response`
    dram : Out, stream of :func:`~logicpim.rtl.signatures.host_access`
    dram_done : In, pulse for each DRAM access done, in order
    dram_rdata : In, the granule read, valid with ``dram_done``
    owned : In(bundles), those that Logic-PIM owns
    read, write : Out, port of the buffer named by ``buffer``, which is read a part at a time
        (:func:`~logicpim.rtl.control.mover.part_bits`)
    buffer : Out(1), 0 input buffer, 1 temp buffer
    counters : In, the values that ``REGISTERS`` reads
    clear : Out, pulse that clears them
    dram_bad : In, valid with ``dram_done``: the granule is not correct (``config.ecc``)
    lane_request : Out, a lane test is asked for; ``lane_done`` : In, pulse at its end;
        ``lane_address`` : Out, ``lane_value`` : In, registers of the lanes
        (``config.lane_repair``)
    """

    def __init__(self, config: Config):
        self.config = config
        self._slot_bits = ceil_log2(part_bits(config) // config.granule_bits)
        lines = buffer_lines(config)
        more = {"dram_bad": In(1)} if config.ecc else {}
        if config.lane_repair:
            more |= {"lane_request": Out(1), "lane_done": In(1),
                     "lane_address": Out(range(registers(config))), "lane_value": In(64)}
        super().__init__({
            "i": In(stream.Signature(host_request(config))),
            "o": Out(stream.Signature(host_response(config))),
            "dram": Out(stream.Signature(host_access(config))),
            "dram_done": In(1), "dram_rdata": In(config.granule_bits),
            "owned": In(config.dram.bundles), "buffer": Out(1),
            "read": Out(BufferRead(buffer_parts(config), part_bits(config))),
            "write": Out(BufferWrite(lines, config.line_bits, cells_per_line(config))),
            "counters": In(unsigned(64)).array(len(Counter)),
            "clear": Out(1), **more,
        })

    def _drive_ports(self, m: Module, request) -> None:
        """Payloads towards DRAM and buffers; only enables and valids are conditional."""
        config = self.config
        slot_bits = ceil_log2(config.tile.tokens)
        m.d.comb += [
            self.dram.payload.write.eq(request.write),
            self.dram.payload.address.eq(request.address),
            self.dram.payload.data.eq(request.data),
            self.dram.payload.mask.eq(request.mask),
            self.buffer.eq(request.region == Region.TEMP),
            self.read.address.eq(request.address >> self._slot_bits),
            self.write.address.eq(request.address >> slot_bits),
            self.write.data.eq(request.data.replicate(config.tile.tokens)),
        ]

    def _check(self, m: Module) -> None:
        """From the port to the requests that wait: each with what can be said of it alone."""
        config, request, into = self.config, self.i.payload, self._requests.i
        limit, good = Signal(request.address.shape().width + 1), Signal()
        sizes = {Region.DRAM: config.dram.granules,
                 Region.INPUT: config.input_lines * config.tile.tokens,
                 Region.TEMP: config.temp_lines * config.tile.tokens,
                 Region.REGISTERS: registers(config)}
        with m.Switch(request.region):
            for region, size in sizes.items():
                with m.Case(region):
                    m.d.comb += limit.eq(size)
        cell_bytes = config.tile.rows * 2
        parts = [request.mask.word_select(c, cell_bytes)
                 for c in range(config.granule_bytes // cell_bytes)]
        partial = Cat(part.any() & ~part.all() for part in parts).any()
        is_buffer = (request.region == Region.INPUT) | (request.region == Region.TEMP)
        m.d.comb += good.eq((request.address < limit) & ~(is_buffer & request.write & partial))
        if config.lane_repair:
            counter = request.address < len(Counter)
            lane = (request.address == LaneRegister.TEST) | (request.address >= LaneRegister.GROUPS)
            with m.If((request.region == Region.REGISTERS) & ~counter & ~lane):
                m.d.comb += good.eq(0)
        m.d.comb += [
            into.payload.request.eq(request), into.payload.good.eq(good),
            into.payload.buffer.eq(good & is_buffer),
            into.payload.cells.eq(Cat(part.all() for part in parts)),
            into.valid.eq(self.i.valid), self.i.ready.eq(into.ready),
        ]

    def _register(self, m: Module, request):
        """What the register region holds at the request's address."""
        value = Array(self.counters)[request.address[:ceil_log2(len(Counter))]]
        if not self.config.lane_repair:
            return value
        m.d.comb += self.lane_address.eq(request.address)
        return Mux(request.address >= LaneRegister.TEST, self.lane_value, value)

    def _lane_test(self, m: Module, request, take) -> None:
        """A write that asks for the lane test is taken when that is over."""
        with m.If(request.write & (request.address == LaneRegister.TEST)):
            m.d.comb += [self.lane_request.eq(1), take.eq(self.lane_done), self.clear.eq(0)]

    def _refused(self, m: Module, request):
        """Whether the request is to a bundle of Logic-PIM; one that was offered stays offered."""
        org = self.config.dram
        if self.config.ownership == "wait":
            return Const(0)
        offered = Signal()
        m.d.sync += offered.eq(self.dram.valid & ~self.dram.ready)
        bundle = (request.address >> ceil_log2(org.granules // org.bundles))
        bundle = bundle[:ceil_log2(org.bundles)]
        return (request.region == Region.DRAM) & self.owned.bit_select(bundle, 1) & ~offered

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.responses = responses = SyncFIFOBuffered(
            width=host_response(config).size, depth=RESPONSES)
        m.submodules.requests = self._requests = SkidBuffer(checked_request(config))
        self._check(m)
        waiting = self._requests.o
        request, cells = waiting.payload.request, waiting.payload.cells
        self._drive_ports(m, request)
        good = waiting.payload.good & ~self._refused(m, request)

        under_way, dram_under_way = Signal(range(RESPONSES + 1)), Signal(range(RESPONSES + 1))
        dram_after, dram_idle = Signal.like(dram_under_way), Signal(init=1)
        take, popped = Signal(), Signal()
        room = under_way < RESPONSES
        m.d.comb += [
            popped.eq(self.o.valid & self.o.ready), waiting.ready.eq(take),
            self.o.valid.eq(responses.r_rdy), responses.r_en.eq(self.o.ready),
            self.o.payload.eq(responses.r_data),
        ]
        m.d.sync += under_way.eq(under_way + take - popped)

        # What a request taken last clock leaves to be answered in this one.
        pending, read_back, is_register, error = Signal(), Signal(), Signal(), Signal()
        written = Signal()
        slot = Signal(max(1, self._slot_bits))      # of the granule in its part
        register = Signal(unsigned(64))
        m.d.sync += [pending.eq(0), slot.eq(request.address[:self._slot_bits]),
                     register.eq(self._register(m, request)),
                     read_back.eq(0), is_register.eq(0), error.eq(~good),
                     written.eq(self.write.enable.any())]

        with m.If(waiting.valid & room):
            with m.If(good & (request.region == Region.DRAM)):
                m.d.comb += [self.dram.valid.eq(~pending), take.eq(~pending & self.dram.ready)]
            with m.Elif(dram_idle):
                m.d.sync += pending.eq(take)
                with m.If(~good):
                    m.d.comb += take.eq(1)
                with m.Elif(request.region == Region.REGISTERS):
                    m.d.comb += [take.eq(1), self.clear.eq(request.write)]
                    m.d.sync += is_register.eq(~request.write)
                    if config.lane_repair:
                        self._lane_test(m, request, take)
                with m.Elif(request.write):
                    m.d.comb += take.eq(self.write.ready)
                    for index in range(config.tile.tokens):
                        with m.If(request.address[:ceil_log2(config.tile.tokens)] == index):
                            m.d.comb += self.write.enable.word_select(index, len(cells)).eq(cells)
                with m.Else():
                    m.d.comb += take.eq(self.read.ready & ~written)
                    m.d.sync += read_back.eq(1)
        # Apart from the choice above: the way on to the buffers' memories is long.
        m.d.comb += self.read.enable.eq(waiting.valid & room & dram_idle & waiting.payload.buffer
                                        & ~request.write & ~written)
        m.d.comb += dram_after.eq(dram_under_way + (self.dram.valid & self.dram.ready)
                                  - self.dram_done)
        m.d.sync += [dram_under_way.eq(dram_after), dram_idle.eq(dram_after == 0)]

        # The granule's way is the longest; no access to DRAM ends in the clock after it.
        value, answered, failed = Signal(config.granule_bits, reset_less=True), Signal(), Signal()
        granule = self.read.data.word_select(slot, config.granule_bits)
        answer = data.View(host_response(config), responses.w_data)
        m.d.sync += [
            value.eq(Mux(is_register, register, Mux(read_back, granule, 0))),
            answered.eq(pending), failed.eq(error)]
        m.d.comb += [
            responses.w_en.eq(answered | self.dram_done),
            answer.data.eq(Mux(self.dram_done, self.dram_rdata, value)),
            answer.error.eq(~self.dram_done & failed),
        ]
        if config.ecc:
            with m.If(self.dram_done):
                m.d.comb += answer.error.eq(self.dram_bad)
        return m
