# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 slave in front of a channel's host port."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.control.host import host_address_bits, host_request, host_response
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.spec.config import Config
from logicpim.spec.device import Region
from logicpim.spec.host import memory_map

from .burst import BurstWalker
from .ports import (
    DECERR,
    OKAY,
    SLVERR,
    axi_address,
    axi_channels,
    bus_bytes,
    lane_bits,
    slave_streams,
    window_request,
)

IN_FLIGHT = 64  # requests at the host port at once, and beats of reads that wait to be taken
BURSTS = 8      # bursts of each direction that wait; write responses that wait to be taken
WRITE_BEATS = 8


class Kind(enum.Enum, shape=2):
    """Whom a response of the host port is for."""

    READ = 0
    WRITE = 1
    MERGE = 2  # the read of a write that covers part of a cell
    WINDOW = 3


def order_entry(config: Config) -> data.StructLayout:
    """What is remembered of each beat until it is answered; with a ``resp`` of its own it never
    went to the host port."""
    return data.StructLayout({
        "kind": Kind, "id": unsigned(config.axi_id_bits), "last": unsigned(1),
        "lane": unsigned(max(1, lane_bits(config))), "resp": unsigned(2)})


class AxiBridge(wiring.Component):
    """Serves AXI4 bursts by requests to the host port, a beat a clock.

    All bursts of one direction are served and answered in the order of their addresses, whatever
    their IDs; reads and writes take turns, burst by burst. A write is answered when all its beats
    have taken effect. Beats are judged one by one: one that no window holds is answered DECERR,
    one that the host port refuses or of a burst that is illegal SLVERR; a write has the worst
    answer of its beats, and the others have taken effect.

    No channel waits for another: a beat is asked for only if there is room for its answer.

    The buffers are written in cells. A beat that covers part of one is made whole first: its
    granule is read, merged and written, so a kernel must not write the same cell meanwhile.

    Parameters
    ----------
    config : Config

    Members
    -------
    aw, w, ar : In, b, r : Out, streams of :func:`~.ports.axi_channels`
    request, response : streams of the host port
    window : In, stream of :func:`~.ports.window_request`, served between beats, one at a time
    answer : Out, response of the last ``window`` request, valid with ``answered``
    fault : Out, a beat is answered with an error in this clock
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            **slave_streams(axi_channels(config)),
            "request": Out(stream.Signature(host_request(config))),
            "response": In(stream.Signature(host_response(config))),
            "window": In(stream.Signature(window_request(config))),
            "answer": Out(host_response(config)), "answered": Out(1), "fault": Out(1),
        })

    def _place(self, m: Module, beat, name: str):
        """(error of the beat, its region, its granule, its part of the granule)."""
        granule = ceil_log2(self.config.granule_bytes)
        resp, region = Signal(2, name=f"{name}_resp"), Signal(Region, name=f"{name}_region")
        index = Signal(host_address_bits(self.config), name=f"{name}_granule")
        m.d.comb += resp.eq(DECERR)
        for window in memory_map(self.config):
            size = ceil_log2(window.size)
            with m.If(beat.address[size:] == window.base >> size):
                m.d.comb += [resp.eq(OKAY), region.eq(window.region),
                             index.eq(beat.address[granule:size])]
        with m.If(beat.illegal):
            m.d.comb += resp.eq(SLVERR)
        return resp, region, index, beat.address[ceil_log2(bus_bytes(self.config)):granule]

    def _cells(self, mask):
        """(the mask with every cell it touches whole, whether that is another mask)."""
        size = self.config.tile.rows * 2
        parts = [mask.word_select(c, size) for c in range(self.config.granule_bytes // size)]
        whole = Cat(part.any().replicate(size) for part in parts)
        return whole, Cat(part.any() & ~part.all() for part in parts).any()

    def _reads(self, m: Module):
        """The beat of a read that is next: (whether there is one, request, order entry)."""
        config = self.config
        m.submodules.read_bursts = bursts = Queue(axi_address(config), depth=BURSTS)
        m.submodules.read_beats = walker = BurstWalker(config)
        connect(m, wiring.flipped(self.ar), bursts.i)
        connect(m, bursts.o, walker.i)
        m.submodules.read_answers = answers = Queue(self.r.payload.shape(), depth=IN_FLIGHT)
        connect(m, answers.o, wiring.flipped(self.r))
        due = Signal(range(IN_FLIGHT + 1))
        m.d.sync += due.eq(due + transfer(walker.o) - transfer(answers.o))
        resp, region, granule, lane = self._place(m, walker.o.payload, "read")
        request, entry = Signal(host_request(config)), Signal(order_entry(config))
        m.d.comb += [
            request.region.eq(region), request.address.eq(granule),
            entry.kind.eq(Kind.READ), entry.id.eq(walker.o.payload.id),
            entry.last.eq(walker.o.payload.last), entry.resp.eq(resp), entry.lane.eq(lane),
        ]
        return walker.o, answers.i, walker.o.valid & (due < IN_FLIGHT), request, entry

    def _writes(self, m: Module):
        """As :meth:`_reads`, with the beat's data; and how a merging write goes on."""
        config = self.config
        m.submodules.write_bursts = bursts = Queue(axi_address(config), depth=BURSTS)
        m.submodules.write_beats = walker = BurstWalker(config)
        m.submodules.write_data = words = Queue(self.w.payload.shape(), depth=WRITE_BEATS)
        m.submodules.write_answers = answers = Queue(self.b.payload.shape(), depth=BURSTS)
        connect(m, wiring.flipped(self.w), words.i)
        connect(m, bursts.o, walker.i)
        connect(m, answers.o, wiring.flipped(self.b))
        # As many bursts as their answers have room.
        due = Signal(range(BURSTS + 1))
        room = due < BURSTS
        m.d.sync += due.eq(due + transfer(bursts.i) - transfer(answers.o))
        m.d.comb += [bursts.i.payload.eq(self.aw.payload),
                     bursts.i.valid.eq(self.aw.valid & room),
                     self.aw.ready.eq(bursts.i.ready & room)]
        resp, region, granule, lane = self._place(m, walker.o.payload, "write")
        request, entry = Signal(host_request(config)), Signal(order_entry(config))
        mask = Signal(config.granule_bytes)
        m.d.comb += [
            mask.word_select(lane, bus_bytes(config)).eq(words.o.payload.strb),
            request.write.eq(1), request.region.eq(region), request.address.eq(granule),
            request.mask.eq(mask),
            request.data.eq(words.o.payload.data.replicate(config.granule_bits // config.axi_bits)),
            entry.kind.eq(Kind.WRITE), entry.id.eq(walker.o.payload.id),
            entry.last.eq(walker.o.payload.last), entry.resp.eq(resp), entry.lane.eq(lane),
        ]
        return walker.o, words.o, answers.i, request, entry

    def _merge(self, m: Module, request, entry, given, old, old_error, old_valid):
        """Makes a beat that covers part of a cell a read and a write of whole cells.

        Returns whether the beat itself is what is asked for now (and not waited for).
        """
        whole, partial = self._cells(request.mask)
        merged, new = Signal(self.config.granule_bits), Signal(self.config.granule_bits)
        m.d.comb += new.eq(Cat(
            Mux(request.mask[i], request.data.word_select(i, 8), old.word_select(i, 8))
            for i in range(self.config.granule_bytes)))
        asked, have, failed = Signal(), Signal(), Signal()
        first = partial & (request.region != Region.DRAM) & (entry.resp == OKAY) & ~have
        with m.If(old_valid):
            m.d.sync += [merged.eq(new), have.eq(1), asked.eq(0), failed.eq(old_error)]
        with m.If(given):
            m.d.sync += [asked.eq(first), have.eq(0)]
        out, note = Signal.like(request), Signal.like(entry)
        m.d.comb += [out.eq(request), note.eq(entry)]
        with m.If(first):
            m.d.comb += [out.write.eq(0), note.kind.eq(Kind.MERGE)]
        with m.If(have):
            m.d.comb += [out.data.eq(merged), out.mask.eq(whole)]
            with m.If(failed):
                m.d.comb += note.resp.eq(SLVERR)
        return out, note, ~first, ~asked

    def _retire(self, m: Module, order, read_answers, write_answers):
        """Hand the answer of the oldest beat to its channel; returns what a merge needs."""
        head, native = order.payload, self.response
        resp, worst, local = Signal(2), Signal(2), head.resp != OKAY
        ready = order.valid & (local | native.valid)
        m.d.comb += [
            order.ready.eq(ready), native.ready.eq(order.valid & ~local),
            resp.eq(Mux(local, head.resp, Mux(native.payload.error, SLVERR, OKAY))),
            read_answers.valid.eq(ready & (head.kind == Kind.READ)),
            read_answers.payload.id.eq(head.id), read_answers.payload.last.eq(head.last),
            read_answers.payload.resp.eq(resp),
            read_answers.payload.data.eq(Mux(
                resp == OKAY, native.payload.data.word_select(head.lane, self.config.axi_bits), 0)),
            write_answers.valid.eq(ready & (head.kind == Kind.WRITE) & head.last),
            write_answers.payload.id.eq(head.id), write_answers.payload.resp.eq(resp | worst),
            self.answer.eq(native.payload), self.answered.eq(ready & (head.kind == Kind.WINDOW)),
            self.fault.eq(ready & (resp != OKAY)
                          & ((head.kind == Kind.READ) | (head.kind == Kind.WRITE))),
        ]
        with m.If(ready & (head.kind == Kind.WRITE)):
            m.d.sync += worst.eq(Mux(head.last, OKAY, resp | worst))
        return native.payload.data, native.payload.error, ready & (head.kind == Kind.MERGE)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.order = order = Queue(order_entry(config), depth=IN_FLIGHT)
        reads, read_answers, can_read, read_request, read_entry = self._reads(m)
        writes, words, write_answers, write_beat, write_note = self._writes(m)
        old = self._retire(m, order.o, read_answers, write_answers)
        write_given = Signal()
        write_request, write_entry, whole, free = self._merge(m, write_beat, write_note,
                                                              write_given, *old)
        can_write = writes.valid & words.valid & free

        # The window first: it is rare, and has one request at a time. Reads and writes in turn.
        turn, pick_write, go = Signal(), Signal(), Signal()
        entry, local = order.i.payload, Signal()
        m.d.comb += [
            pick_write.eq(can_write & (~can_read | turn)),
            local.eq(entry.resp != OKAY), go.eq(order.i.ready & (local | self.request.ready)),
            order.i.valid.eq((self.window.valid | can_read | can_write)
                             & (local | self.request.ready)),
            self.request.valid.eq(order.i.valid & order.i.ready & ~local),
        ]
        with m.If(self.window.valid):
            m.d.comb += [
                self.request.payload.write.eq(self.window.payload.write),
                self.request.payload.region.eq(Region.REGISTERS),
                self.request.payload.address.eq(self.window.payload.address),
                entry.kind.eq(Kind.WINDOW), self.window.ready.eq(go),
            ]
        with m.Elif(pick_write):
            m.d.comb += [self.request.payload.eq(write_request), entry.eq(write_entry),
                         write_given.eq(go), writes.ready.eq(go & whole),
                         words.ready.eq(go & whole)]
            with m.If(go & whole & writes.payload.last):
                m.d.sync += turn.eq(0)
        with m.Elif(can_read):
            m.d.comb += [self.request.payload.eq(read_request), entry.eq(read_entry),
                         reads.ready.eq(go)]
            with m.If(go & reads.payload.last):
                m.d.sync += turn.eq(1)
        return m
