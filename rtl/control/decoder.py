# SPDX-License-Identifier: BSD-2-Clause
"""Instruction decoder: every rule an instruction must keep, checked before anything happens."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.functions import Function
from logicpim.spec.isa import INSTRUCTION_BITS, Buffer, Format, Opcode, Status, allowed_mask

from .descriptor import ceil_shift, field, has_bytes, operation

SIZE_BITS = 24
WORDS, SOURCE, SCALES, RESULTS, DEALT = range(5)
"""Steps of the range checks: bundle words, source lines, lines of scales, result lines; behind the
source lines, k words that the channels of a set hold."""
COPIED = ("opcode", "tag", "weight_format", "input_format", "output_format", "buffer",
          "scaled", "scale_line", "scale_group", "accumulate", "transpose",
          "interleave",
          "m", "n", "k", "address", "source_line", "result_line",
          "function", "gated", "causal", "scale", "length")


class InstructionDecoder(wiring.Component):
    """Turns a descriptor into a checked operation or a refusal.

    Promises the checks in the order of :class:`~logicpim.spec.isa.Status`; the first that fails
    is the operation's ``status``. One multiplier serves the range checks in turn, so a
    descriptor takes thirteen clocks, one with groups of scales some 30 more; the next one is
    decoded while this one executes.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of 256-bit descriptors
    o : Out, stream of :func:`~logicpim.rtl.control.descriptor.operation`
    channels : In, the set of channels of a descriptor, a bit each, valid with it; chosen : Out, of
        the operation, valid with it (``config.stack``)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(unsigned(INSTRUCTION_BITS))),
            "o": Out(stream.Signature(operation(config))),
            **({"channels": In(config.channels), "chosen": Out(config.channels)}
               if config.stack else {}),
        })

    def _field_status(self, m: Module, descriptor: Signal) -> Signal:
        """Everything that can be told without arithmetic, a clock later."""
        status = Signal(Status)
        opcode = field(descriptor, "opcode")
        is_gemm = opcode == Opcode.GEMM
        is_move = (opcode == Opcode.LOAD) | (opcode == Opcode.STORE)
        is_function = self._is_function(opcode)
        reserved, unknown = Signal(), Signal(init=1)
        with m.Switch(opcode):
            for known in self.config.opcodes:
                with m.Case(known):
                    m.d.comb += unknown.eq(0)
                    m.d.comb += reserved.eq(
                        (descriptor & (2**INSTRUCTION_BITS - 1 - allowed_mask(known))).any())
        bad_format = Signal()
        for checked, which, known in (
                (is_gemm, "weight_format", self.config.weight_formats),
                (is_gemm, "input_format", self.config.input_formats),
                (is_gemm, "output_format", self.config.output_formats),
                (is_function, "input_format", self.config.output_formats),
                (is_function, "output_format", self.config.input_formats),
                (opcode == Opcode.ACTIVATE, "function", Function)):
            value = field(descriptor, which)
            with m.If(checked & ~Cat(value == one for one in known).any()):
                m.d.comb += bad_format.eq(1)
        most = ceil_log2(self.config.dram.bundles)
        with m.If((is_gemm | is_move) & (field(descriptor, "interleave") > most)):
            m.d.comb += bad_format.eq(1)
        scaled, grouped = field(descriptor, "scaled"), field(descriptor, "scale_group").any()
        with m.If(is_gemm & field(descriptor, "accumulate")
                  & (field(descriptor, "output_format") != Format.FP32)):
            m.d.comb += bad_format.eq(1)
        straight = has_bytes(field(descriptor, "weight_format")) | scaled
        with m.If(is_gemm & field(descriptor, "transpose")
                  & (straight if self.config.transposes else 1)):
            m.d.comb += bad_format.eq(1)
        dealt = field(descriptor, "dealt").any()
        with m.If(is_gemm & dealt & (field(descriptor, "transpose") if self.config.stack else 1)):
            m.d.comb += bad_format.eq(1)
        with m.If(is_gemm & (grouped & ~scaled if self.config.has_bytes else grouped | scaled)):
            m.d.comb += bad_format.eq(1)
        m_n, length = (Cat(field(descriptor, "m").any(), field(descriptor, "n").any()).all(),
                       field(descriptor, "length").any())
        zero = ((is_gemm & ~(m_n & field(descriptor, "k").any())) | (is_move & ~length)
                | (is_function & ~(m_n & (length | (opcode == Opcode.ACTIVATE)))))
        found = Signal(4)
        m.d.sync += found.eq(Cat(unknown, reserved, bad_format, zero))
        for index, meaning in reversed(list(enumerate((
                Status.BAD_OPCODE, Status.BAD_RESERVED, Status.BAD_FORMAT, Status.ZERO_SIZE)))):
            with m.If(found[index]):
                m.d.comb += status.eq(meaning)
        return status

    def _is_function(self, opcode):
        """Whether it is one of the activation or the softmax module."""
        return (((opcode == Opcode.ACTIVATE) | (opcode == Opcode.SOFTMAX))
                if self.config.functions else Const(0, 1))

    def _lines(self, n, fmt):
        """Lines of a group's results."""
        per = self.config.granule_elements
        return Mux(fmt == Format.FP32, ceil_shift(n, per // 2), ceil_shift(n, per))

    def _sizes(self, op, length):
        """Derived sizes: (token groups, blocks of rows of the weight, words of a row, source lines
        of a group, result lines, lines moved)."""
        config, tile = self.config, self.config.tile
        words = lines = ceil_shift(op.k, config.granule_elements)
        if config.has_bytes:
            narrow = has_bytes(op.weight_format)
            half = ceil_shift(op.k, 2 * config.granule_elements)
            words, lines = Mux(narrow, half, words), Mux(narrow, half << 1, lines)
        blocks = ceil_shift(op.n, tile.rows)
        if config.transposes:
            blocks = Mux(op.transpose, ceil_shift(op.k, tile.rows), blocks)
            words = Mux(op.transpose, ceil_shift(op.n, config.granule_elements), words)
        lines = Mux(self._is_function(op.opcode), self._lines(op.n, op.input_format), lines)
        return (ceil_shift(op.m, tile.tokens), blocks, words, lines,
                self._lines(op.n, op.output_format),
                ceil_shift(length * tile.rows, tile.tokens))

    def _ends(self, m: Module, op, step, count, address) -> tuple[Signal, Signal, Value]:
        """(end of the range of this step, of an ACTIVATE's second one, limit of that of words),
        from ``count`` in the clock before."""
        at, limit = self._set_position(m, address, op.interleave)
        end, second_end = Signal(2 * SIZE_BITS + 1), Signal(2 * SIZE_BITS + 1)
        m.d.sync += [end.eq(self._pick(step, at, op.source_line, op.scale_line, op.result_line)
                            + count), second_end.eq(op.second_line + count)]
        return end, second_end, limit

    def _range_status(self, m: Module, op, step, comparing, count, ends, address, length,
                      k_lines) -> Signal:
        """Whether the range of this step fits; while ``comparing``, its end is noted too."""
        config, org = self.config, self.config.dram
        is_gemm, is_function = op.opcode == Opcode.GEMM, self._is_function(op.opcode)
        reads = is_gemm | is_function | (op.opcode == Opcode.STORE)
        writes = is_gemm | is_function | (op.opcode == Opcode.LOAD)
        from_input = is_gemm | ~is_function & (op.buffer == Buffer.INPUT)
        to_temp = is_gemm | ~is_function & (op.buffer == Buffer.TEMP)
        source_limit = Mux(from_input, config.input_lines, config.temp_lines)
        result_limit = Mux(to_temp, config.temp_lines, config.input_lines)
        status, (end, second_end, limit) = Signal(Status), ends
        with m.If((step == WORDS) & ~is_function & ((address >= org.words) | (end > limit))):
            m.d.comb += status.eq(Status.DRAM_RANGE)
        second = is_function & op.gated
        with m.If((step == SOURCE) & (reads & (end > source_limit)
                                      | second & (second_end > source_limit))):
            m.d.comb += status.eq(Status.SOURCE_RANGE)
        with m.If(comparing & (step == SOURCE)):
            m.d.sync += [op.source_end.eq(end), op.second_end.eq(Mux(second, second_end, 0))]
        if config.stack:
            with m.If((step == DEALT) & (k_lines > count)):
                m.d.comb += status.eq(Status.SOURCE_RANGE)
        if config.has_bytes:
            with m.If((step == SCALES) & is_gemm & op.scaled & (end > config.input_lines)):
                m.d.comb += status.eq(Status.SOURCE_RANGE)
            with m.If(comparing & (step == SCALES) & is_gemm & op.scaled):
                m.d.sync += op.second_end.eq(end)
        with m.If(step == RESULTS):
            with m.If(comparing):
                m.d.sync += op.result_end.eq(end)
            with m.If(writes & (end > result_limit)):
                m.d.comb += status.eq(Status.RESULT_RANGE)
            with m.Elif(is_gemm & op.transpose & (op.n > config.transposed_columns)):
                m.d.comb += status.eq(Status.TOO_WIDE)
            with m.Elif(is_function & (op.opcode == Opcode.SOFTMAX)):
                self._softmax_status(m, op, length, status)
        return status

    def _softmax_status(self, m: Module, op, length, status):
        """A scale that the softmax module cannot take, a length that its rows do not have."""
        exponent, fraction = op.scale[23:], op.scale[:23]
        with m.If((exponent >= 255) | (exponent == 0) & fraction.any()):
            m.d.comb += status.eq(Status.BAD_SCALE)
        with m.Elif((length > op.n) | op.causal & (length < op.m)):
            m.d.comb += status.eq(Status.BAD_LENGTH)

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

    @staticmethod
    def _pick(step, *values):
        """The step's one of four values."""
        low = [Mux(step[0], *reversed(values[i:i + 2])) for i in (0, 2)]
        return Mux(step[1], low[1], low[0])

    def _scale_groups(self, m: Module, op, k_words) -> tuple[Value, Signal, Value]:
        """(scales of a row, In: needed from now on, they are there): a division, bit by bit."""
        divide = Signal()
        if not self.config.has_bytes:
            return Const(1), divide, Const(1)
        bits = len(k_words)
        rest, left = Signal(len(op.scale_group)), Signal(bits)
        quotient, todo = Signal(bits), Signal(range(bits + 1), init=bits)
        trial = Signal(len(rest) + 1)
        fits = trial >= op.scale_group
        m.d.comb += trial.eq(Cat(left[-1], rest))
        with m.If(~divide):
            m.d.sync += [left.eq(k_words), rest.eq(0), todo.eq(bits)]
        with m.Elif(todo != 0):
            m.d.sync += [left.eq(left << 1), todo.eq(todo - 1), quotient.eq(Cat(fits, quotient)),
                         rest.eq(Mux(fits, trial - op.scale_group, trial))]
        grouped = op.scaled & op.scale_group.any()
        return Mux(grouped, quotient + rest.any(), 1), divide, ~grouped | (todo == 0)

    def _chosen(self, m: Module, word, op, k_lines):
        """Takes the set of channels with a descriptor; source lines of a group in a slice."""
        if not self.config.stack:
            return k_lines
        self._many = many = Signal(range(self.config.channels + 1))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self.chosen.eq(self.channels)
        m.d.sync += many.eq(sum(self.chosen))
        with m.If((op.status == Status.OK) & ~self.chosen.any()):
            m.d.comb += self.o.payload.status.eq(Status.BAD_CHANNELS)
        return Mux(op.dealt, field(word, "dealt"), k_lines)

    def _copy(self, m: Module, word, op) -> None:
        """The fields of a descriptor."""
        m.d.sync += [op[name].eq(field(word, name)) for name in COPIED]
        if self.config.stack:
            m.d.sync += op.dealt.eq((field(word, "opcode") == Opcode.GEMM)
                                    & field(word, "dealt").any())
        m.d.sync += op.second_line.eq(Mux(field(word, "opcode") == Opcode.GEMM,
                                          field(word, "scale_line"),
                                          field(word, "second_line")))

    def _select(self, m: Module, op, chosen, choice, factors) -> None:
        """Takes the factors of the step at ``choice``, then the one that follows is."""
        behind = SCALES if self.config.has_bytes else RESULTS
        m.d.sync += [*(to.eq(self._pick(choice, *values)) for to, values in factors),
                     chosen.eq(choice), choice.eq(choice + 1)]
        with m.If(choice == SOURCE):
            m.d.sync += choice.eq(behind)
        if self.config.stack:
            (left, _), (right, (_, own_lines, *_)) = factors
            with m.If((choice == SOURCE) & op.dealt):
                m.d.sync += choice.eq(DEALT)
            with m.If(choice == DEALT):
                m.d.sync += [choice.eq(behind), left.eq(self._many), right.eq(own_lines)]

    def _multiply(self, m: Module, left, right) -> Value:
        """The product of the clock before; its four parts fit a multiplier of an FPGA each."""
        half = SIZE_BITS // 2
        parts = [Signal(2 * half, name=f"part{i}") for i in range(4)]
        m.d.sync += [part.eq(left.word_select(i & 1, half) * right.word_select(i >> 1, half))
                     for i, part in enumerate(parts)]
        return Cat(parts[0], parts[3]) + ((parts[1] + parts[2]) << half)

    def elaborate(self, platform):
        m, config = Module(), self.config
        word = Signal(INSTRUCTION_BITS)
        op = Signal(operation(config))
        field_status = self._field_status(m, word)
        length = field(word, "length")
        groups, n_blocks, k_words, k_lines, n_lines, moved = self._sizes(op, length)

        # A product for each step; the next one's factors are multiplied while one is compared.
        step = Signal(range(DEALT + 1 if config.stack else RESULTS + 1))
        chosen, choice = Signal.like(step), Signal.like(step)
        left, right, product = Signal(SIZE_BITS), Signal(SIZE_BITS), Signal(2 * SIZE_BITS)
        count = Signal(2 * SIZE_BITS)
        m.d.comb += [self.o.payload.eq(op), count.eq(
            Mux((op.opcode == Opcode.GEMM) | self._is_function(op.opcode), product,
                Mux(step == WORDS, length, moved)))]
        own_lines = self._chosen(m, word, op, k_lines)
        k_groups, divide, divided = self._scale_groups(m, op, k_words)
        next_product = self._multiply(m, left, right)
        factors = ((left, (n_blocks, groups, n_blocks, groups)),
                   (right, (k_words, own_lines, k_groups, n_lines)))
        comparing, address = Signal(), field(word, "address")
        ends = self._ends(m, op, step, count, address)
        range_status = self._range_status(m, op, step, comparing, count, ends, address, length,
                                          k_lines)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += word.eq(self.i.payload)
                    m.next = "FIELDS"
            with m.State("FIELDS"):
                self._copy(m, word, op)
                m.d.sync += choice.eq(WORDS)
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += op.status.eq(field_status)
                checked = (field_status != Status.OK) | (field(word, "opcode") == Opcode.FENCE)
                m.next = "SELECT"
                with m.If(checked):
                    m.next = "DONE"
            with m.State("SELECT"):
                m.d.sync += [op.source_stride.eq(own_lines), op.result_stride.eq(n_lines)]
                m.d.comb += divide.eq(choice == SCALES)
                with m.If(~divide | divided):
                    self._select(m, op, chosen, choice, factors)
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += [product.eq(next_product), step.eq(chosen)]
                m.next = "ADD"
                with m.If((chosen == SCALES) & config.has_bytes):
                    m.next = "LINES"
            with m.State("LINES"):  # of scales: those of so many blocks fill one
                m.d.sync += product.eq(ceil_shift(
                    product, config.line_bytes // (4 * config.tile.rows)))
                m.next = "ADD"
            with m.State("ADD"):
                with m.If(~((choice == SCALES) & config.has_bytes)):
                    self._select(m, op, chosen, choice, factors)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += comparing.eq(1)
                m.d.sync += op.status.eq(range_status)
                with m.If(step == WORDS):
                    m.d.sync += op.words.eq(count)
                with m.If((range_status != Status.OK) | (step == RESULTS)):
                    m.next = "DONE"
                with m.Elif(chosen != step):
                    m.next = "SUM"
                with m.Else():  # a row's scales have to be divided for first
                    m.next = "SELECT"
            with m.State("DONE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
