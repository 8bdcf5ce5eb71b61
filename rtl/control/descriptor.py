# SPDX-License-Identifier: BSD-2-Clause
"""The instruction descriptor as gateware sees it: field slices and decoded operations."""

from amaranth.hdl import Value, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.functions import Function
from logicpim.spec.isa import BYTE_FORMATS, FIELDS, Format, Opcode, Status


def field(descriptor: Value, name: str) -> Value:
    """The slice of a 256-bit descriptor that holds field ``name``."""
    entry = FIELDS[name]
    return descriptor[entry.lsb:entry.lsb + entry.width]


def operation(config: Config) -> data.StructLayout:
    """A checked instruction with what execution derives from it.

    ``words`` is the number of bundle words (of one pass over the weights for a GEMM);
    ``source_stride`` and ``result_stride`` are the lines of one token group. Of the lines that
    are read and written, ``_end`` is the one past the last; of a second source (the scales of a
    GEMM, the factors of an ACTIVATE), 0 where there is none. The lines of ``dealt`` operands
    (``config.stack``) are those of each slice.
    """
    word_bits = ceil_log2(config.dram.words)
    return data.StructLayout({
        "opcode": Opcode, "tag": unsigned(16), "status": Status,
        "weight_format": Format, "input_format": Format, "output_format": Format,
        "buffer": unsigned(1), "interleave": unsigned(2),
        "scaled": unsigned(1), "scale_line": unsigned(24), "scale_group": unsigned(8),
        "accumulate": unsigned(1), "transpose": unsigned(1),
        "m": unsigned(16), "n": unsigned(24), "k": unsigned(24),
        "address": unsigned(word_bits), "words": unsigned(word_bits + 1),
        "source_line": unsigned(24), "result_line": unsigned(24),
        "source_stride": unsigned(24), "result_stride": unsigned(24),
        "source_end": unsigned(24), "second_line": unsigned(24), "second_end": unsigned(24),
        "result_end": unsigned(24),
        "function": Function, "gated": unsigned(1), "causal": unsigned(1),
        "scale": unsigned(32), "length": unsigned(24),
        **({"dealt": unsigned(1)} if config.stack else {}),
    })


COMPLETION = data.StructLayout({"tag": unsigned(16), "status": Status})


def has_bytes(fmt: Value) -> Value:
    """Whether a format has 8 bits."""
    return (fmt == BYTE_FORMATS[0]) | (fmt == BYTE_FORMATS[1]) | (fmt == BYTE_FORMATS[2])


def ceil_shift(value: Value, unit: int) -> Value:
    """``ceil(value / unit)`` for a power of two ``unit``."""
    shift = ceil_log2(unit)
    return (value + (unit - 1)) >> shift if shift else value
