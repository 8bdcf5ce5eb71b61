# SPDX-License-Identifier: BSD-2-Clause
"""Instruction decoder: every rule an instruction must keep, checked before anything happens."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.isa import INSTRUCTION_BITS, Buffer, Format, Opcode, Status, allowed_mask

from .descriptor import ceil_shift, field, has_bytes, operation

SIZE_BITS = 24
COPIED = ("opcode", "tag", "weight_format", "input_format", "output_format", "buffer",
          "scaled", "scale_line", "interleave",
          "m", "n", "k", "address", "source_line", "result_line")


class InstructionDecoder(wiring.Component):
    """Turns a descriptor into a checked operation or a refusal.

    Promises the checks in the order of :class:`~logicpim.spec.isa.Status`; the first that fails
    is the operation's ``status``. One multiplier serves the three range checks in turn, so a
    descriptor takes about ten clocks; the next one is decoded while this one executes.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of 256-bit descriptors
    o : Out, stream of :func:`~logicpim.rtl.control.descriptor.operation`
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(unsigned(INSTRUCTION_BITS))),
            "o": Out(stream.Signature(operation(config))),
        })

    def _field_status(self, m: Module, descriptor: Signal) -> Signal:
        """Everything that can be told without arithmetic."""
        status = Signal(Status)
        opcode = field(descriptor, "opcode")
        is_gemm = opcode == Opcode.GEMM
        is_move = (opcode == Opcode.LOAD) | (opcode == Opcode.STORE)
        reserved = Signal()
        with m.Switch(opcode):
            for known in Opcode:
                with m.Case(known):
                    m.d.comb += reserved.eq(
                        (descriptor & (2**INSTRUCTION_BITS - 1 - allowed_mask(known))).any())
        bad_format = Signal()
        for which in ("weight", "input", "output"):
            legal = Signal(name=f"{which}_legal")
            for known in getattr(self.config, f"{which}_formats"):
                with m.If(field(descriptor, f"{which}_format") == known):
                    m.d.comb += legal.eq(1)
            with m.If(is_gemm & ~legal):
                m.d.comb += bad_format.eq(1)
        most = ceil_log2(self.config.dram.bundles)
        with m.If((is_gemm | is_move) & (field(descriptor, "interleave") > most)):
            m.d.comb += bad_format.eq(1)
        if not self.config.has_bytes:
            with m.If(is_gemm & field(descriptor, "scaled")):
                m.d.comb += bad_format.eq(1)
        zero = ((is_gemm & ~(field(descriptor, "m").any() & field(descriptor, "n").any()
                             & field(descriptor, "k").any()))
                | (is_move & ~field(descriptor, "length").any()))
        with m.If(~(is_gemm | is_move | (opcode == Opcode.FENCE))):
            m.d.comb += status.eq(Status.BAD_OPCODE)
        with m.Elif(reserved):
            m.d.comb += status.eq(Status.BAD_RESERVED)
        with m.Elif(bad_format):
            m.d.comb += status.eq(Status.BAD_FORMAT)
        with m.Elif(zero):
            m.d.comb += status.eq(Status.ZERO_SIZE)
        return status

    def _sizes(self, op, length):
        """Derived sizes: (token groups, row blocks, k words, operand lines of a group, result
        lines, lines moved)."""
        config, tile = self.config, self.config.tile
        words = lines = ceil_shift(op.k, config.granule_elements)
        if config.has_bytes:
            narrow = has_bytes(op.weight_format)
            half = ceil_shift(op.k, 2 * config.granule_elements)
            words, lines = Mux(narrow, half, words), Mux(narrow, half << 1, lines)
        return (ceil_shift(op.m, tile.tokens), ceil_shift(op.n, tile.rows), words, lines,
                Mux(op.output_format == Format.FP32,
                    ceil_shift(op.n, config.granule_elements // 2),
                    ceil_shift(op.n, config.granule_elements)),
                ceil_shift(length * tile.rows, tile.tokens))

    def _range_status(self, m: Module, op, step: Signal, count: Signal, address) -> Signal:
        """Whether the range of this step (DRAM words, source lines, result lines) fits."""
        config, org = self.config, self.config.dram
        is_gemm = op.opcode == Opcode.GEMM
        reads = is_gemm | (op.opcode == Opcode.STORE)
        writes = is_gemm | (op.opcode == Opcode.LOAD)
        source_limit = Mux(is_gemm | (op.buffer == Buffer.INPUT),
                           config.input_lines, config.temp_lines)
        result_limit = Mux(is_gemm | (op.buffer == Buffer.TEMP),
                           config.temp_lines, config.input_lines)
        status = Signal(Status)
        at, limit = self._set_position(m, address, op.interleave)
        with m.If((step == 0) & ((address >= org.words) | (at + count > limit))):
            m.d.comb += status.eq(Status.DRAM_RANGE)
        with m.If((step == 1) & reads & (op.source_line + count > source_limit)):
            m.d.comb += status.eq(Status.SOURCE_RANGE)
        if config.has_bytes:
            scales = op.scale_line + ceil_shift(op.n, config.line_bytes // 4)
            with m.If((step == 1) & is_gemm & op.scaled & (scales > config.input_lines)):
                m.d.comb += status.eq(Status.SOURCE_RANGE)
        with m.If((step == 2) & writes & (op.result_line + count > result_limit)):
            m.d.comb += status.eq(Status.RESULT_RANGE)
        return status

    def _set_position(self, m: Module, address, interleave):
        """(position of the address in its set of bundles, words of the set)."""
        org = self.config.dram
        column = address[:ceil_log2(org.columns)]
        row = address[len(column):ceil_log2(org.words_per_bundle)]
        bundle = address[ceil_log2(org.words_per_bundle):ceil_log2(org.words)]
        at, limit = Signal(ceil_log2(org.words)), Signal(range(org.words + 1))
        with m.Switch(interleave):
            for bits in range(ceil_log2(org.bundles) + 1):
                with m.Case(bits):
                    m.d.comb += [at.eq(Cat(column, bundle[:bits], row)),
                                 limit.eq(org.words_per_bundle << bits)]
        return at, limit

    def elaborate(self, platform):
        m = Module()
        word = Signal(INSTRUCTION_BITS)
        op = Signal(operation(self.config))
        field_status = self._field_status(m, word)
        length = field(word, "length")
        groups, n_blocks, k_words, k_lines, n_lines, moved = self._sizes(op, length)

        # Three products, one after the other: bundle words, source lines, result lines.
        step = Signal(range(3))
        left, right, product = Signal(SIZE_BITS), Signal(SIZE_BITS), Signal(2 * SIZE_BITS)
        count = Signal(2 * SIZE_BITS)
        m.d.comb += [
            self.o.payload.eq(op),
            count.eq(Mux(op.opcode == Opcode.GEMM, product, Mux(step == 0, length, moved))),
        ]
        range_status = self._range_status(m, op, step, count, field(word, "address"))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += word.eq(self.i.payload)
                    m.next = "FIELDS"
            with m.State("FIELDS"):
                m.d.sync += [op[name].eq(field(word, name)) for name in COPIED]
                m.d.sync += [op.status.eq(field_status), step.eq(0)]
                checked = (field_status != Status.OK) | (field(word, "opcode") == Opcode.FENCE)
                m.next = "SELECT"
                with m.If(checked):
                    m.next = "DONE"
            with m.State("SELECT"):
                m.d.sync += [
                    left.eq(Mux(step == 0, n_blocks, groups)),
                    right.eq(Mux(step == 2, n_lines, Mux(step == 1, k_lines, k_words))),
                    op.source_stride.eq(k_lines), op.result_stride.eq(n_lines),
                ]
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += product.eq(left * right)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += [op.status.eq(range_status), step.eq(step + 1)]
                with m.If(step == 0):
                    m.d.sync += op.words.eq(count)
                m.next = "SELECT"
                with m.If((range_status != Status.OK) | (step == 2)):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
