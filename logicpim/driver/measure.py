# SPDX-License-Identifier: BSD-2-Clause
"""The clocks of single kernels on one channel, each measured on a device that was idle before.

The data is zeros: no clock of a kernel depends on values.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..placement.cost_table import KERNELS
from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError
from ..spec.functions import Function
from ..spec.isa import BYTE_FORMATS, Buffer, Completion, Format, Instruction, Opcode, Status
from . import ffn, network
from .attention import AttentionKernel, Request
from .backends import open_device
from .kernel import Job, Kernels
from .kv_cache import HeadForm, KvCache
from .memory import Memory, scale_words
from .stats import Stats


def measure(config: Config, point: Mapping, backend: str = "verilator") -> dict:
    """A row of a cost table: the point and what was measured there.

    Parameters
    ----------
    config : Config
        Of one channel.
    point : mapping
        ``kernel``, what must be equal, and the sizes: see :data:`KERNELS`; of a GEMM with 8-bit
        weights also ``scale_group``, 0 for a scale a row.
    """
    with open_device(backend, config) as device:
        settle(device)
        stats = _run(device, point)
    return {**point, "cycles": stats.cycles, "active": stats.active,
            "stalls": {cause: clocks for cause, clocks in stats.stalls.items() if clocks},
            "words_read": stats.words_read, "refreshes": stats.refreshes}


def fits(config: Config, point: Mapping) -> bool:
    """Whether the kernel of a point has room in DRAM and buffers."""
    try:
        _run(_Idle(config), point)
    except CapacityError:
        return False
    return True


class _Idle(Device):
    """A device on which every instruction ends well and nothing happens."""

    def __init__(self, config):
        self.config = config

    def dram(self, channel):
        return np.zeros(0, np.uint8)

    def write_buffer(self, channel, buffer, line, data):
        pass

    def write_dram(self, data):
        pass

    def read_buffer(self, channel, buffer, line, size):
        return np.zeros(size, np.uint8)

    def execute(self, programs):
        return {channel: [Completion(tag=instruction.tag, status=Status.OK)
                          for instruction in program] for channel, program in programs.items()}

    def counters(self, channel):
        return {}

    def clear_counters(self):
        pass


def settle(device) -> None:
    """Let one and a half refresh intervals pass. After reset, and an interval later, all bundles
    are refreshed at once, which a short kernel in the middle of a program hardly ever meets."""
    config = device.config
    clocks = 3 * config.dram_timing.nREFI // (2 * config.dram_timing.CK_PER_CLOCK)
    size = min(clocks, config.temp_lines * config.tile.tokens) * config.granule_bytes
    for _ in range(0, clocks * config.granule_bytes, size):  # a granule a clock, at most
        device.read_buffer(0, Buffer.TEMP, 0, size)


def _run(device, point) -> Stats:
    stats = Stats()
    sizes = {name: value for name, value in point.items() if name != "kernel"}
    _WORK[point["kernel"]](Kernels(device), stats, **sizes)
    return stats


def _zeros(*shape):
    return np.zeros(shape, np.uint16)


def _gemm(kernels, stats, *, weights, bundles, m, n, k, scale_group=0):
    config, fmt = kernels.config, Format[weights.upper()]
    matrix = Memory(config).place(n, k, 0, bundles, fmt)
    if fmt in BYTE_FORMATS:
        words = scale_words(config, scale_group, fmt)
        groups = layout.scale_groups(config, k, words, fmt)
        matrix = replace(matrix, scales=np.zeros((n, groups), np.uint32), scale_group=words)
    kernels.run([Job(_zeros(m, k), (matrix,))], stats=stats)


def _ffn(kernels, stats, *, weights, bundles, m, hidden, inner):
    placed = network.place(Memory(kernels.config), hidden, inner, 0, bundles,
                           Format[weights.upper()])
    ffn.FfnKernels(kernels, Function.SILU).run([ffn.FfnJob(_zeros(m, hidden), placed)], stats)


def _attention(kernels, stats, *, bundles, heads, group, context, size):
    config = kernels.config
    cache, form = KvCache(config, Memory(config), bundles), HeadForm(config, size, size)
    placed = cache.heads(form, heads, 0, 0, 1)
    cache.grow(placed, context)
    AttentionKernel(kernels).run(
        [Request(head, context, _zeros(group, size), 1.0) for head in placed], stats)


def _function(kernels, stats, opcode, m, n, **fields):
    """One instruction; the operands lie at the start of the temp buffer."""
    config = kernels.config
    lines = layout.line_count(config, m, n, Format.FP32)
    second = {"second_line": lines} if fields.get("gated") else {}
    if lines * (1 + len(second)) > config.temp_lines \
            or layout.operand_lines(config, m, n) > config.input_lines:
        raise CapacityError(f"{m} rows of {n} elements do not fit the buffers")
    kernels.execute({0: [Instruction(opcode, m=m, n=n, input_format=Format.FP32, source_line=0,
                                     result_line=0, **second, **fields)]}, stats)


def _activate(kernels, stats, *, m, n):
    _function(kernels, stats, Opcode.ACTIVATE, m, n, function=Function.SILU, gated=1)


def _softmax(kernels, stats, *, m, n):
    one = int(np.float32(1).view(np.uint32))
    _function(kernels, stats, Opcode.SOFTMAX, m, n, length=n, scale=one)


_WORK = {"gemm": _gemm, "ffn": _ffn, "attention": _attention, "activate": _activate,
         "softmax": _softmax}
assert _WORK.keys() == KERNELS.keys()
