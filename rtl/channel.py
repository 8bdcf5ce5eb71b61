# SPDX-License-Identifier: BSD-2-Clause
"""One channel: DRAM controller, TSV interface, GEMM and function modules, operation control."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.bank.controller import DramController
from logicpim.rtl.bank.order import HostOrder
from logicpim.rtl.control.buffer_ports import BufferPorts
from logicpim.rtl.control.counters import Counters
from logicpim.rtl.control.decoder import InstructionDecoder
from logicpim.rtl.control.descriptor import COMPLETION
from logicpim.rtl.control.executor import OperationExecutor
from logicpim.rtl.control.host import RESPONSES, HostPort, host_address_bits
from logicpim.rtl.control.masked_write import MaskedWrites
from logicpim.rtl.control.mover import Loader, Storer
from logicpim.rtl.control.read_errors import ReadErrors
from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.buffer import LineBuffer
from logicpim.rtl.pim.functions import FunctionModules
from logicpim.rtl.pim.gemm import GemmModule
from logicpim.rtl.signatures import DataBus, cells_per_line, column_command, row_command
from logicpim.rtl.stream import Queue, connect, transfer
from logicpim.rtl.tsv.interface import TsvInterface
from logicpim.rtl.tsv.lane_ends import LogicLanes, lane_ports
from logicpim.spec.config import Config
from logicpim.spec.errors import ConfigError
from logicpim.spec.isa import INSTRUCTION_BITS


def side_ports(config: Config) -> dict:
    """The ports of host and DRAM with flat conventional names."""
    ports = {
        "host_req_valid": In(1), "host_req_ready": Out(1), "host_req_write": In(1),
        "host_req_region": In(2), "host_req_address": In(host_address_bits(config)),
        "host_req_data": In(config.granule_bits), "host_req_mask": In(config.granule_bytes),
        "host_resp_valid": Out(1), "host_resp_ready": In(1),
        "host_resp_data": Out(config.granule_bits), "host_resp_error": Out(1),
    }
    for slot in (0, 1):
        for bus, layout in (("row", row_command(config)), ("column", column_command(config))):
            for name, shape in layout.members.items():
                ports[f"dram_{bus}{slot}_{name}"] = Out(shape)
    ports["dram_path"] = Out(config.dram.bundles)
    data = (lane_ports(config, logic=True) if config.lane_repair
            else dict(DataBus(config).members.items()))
    return ports | {f"dram_{name}": member for name, member in data.items()}


class ChannelBase(wiring.Component):
    """A channel but for where its operations come from and its completions go to.

    Promises that every host request gets one response, in order.

    Parameters
    ----------
    config : Config
    members : dict
        Further ports.

    Members
    -------
    host_req_* : requests in: ``write``, ``region``, ``address`` (granules), ``data``,
        ``mask`` (a bit per byte written)
    host_resp_* : responses out: ``data`` (of a read), ``error`` (no such address, or a bundle of
        Logic-PIM's, if ``config.ownership`` is to refuse these)
    dram_* : command and data buses of the DRAM, see :mod:`logicpim.rtl.signatures` for the
        clock in which each is valid; with ``lane_repair`` the lanes of the data buses and the test
        port, see :mod:`logicpim.rtl.tsv.lane_ends`
    """

    def __init__(self, config: Config, members: dict):
        self.config = config
        super().__init__(members | side_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.dram_controller = dram = DramController(config)
        m.submodules.tsv = tsv = TsvInterface(config)
        m.submodules.gemm = gemm = shared(GemmModule(config), "gemm")
        m.submodules.loader = loader = Loader(config)
        m.submodules.storer = storer = Storer(config)
        operations = self._operations(m)
        m.submodules.executor = executor = OperationExecutor(config)
        m.submodules.host = host = HostPort(config)

        wiring.connect(m, dram.strobes, tsv.strobes)
        connect(m, tsv.beats, loader.i)
        connect(m, loader.o, gemm.beats)
        connect(m, storer.o, tsv.words)
        connect(m, operations, executor.i)
        connect(m, executor.bundle, dram.job)
        connect(m, executor.gemm, gemm.job)
        connect(m, executor.load, loader.job)
        connect(m, executor.store, storer.job)
        m.d.comb += [
            executor.gemm_done.eq(gemm.done), executor.load_done.eq(loader.done),
            executor.bundle_done.eq(dram.job_done),
        ]
        self._host_dram(m, host, dram, tsv)
        self._buffers(m, gemm, loader, storer, host)
        self._functions(m, executor)
        self._counters(m, gemm, dram, host, tsv, executor)
        self._dram_ports(m, dram.bus, tsv.bus, host)
        self._instruction_ports(m, executor)
        self._host_ports(m, host)
        return m

    def _operations(self, m: Module):
        """The stream of operations, before there is anything else but the DRAM's side and GEMM."""
        raise NotImplementedError

    def _instruction_ports(self, m: Module, executor) -> None:
        """Where operations come from and completions go to; what the counters are told of it."""
        raise NotImplementedError

    def _host_dram(self, m: Module, host, dram, tsv) -> None:
        """The host port's way to the DRAM."""
        m.submodules.host_order = order = HostOrder(self.config, RESPONSES)
        connect(m, order.o, dram.host)
        # With check bits there is a clock for their decoder.
        domain = m.d.sync if self.config.ecc else m.d.comb
        domain += [order.o_done.eq(dram.host_done), order.o_part.eq(dram.host_part)]
        m.d.comb += [order.o_rdata.eq(tsv.host_rdata), host.owned.eq(dram.owned)]
        if not self.config.ecc:
            connect(m, host.dram, order.i)
            m.d.comb += [host.dram_done.eq(order.done), host.dram_rdata.eq(order.rdata)]
            return
        m.submodules.masked_writes = masked = MaskedWrites(self.config)
        connect(m, host.dram, masked.i)
        connect(m, masked.o, order.i)
        m.d.comb += [order.o_bad.eq(tsv.host_bad), masked.o_done.eq(order.done),
                     masked.o_rdata.eq(order.rdata), masked.o_bad.eq(order.bad),
                     host.dram_done.eq(masked.done), host.dram_rdata.eq(masked.rdata),
                     host.dram_bad.eq(masked.bad)]

    def _buffers(self, m: Module, gemm, loader, storer, host) -> None:
        config = self.config
        m.submodules.buffer_ports = ports = BufferPorts(config)
        for name, lines in (("input", config.input_lines), ("temp", config.temp_lines)):
            memory = LineBuffer(lines=lines, line_bits=config.line_bits,
                                cells=cells_per_line(config))
            m.submodules[f"{name}_buffer"] = memory
            wiring.connect(m, getattr(ports, f"{name}_read"), memory.read)
            wiring.connect(m, getattr(ports, f"{name}_write"), memory.write)
        wiring.connect(m, gemm.operands, ports.operands)
        wiring.connect(m, gemm.prior, ports.prior)
        wiring.connect(m, gemm.results, ports.results)
        wiring.connect(m, loader.write, ports.load)
        wiring.connect(m, storer.read, ports.store)
        wiring.connect(m, host.read, ports.host_read)
        wiring.connect(m, host.write, ports.host_write)
        m.d.comb += [ports.load_select.eq(loader.buffer), ports.store_select.eq(storer.buffer),
                     ports.host_select.eq(host.buffer)]

    def _functions(self, m: Module, executor) -> None:
        if self.config.functions:
            m.submodules.functions = functions = FunctionModules(self.config)
            connect(m, executor.function, functions.job)
            wiring.connect(m, functions.read, m.submodules.buffer_ports.sources)
            wiring.connect(m, functions.write, m.submodules.buffer_ports.activations)
            m.d.comb += executor.function_done.eq(functions.done)

    def _host_ports(self, m: Module, host) -> None:
        request = host.i.payload
        m.d.comb += [
            host.i.valid.eq(self.host_req_valid), self.host_req_ready.eq(host.i.ready),
            request.write.eq(self.host_req_write), request.region.eq(self.host_req_region),
            request.address.eq(self.host_req_address), request.data.eq(self.host_req_data),
            request.mask.eq(self.host_req_mask),
            self.host_resp_valid.eq(host.o.valid), host.o.ready.eq(self.host_resp_ready),
            self.host_resp_data.eq(host.o.payload.data),
            self.host_resp_error.eq(host.o.payload.error),
        ]

    def _dram_ports(self, m: Module, commands, data_bus, host) -> None:
        for slot in ("row0", "row1", "column0", "column1"):
            source = getattr(commands, slot)
            for name in source.shape().members:
                m.d.comb += getattr(self, f"dram_{slot}_{name}").eq(source[name])
        m.d.comb += self.dram_path.eq(commands.path)
        source, ports, self._hold = data_bus, DataBus(self.config).members, None
        if self.config.lane_repair:
            m.submodules.logic_lanes = source = lanes = LogicLanes(self.config)
            wiring.connect(m, data_bus, lanes.bus)
            ports, self._hold = lane_ports(self.config, logic=True), lanes.busy
            m.d.comb += [lanes.request.eq(host.lane_request), host.lane_done.eq(lanes.done),
                         lanes.address.eq(host.lane_address), host.lane_value.eq(lanes.value),
                         lanes.idle.eq(~self._counted.in_flight)]
        for name, member in ports.items():
            inner, outer = getattr(source, name), getattr(self, f"dram_{name}")
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)

    def _counters(self, m: Module, gemm, dram, host, tsv, executor) -> None:
        m.submodules.counters = self._counted = counters = Counters(self.config)
        if self.config.ecc:
            m.submodules.read_errors = errors = ReadErrors(self.config)
            connect(m, errors.o, executor.read_error)
            wiring.connect(m, tsv.ecc, counters.ecc)
            job = executor.bundle.payload
            m.d.comb += [errors.job.eq(transfer(executor.bundle) & ~job.write),
                         errors.words.eq(job.words),
                         errors.word.eq(tsv.ecc.word), errors.bad.eq(tsv.ecc.bad)]
        m.d.comb += [
            counters.tile.active.eq(gemm.events.active),
            counters.tile.stall_output.eq(gemm.events.stall_output),
            counters.tile.stall_weights.eq(gemm.events.stall_weights),
            counters.activity.eq(dram.activity), counters.refresh.eq(dram.event_refresh),
            counters.function.eq(executor.running),
            counters.word_read.eq(dram.strobes.bundle_read),
            counters.word_written.eq(dram.strobes.bundle_write),
            counters.host_granule.eq(dram.host_done),
            counters.clear.eq(host.clear),
        ]
        if self.config.stack:
            m.d.comb += counters.tile.stall_broadcast.eq(gemm.events.stall_broadcast)
        for source, sink in zip(counters.values, host.counters, strict=True):
            m.d.comb += sink.eq(source)


