# SPDX-License-Identifier: BSD-2-Clause
"""The AXI4 bridge against the rules of AXI written a second time, everyone stalling at random."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.host.bridge import AxiBridge
from logicpim.rtl.host.ports import DECERR, FIXED, INCR, OKAY, SLVERR, WRAP
from logicpim.spec.device import Region
from logicpim.spec.host import address_bits, memory_map
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
CELL = SMALL.tile.rows * 2
REFUSED = 5  # the granule of each region that the host port refuses


def beat_addresses(address, length, size, burst):
    """Addresses of the beats, as the specification's chapter on burst addresses has them."""
    step = 1 << size
    container = step * length
    lower = address // container * container
    for i in range(length):
        if burst == FIXED or i == 0:
            yield address
        elif burst == WRAP:
            yield lower + (address - lower + i * step) % container
        else:
            yield address // step * step + i * step


class Host:
    """What stands behind the bridge: memory that is judged for whole cells."""

    def __init__(self, config, rng, noise):
        self.config, self.rng, self.memory = config, rng, {}
        self.noise, self.accesses = noise, 0

    def byte(self, region, at):
        return self.memory.get((region, at), self.noise[at % len(self.noise)])

    def access(self, request):
        size = self.config.granule_bytes
        region, base = Region(int(request.region)), request.address * size
        self.accesses += 1
        if region is Region.REGISTERS:
            return 0x1122334455667788 + request.address, 0
        if request.address == REFUSED:
            return self.rng.getrandbits(8 * size), 1
        if request.write:
            touched = [i for i in range(size) if request.mask >> i & 1]
            if region is not Region.DRAM:
                cells = {i // CELL for i in touched}
                assert len(touched) == CELL * len(cells), "part of a cell"
            for i in touched:
                self.memory[region, base + i] = request.data >> 8 * i & 255
            return self.rng.getrandbits(8 * size), 0
        return sum(self.byte(region, base + i) << 8 * i for i in range(size)), 0

    async def run(self, ctx, dut, pace):
        waiting = deque()
        while True:
            ctx.set(dut.request.ready, self.rng.random() < pace and len(waiting) < 20)
            offer = bool(waiting) and self.rng.random() < pace
            ctx.set(dut.response.valid, offer)
            if offer:
                data, error = waiting[0]
                ctx.set(dut.response.payload, {"data": data, "error": error})
            _, _, valid, ready, request, taken = await ctx.tick().sample(
                dut.request.valid, dut.request.ready, dut.request.payload, dut.response.ready)
            if offer and taken:
                waiting.popleft()
            if valid and ready:
                waiting.append(self.access(request))


class Master:
    """Sends bursts on each channel at its own pace, collects the answers, and knows them."""

    def __init__(self, config, dut, rng, host):
        self.config, self.dut, self.rng, self.host = config, dut, rng, host
        self.windows = {w.region: w for w in memory_map(config)}
        self.queues = {name: deque() for name in ("aw", "w", "ar")}
        self.expected = {"b": deque(), "r": deque()}
        self.wanted, self.pace, self.deaf = {}, 0.7, None

    def place(self, beat, legal):
        """(region or None, byte in the region, error) of a beat's address."""
        if not legal:
            return None, 0, SLVERR
        for region, window in self.windows.items():
            if window.base <= beat < window.end:
                at = beat - window.base
                refused = at // self.config.granule_bytes == REFUSED
                return region, at, SLVERR if refused else OKAY
        return None, 0, DECERR

    def burst(self, half):
        """A random burst; legal ones stay in one half of their region."""
        rng, widest = self.rng, (self.config.axi_bits // 8).bit_length() - 1
        kind = rng.choice([FIXED, INCR, INCR, WRAP])
        size = rng.randint(0, widest)
        length = {FIXED: rng.randint(1, 16), WRAP: rng.choice([2, 4, 8, 16]),
                  INCR: rng.choice([1, 1, 2, 3, rng.randint(1, 40)])}[kind]
        window = self.windows[rng.choice(list(self.windows))]
        span = window.size // 2
        room = max(span - (length << size), 1)
        address = window.base + half * span + rng.choice([rng.randrange(min(room, 256)),
                                                          rng.randrange(room)])
        address = address >> size << size if kind == WRAP or rng.random() < 0.5 else address
        odd, legal = rng.random(), True
        if odd < 0.05:
            kind, legal = 3, False
        elif odd < 0.08:
            kind, length, legal = WRAP, rng.choice([1, 3, 5, 17]), False
        elif odd < 0.11:
            kind, length, legal = FIXED, 17, False
        elif odd < 0.14 and size:
            kind, length, address, legal = WRAP, 4, address | 1, False
        elif odd < 0.17 and widest < 7:
            size, legal = widest + 1, False
        elif odd < 0.22:
            kind, length = INCR, 20  # over the end of a window, or of everything
            address = rng.choice([window.end - (3 << size), (1 << address_bits(self.config)) - 5,
                                  window.end]) & (1 << address_bits(self.config)) - 1
        return kind, size, length, address, legal

    def send(self, write, half):
        """Queue a random burst."""
        self.queue(write, *self.burst(half))

    def queue(self, write, kind, size, length, address, legal):
        """Queue a burst, and what is to be answered."""
        name = self.rng.getrandbits(self.config.axi_id_bits)
        self.queues["aw" if write else "ar"].append(
            {"id": name, "addr": address, "len": length - 1, "size": size, "burst": kind})
        width, worst = self.config.axi_bits // 8, OKAY
        addresses = beat_addresses(address, length, size, kind) if legal else [0] * length
        for i, beat in enumerate(addresses):
            region, at, error = self.place(beat, legal)
            first = at // width * width
            if write:
                worst |= error
                lanes = range(at % width, (at % width >> size << size) + (1 << size))
                strobe = sum(1 << lane for lane in lanes if self.rng.random() < 0.8)
                strobe = self.rng.choice([strobe, strobe, 0, sum(1 << x for x in lanes)])
                data = self.rng.getrandbits(8 * width)
                self.queues["w"].append({"data": data, "strb": strobe if legal else 0,
                                         "last": i == length - 1})
                if not error:
                    for lane in range(width):
                        if strobe >> lane & 1:
                            self.wanted[region, first + lane] = data >> 8 * lane & 255
            else:
                value = 0
                if not error:
                    value = sum(self.value(region, first + x) << 8 * x for x in range(width))
                self.expected["r"].append((name, value, error, int(i == length - 1)))
        if write:
            self.expected["b"].append((name, worst))

    def value(self, region, at):
        return self.wanted.get((region, at), self.host.noise[at % len(self.host.noise)])

    async def channel(self, ctx, name):
        port, queue = getattr(self.dut, name), self.queues[name]
        offered = False
        while True:
            offered = bool(queue) and (offered or self.rng.random() < self.pace)
            ctx.set(port.valid, offered)
            if offered:
                ctx.set(port.payload, queue[0])
            _, _, ready = await ctx.tick().sample(port.ready)
            if offered and ready:
                queue.popleft()
                offered = False

    async def answers(self, ctx, name):
        port, held = getattr(self.dut, name), None
        fields = ("id", "resp") if name == "b" else ("id", "data", "resp", "last")
        while True:
            ready = self.rng.random() < self.pace and self.deaf != name
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            got = tuple(int(payload[field]) for field in fields)
            assert held in (None, got) and (valid or held is None), "changed before it was taken"
            held = got if valid and not ready else None
            if valid and ready:
                want = self.expected[name].popleft()
                assert got == want, f"{name}: {got}, expected {want}"

    async def settle(self, ctx):
        for _ in range(30_000):
            if not any(self.queues.values()) and not any(self.expected.values()):
                return
            await ctx.tick()
        raise AssertionError(f"no end: {[len(e) for e in self.expected.values()]} answers due")


def simulate(config, seed, bench, pace=0.7):
    rng = random.Random(seed)
    dut = AxiBridge(config)
    host = Host(config, rng, [rng.getrandbits(8) for _ in range(1009)])
    master = Master(config, dut, rng, host)
    master.pace = pace
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    def background(function, *arguments):
        async def process(ctx):
            await function(ctx, *arguments)
        sim.add_testbench(process, background=True)

    for name in ("aw", "w", "ar"):
        background(master.channel, name)
    for name in ("b", "r"):
        background(master.answers, name)
    background(host.run, dut, pace)

    async def run(ctx):
        await bench(ctx, master)
        await master.settle(ctx)
        for _ in range(20):
            await ctx.tick()
        assert {k: v for k, v in master.wanted.items() if host.byte(*k) != v} == {}
        assert host.memory.keys() >= master.wanted.keys()

    sim.add_testbench(run)
    sim.run()


@pytest.mark.parametrize("bits", [0, 32])
def test_bursts_in_phases(seed, bits):
    """Writes, then reads of the same places once the writes are answered."""
    config = SMALL.replace(axi_data_bits=bits)

    async def bench(ctx, master):
        for _ in range(2):
            for _ in range(25):
                master.send(True, 0)
            await master.settle(ctx)
            for _ in range(25):
                master.send(False, 0)
            await master.settle(ctx)

    simulate(config, seed, bench)


def test_both_directions_at_once(seed):
    """Reads of one half of each region while the other is written."""
    async def bench(ctx, master):
        for _ in range(40):
            master.send(True, 0)
            master.send(False, 1)

    simulate(SMALL.replace(axi_id_bits=2), seed, bench, pace=0.9)


@pytest.mark.parametrize("deaf, going", [("r", "b"), ("b", "r")])
def test_channels_do_not_wait_for_each_other(seed, deaf, going):
    """With no read taken, writes are answered; with no write response taken, reads go on."""
    async def bench(ctx, master):
        master.deaf = deaf
        for i in range(6):
            master.send(True, 0)
            master.send(False, 1)
            # In all more than the bridge can hold.
            master.queue(False, INCR, 2, 32, 0x9000 + 0x80 * i, True)
        for _ in range(4000):
            if not master.expected[going]:
                break
            await ctx.tick()
        assert not master.expected[going], f"{going} waits for {deaf}"
        assert master.expected[deaf]
        master.deaf = None

    simulate(SMALL, seed, bench)


def test_a_beat_a_clock(seed):
    """Long bursts of whole granules, nobody stalling: no clock is lost but at the ends."""
    async def bench(ctx, master):
        size = (SMALL.axi_bits // 8).bit_length() - 1
        for write in (True, False):
            for i in range(4):
                master.queue(write, INCR, size, 64, 0x100 + 0x400 * i, True)
            clocks = 0
            while any(master.expected.values()):
                await ctx.tick()
                clocks += 1
            assert clocks < 4 * 64 + 40, clocks

    simulate(SMALL, seed, bench, pace=1.0)


@pytest.mark.parametrize("first", [True, False])
def test_directions_take_turns(seed, first):
    """A burst of one direction is not kept waiting by many of the other."""
    async def bench(ctx, master):
        for i in range(7):
            master.queue(first, INCR, 4, 64, 0x400 * i, True)
        for _ in range(200):
            await ctx.tick()
        master.queue(not first, INCR, 4, 1, 0x8000, True)
        for _ in range(250):
            await ctx.tick()
        assert not master.expected["r" if first else "b"] and master.expected["b" if first else "r"]

    simulate(SMALL, seed, bench, pace=1.0)


def test_window(seed):
    """An access to the register region is served between the beats of bursts."""
    async def bench(ctx, master):
        dut = master.dut
        for _ in range(10):
            master.send(True, 0)
            master.send(False, 1)
        for index in range(5):
            ctx.set(dut.window.payload, {"write": 0, "address": index})
            ctx.set(dut.window.valid, 1)
            await ctx.tick().until(dut.window.ready)
            ctx.set(dut.window.valid, 0)
            answer, = await ctx.tick().sample(dut.answer).until(dut.answered)
            assert answer.data == 0x1122334455667788 + index and not answer.error
        assert any(master.expected.values())

    simulate(SMALL, seed, bench)
