# SPDX-License-Identifier: BSD-2-Clause
"""The bench around one channel: clock, DRAM, instruction and host ports, and a mirror to judge by.

Everything happens at the falling edge: outputs are registered and have settled by then, and what
is driven there holds through the rising edge that ends the clock. So simulators agree.
"""

import json
import os
import random
from collections import deque
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.device import Counter, Region
from logicpim.spec.isa import Buffer, Completion, Instruction, Status
from logicpim.spec.presets import load_config

from .dram import DramPorts

PERIOD_NS = 2
TESTED_LINES = 128
"""Lines of each buffer that the benches use and compare."""
PATIENCE, LONGEST = 20_000, 200_000
"""Clocks without any progress, and clocks in all, after which a test has failed."""


@dataclass
class Stalls:
    """How often each port pauses: probability, in a clock, of not being ready or valid."""

    instructions: float = 0.0
    completions: float = 0.0
    requests: float = 0.0
    responses: float = 0.0


@dataclass
class Request:
    """A host access, and its response once that has come."""

    write: bool
    region: Region
    address: int
    data: int = 0
    mask: int = 0
    response: int | None = None
    error: bool | None = None


@dataclass
class _Driver:
    """The sending side of a valid/ready port."""

    queue: deque = field(default_factory=deque)
    offered: bool = False


def channel_test(function):
    """A cocotb test of a channel: ``async def test(bench)`` with a fresh :class:`Bench`.

    The bench is reset before, and closed after the test: everything judged, nothing left over.
    """
    async def test(dut):
        bench = Bench(dut, function.__name__)
        await bench.start()
        await function(bench)
        await bench.close()

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(test, name, getattr(function, name))
    return cocotb.test()(test)