class Channel(ChannelBase):
    """A complete channel of Logic-PIM: what one pseudo channel has on the logic die.

    Promises that instructions complete in program order, each with one completion; that a
    refused instruction has no effect; that every host request gets one response, in order.

    Parameters
    ----------
    config : Config
        Not of a stack, whose channels have no decoder: :class:`~logicpim.rtl.stack.Stack`.

    Members
    -------
    insn_valid, insn_ready, insn_payload : instructions in, 256 bits, see ``docs/isa.md``
    done_valid, done_ready, done_tag, done_status : completions out
    host_*, dram_* : see :class:`ChannelBase`
    """

    def __init__(self, config: Config):
        if config.stack:
            raise ConfigError("a channel of a stack has no decoder of its own: stack=false")
        super().__init__(config, {
            "insn_valid": In(1), "insn_ready": Out(1), "insn_payload": In(INSTRUCTION_BITS),
            "done_valid": Out(1), "done_ready": In(1),
            "done_tag": Out(16), "done_status": Out(8)})

    def _operations(self, m: Module):
        m.submodules.decoder = self._decoder = InstructionDecoder(self.config)
        return self._decoder.o

    def _instruction_ports(self, m: Module, executor) -> None:
        decoder = self._decoder
        m.submodules.instructions = queue = Queue(unsigned(INSTRUCTION_BITS),
                                                  depth=self.config.queue_depth)
        m.submodules.completions = completions = Queue(COMPLETION, depth=self.config.queue_depth)
        connect(m, executor.o, completions.i)
        connect(m, queue.o, decoder.i)
        if self._hold is not None:
            with m.If(self._hold):
                m.d.comb += [decoder.i.valid.eq(0), queue.o.ready.eq(0)]
        m.d.comb += [
            queue.i.valid.eq(self.insn_valid), queue.i.payload.eq(self.insn_payload),
            self.insn_ready.eq(queue.i.ready),
            self.done_valid.eq(completions.o.valid), completions.o.ready.eq(self.done_ready),
            self.done_tag.eq(completions.o.payload.tag),
            self.done_status.eq(completions.o.payload.status),
        ]
        m.d.comb += [self._counted.accepted.eq(transfer(queue.i)),
                     self._counted.completed.eq(transfer(executor.o))]