class Bench:
    """One channel with its DRAM, and a :class:`ReferenceDevice` that is told the same things.

    Parameters
    ----------
    dut : handle of the module ``channel``
    name : str
        Of the test; with the seed it decides all random stimulus.

    Attributes
    ----------
    config : Config
    rng : random.Random
    data_rng : numpy.random.Generator
    stalls : Stalls
        Change it at any time.
    effort : int
        How often to repeat what is random.
    drams : list of DramPorts
        One; of a stack, one for each channel.
    dram : DramModel
        The first one's.
    mirror : ReferenceDevice
    """

    def __init__(self, dut, name: str):
        self.dut = dut
        config_name, overrides = json.loads(os.environ["LOGICPIM_BENCH"])
        self.config = load_config(config_name, overrides)
        seed = f"{os.environ.get('LOGICPIM_SEED', '1')} {name}"
        dut._log.info("seed: LOGICPIM_SEED=%s", seed.split()[0])
        self.rng = random.Random(seed)
        self.data_rng = np.random.default_rng(self.rng.getrandbits(64))
        self.stalls = Stalls()
        # Verilator is ten times as fast as Icarus: it gets more of what is random.
        self.effort = 5 if "Verilator" in cocotb.SIM_NAME else 1
        prefixes = ([f"ch{channel:02}_" for channel in range(self.config.channels)]
                    if self.config.stack else [""])
        self.drams = [DramPorts(dut, self.config, prefix, self.rng.getrandbits(64))
                      for prefix in prefixes]
        self.dram = self.drams[0].model
        self.mirror = ReferenceDevice(self.config)
        self.completions: list[Completion] = []
        self._expected: list[Completion] = []
        self._instructions, self._requests = _Driver(), _Driver()
        self._waiting: deque[Request] = deque()
        self._held: dict[str, tuple] = {}
        self._driven: dict[str, int] = {}
        self._progress = 0

    # -- the life of a bench -----------------------------------------------------------------

    async def start(self) -> None:
        """Reset the channel and fill its buffers with noise, in the mirror too."""
        for name in ("insn_valid", "insn_payload", "done_ready", "host_req_valid",
                     "host_req_write", "host_req_region", "host_req_address", "host_req_data",
                     "host_req_mask", "host_resp_ready"):
            self._drive(name, 0)
        self.drams[0].start()
        self._drive("rst", 1)
        self.dut.clk.value = 0
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self._drive("rst", 0)
        cocotb.start_soon(self._run())
        await self.fill_buffers()

    async def close(self) -> None:
        """Wait for everything under way, then judge: state, faults, protocol."""
        self.stalls = Stalls()
        await self.settle()
        await self.compare_buffers()
        self.compare_dram()
        await self.clocks(20)
        assert self.completions == self._expected
        assert not self.dram.side_band, "check bits that are not those of their data"
        self.drams[0].judge()
        self.dut._log.info("%d clocks, %d DRAM commands", self.dram.clock, len(self.dram.records))

    async def clocks(self, number: int) -> None:
        """Let some clocks pass."""
        for _ in range(number):
            await FallingEdge(self.dut.clk)

    async def until(self, condition) -> None:
        """Wait until ``condition()`` holds."""
        while not condition():
            await FallingEdge(self.dut.clk)

    async def settle(self) -> None:
        """Wait until every instruction has completed and every request is answered."""
        await self.until(lambda: not (self._instructions.queue or self._requests.queue
                                      or self._waiting)
                         and len(self.completions) >= len(self._expected))

    async def flush(self) -> None:
        """Wait until the requests queued so far are answered, whatever is queued after them."""
        due = self._requests.queue or self._waiting
        if due:
            last = due[-1]
            await self.until(lambda: last.response is not None)

    # -- instructions ------------------------------------------------------------------------

    def submit(self, *program: Instruction | int) -> list[Status]:
        """Queue instructions for the channel, run them in the mirror; returns its verdicts.

        Data that the host changes must be settled before, and none of it is the program's.
        """
        words = [i.encode() if isinstance(i, Instruction) else i for i in program]
        self._instructions.queue.extend(words)
        done = self.mirror.execute({0: words})[0]
        self._expected += done
        return [completion.status for completion in done]

    async def execute(self, *program: Instruction | int) -> list[Status]:
        """Run instructions on what the host has written, to their end.

        The channel says what the mirror says.
        """
        await self.flush()
        statuses = self.submit(*program)
        await self.until(lambda: len(self.completions) >= len(self._expected))
        assert self.completions == self._expected, \
            f"{self.completions[-len(program):]}, expected {self._expected[-len(program):]}"
        return statuses

    # -- the host port -----------------------------------------------------------------------

    def request(self, region: Region, address: int, data: int | None = None,
                mask: int | None = None) -> Request:
        """Queue a read, or a write of ``data`` where it is given (the mirror is not told)."""
        whole = (1 << self.config.granule_bytes) - 1
        request = Request(data is not None, region, address, data or 0,
                          whole if mask is None else mask)
        self._requests.queue.append(request)
        return request

    async def counters(self) -> dict[Counter, int]:
        """The value of each counter, once the requests before are answered."""
        reads = {counter: self.request(Region.REGISTERS, counter) for counter in Counter}
        await self.flush()
        return {counter: read.response for counter, read in reads.items()}

    async def fill_buffers(self) -> None:
        """Write noise over both buffers, here and in the mirror."""
        config = self.config
        for buffer, lines in ((Buffer.INPUT, config.input_lines), (Buffer.TEMP, config.temp_lines)):
            lines = min(lines, TESTED_LINES)
            noise = self.data_rng.integers(0, 256, lines * config.line_bytes, np.uint8)
            self.write_lines(buffer, 0, noise)
        await self.settle()

    def write_lines(self, buffer: Buffer, line: int, data: np.ndarray) -> None:
        """Queue host writes of whole granules from a line on; the mirror has them at once."""
        size = self.config.granule_bytes
        for i in range(len(data) // size):
            granule = int.from_bytes(data[i * size:(i + 1) * size].tobytes(), "little")
            self.request(Region[buffer.name], line * self.config.tile.tokens + i, granule)
        self.mirror.write_buffer(0, buffer, line, data)

    async def compare_buffers(self) -> None:
        """Read both buffers through the host port; they equal the mirror's byte for byte."""
        config = self.config
        for buffer, lines in ((Buffer.INPUT, config.input_lines), (Buffer.TEMP, config.temp_lines)):
            lines = min(lines, TESTED_LINES)
            granules = [self.request(Region[buffer.name], i)
                        for i in range(lines * config.tile.tokens)]
            await self.settle()
            want = self.mirror.read_buffer(0, buffer, 0, lines * config.line_bytes)
            want = want.reshape(-1, config.granule_bytes)
            for i, granule in enumerate(granules):
                expected = int.from_bytes(want[i].tobytes(), "little")
                assert not granule.error
                assert granule.response == expected, (
                    f"{buffer.name} line {i // config.tile.tokens} granule "
                    f"{i % config.tile.tokens}: {granule.response:x}, expected {expected:x}")

    def compare_dram(self) -> None:
        """Every byte of the DRAM equals the mirror's."""
        for channel, dram in enumerate(self.drams):
            dram.compare(self.mirror.dram(channel))

    # -- what happens each clock -------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self.drams[0].serve()
            self._drive_instructions()
            self._take_completions()
            self._drive_requests()
            self._take_responses()
            self._progress += 1
            assert self._progress < PATIENCE, (
                f"nothing moved for {PATIENCE} clocks: {len(self.completions)} of "
                f"{len(self._expected)} completions, {len(self._waiting)} host responses due")
            assert self.dram.clock < LONGEST, f"no end after {LONGEST} clocks"
            await FallingEdge(self.dut.clk)

    def _drive(self, name: str, value: int) -> None:
        if self._driven.get(name) != value:
            self._driven[name] = value
            getattr(self.dut, name).value = value

    def _value(self, name: str) -> int:
        return int(getattr(self.dut, name).value)

    def _offer(self, port: _Driver, prefix: str, ready: str, stall: float):
        """Offer the head of the queue, once offered until taken; returns it when it is taken."""
        if port.queue and (port.offered or self.rng.random() >= stall):
            port.offered = True
            self._drive(f"{prefix}_valid", 1)
            if self._value(ready):
                port.offered = False
                self._progress = 0
                return port.queue.popleft(), True
            return port.queue[0], False
        self._drive(f"{prefix}_valid", 0)
        return None, False

    def _drive_instructions(self) -> None:
        word, _ = self._offer(self._instructions, "insn", "insn_ready",
                              self.stalls.instructions)
        if word is not None:
            self._drive("insn_payload", word)

    def _drive_requests(self) -> None:
        request, taken = self._offer(self._requests, "host_req", "host_req_ready",
                                     self.stalls.requests)
        if request is not None:
            for name in ("write", "region", "address", "data", "mask"):
                self._drive(f"host_req_{name}", int(getattr(request, name)))
        if taken:
            self._waiting.append(request)

    def _accept(self, valid: str, ready: str, fields: tuple[str, ...], stall: float):
        """What the port hands over in this clock, or None; what it offers it must keep."""
        if not self._value(valid):
            assert valid not in self._held, f"{valid} withdrawn before it was taken"
            return None
        offered = tuple(self._value(name) for name in fields)
        assert self._held.get(valid, offered) == offered, f"{valid}: payload changed"
        go = self.rng.random() >= stall
        self._drive(ready, int(go))
        if not go:
            self._held[valid] = offered
            return None
        self._held.pop(valid, None)
        self._progress = 0
        return offered

    def _take_completions(self) -> None:
        done = self._accept("done_valid", "done_ready", ("done_tag", "done_status"),
                            self.stalls.completions)
        if done:
            self.completions.append(Completion(done[0], Status(done[1])))
            at = len(self.completions) - 1
            assert at < len(self._expected), f"completion {done} of nothing"

    def _take_responses(self) -> None:
        response = self._accept("host_resp_valid", "host_resp_ready",
                                ("host_resp_data", "host_resp_error"), self.stalls.responses)
        if response:
            assert self._waiting, "a host response without a request"
            request = self._waiting.popleft()
            request.response, request.error = response[0], bool(response[1])
