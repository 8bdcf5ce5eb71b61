# SPDX-License-Identifier: BSD-2-Clause
"""The configuration: one frozen object from which hardware, model and driver derive everything.

Nothing below this module knows a number that is not here or in a DRAM row.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from .dram import TIMINGS, Organisation, Timing
from .ecc import CHECK_BITS, PART_BITS
from .errors import ConfigError
from .isa import BYTE_FORMATS, FUNCTION_OPCODES, WEIGHT_FORMATS, Format, Opcode

ELEMENT_BITS = 16


def _power_of_two(name: str, value, least: int, most: int) -> None:
    if not isinstance(value, int) or value & (value - 1) or not least <= value <= most:
        raise ConfigError(f"{name} must be a power of two from {least} to {most}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The array of processing units of one GEMM module.

    Parameters
    ----------
    tokens, rows, depth : int
        M x N x K of the tile: ``tokens * rows`` dot-product units, each ``depth`` wide.
    groups : int
        Groups of ``tokens`` whose accumulators are resident at once, so that one pass over the
        weights serves ``groups * tokens`` tokens.
    lanes : int
        Partial sums an output element is accumulated in; beat ``b`` of its reduction goes to
        lane ``b % lanes``. A rule of the arithmetic, not only of the pipeline.
    """

    tokens: int = 8
    rows: int = 8
    depth: int = 8
    groups: int = 4
    lanes: int = 4

    @property
    def macs(self) -> int:
        return self.tokens * self.rows * self.depth

    @property
    def max_tokens(self) -> int:
        """Tokens served by one pass over the weights."""
        return self.tokens * self.groups

    def check(self) -> None:
        _power_of_two("tile.tokens", self.tokens, 1, 32)
        _power_of_two("tile.rows", self.rows, 2, 64)
        _power_of_two("tile.depth", self.depth, 4, 32)
        _power_of_two("tile.groups", self.groups, 1, 16)
        if self.lanes != 4:
            raise ConfigError(f"tile.lanes is {self.lanes!r}, but the arithmetic is defined for 4")
        if self.depth % self.rows:
            raise ConfigError(f"tile.rows {self.rows} must divide tile.depth {self.depth}: the "
                              f"results of one row block fill a whole part of a granule")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A legal configuration; construction refuses an illegal one with the rule it breaks.

    Parameters
    ----------
    name : str
        What artefacts are called.
    channels : int
        Pseudo channels, each with a GEMM module.
    stack : bool
        Whether the channels share an operation controller, which gives an instruction to a set of
        them and broadcasts dealt operands; else each has its own.
    tile : Tile
    formats : tuple of str
        Formats of weights that the hardware decodes, by their lower-case names. Operands and
        results may be ``bf16`` too if it is among them.
    dram : Organisation
    timing : str
        Name of the DRAM speed grade, see :data:`logicpim.spec.dram.TIMINGS`.
    timing_overrides : dict
        Timing rows to replace, in nCK.
    refresh : bool
        Whether the DRAM controller refreshes (off only to measure its cost).
    refresh_kind : str
        ``"bank"``: one bank at a time, hidden behind other bundles; ``"all"``: a rank at once.
    postpone : int
        Refreshes of a bank, one at a time, that may wait while its bundle is in use: 0 to 6. Of the
        eight that may be owed one is due by then, and one is for the time until it comes.
    stagger : bool
        Whether the activates of a bundle keep nFAW and nRRD, a part of the bundle at a time. The
        paper and its simulator activate all banks of a bundle at once.
    input_buffer_bytes, temp_buffer_bytes : int
        The operand and the result buffer of a channel. Those of a stack are these slices together.
    line_fifo : int
        Broadcast operand lines that a channel of a stack holds.
    word_fifo : int
        Bundle words the weight buffer holds between TSV and tile.
    queue_depth : int
        Instructions the queue holds.
    host_burst : int
        Host accesses to one open row served in a row before the row is closed.
    ownership : str
        What a host access to a bundle that Logic-PIM owns meets: ``"wait"``: it waits for its turn;
        ``"refuse"``: it is answered with an error and has no effect.
    ecc : bool
        Whether stored words carry check bits: one wrong bit in 64 is corrected, two are detected.
    lane_repair : bool
        Whether the lanes of the DRAM's data buses come in groups with a spare lane and a test.
    lane_group : int
        Data lanes that share a spare lane.
    functions : bool
        Whether a channel has an activation and a softmax module.
    host : str
        Ports that are generated: ``"native"`` streams, or ``"axi"``: an AXI4-Lite slave, and an
        AXI4 slave for each channel (``docs/integration.md``). The simulators of ``run`` and
        ``bench`` use the native ones.
    axi_data_bits, axi_id_bits : int
        Data and ID width of the AXI4 slave; a data width of 0 stands for a granule.
    """

    name: str = "custom"
    channels: int = 1
    stack: bool = False
    tile: Tile = field(default_factory=Tile)
    formats: tuple[str, ...] = ("fp16",)
    dram: Organisation = field(default_factory=Organisation)
    timing: str = "hbm3-5.2"
    timing_overrides: dict[str, int] = field(default_factory=dict, hash=False)
    refresh: bool = True
    refresh_kind: str = "bank"
    postpone: int = 6
    stagger: bool = True
    input_buffer_bytes: int = 1 << 20
    temp_buffer_bytes: int = 1 << 20
    line_fifo: int = 8
    word_fifo: int = 16
    queue_depth: int = 8
    host_burst: int = 32
    ownership: str = "wait"
    ecc: bool = False
    lane_repair: bool = False
    lane_group: int = 64
    functions: bool = True
    host: str = "native"
    axi_data_bits: int = 0
    axi_id_bits: int = 4

    def __post_init__(self):
        self.tile.check()
        self.dram.check()
        self._check_formats()
        _power_of_two("channels", self.channels, 1, 64)
        _power_of_two("line_fifo", self.line_fifo, 4, 64)
        _power_of_two("word_fifo", self.word_fifo, 4, 256)
        _power_of_two("queue_depth", self.queue_depth, 2, 256)
        _power_of_two("host_burst", self.host_burst, 1, 1024)
        _power_of_two("lane_group", self.lane_group, 8, 256)
        for name in ("stack", "refresh", "stagger", "ecc", "lane_repair", "functions"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.stack and self.channels == 1:
            raise ConfigError("stack needs channels of at least 2: one channel is not shared, "
                              "stack=false")
        if self.refresh_kind not in ("bank", "all"):
            raise ConfigError(f'refresh_kind must be "bank" or "all", not {self.refresh_kind!r}')
        if self.ownership not in ("wait", "refuse"):
            raise ConfigError(f'ownership must be "wait" or "refuse", not {self.ownership!r}')
        if self.postpone not in range(7):
            raise ConfigError(f"postpone must be from 0 to 6, not {self.postpone!r}: of the eight "
                              f"refreshes that may be owed, one is due and one is on its way")
        if self.stagger and self.dram.bank_groups > 4:
            raise ConfigError(f"stagger activates a bank of each group at once, and of "
                              f"{self.dram.bank_groups} groups that is more than four in an nFAW: "
                              f"dram.bank_groups <= 4, or stagger=false")
        if self.dram.bundle_banks != self.tile.rows:
            raise ConfigError(f"dram.bundle_banks {self.dram.bundle_banks} must equal tile.rows "
                              f"{self.tile.rows}: each bank of a bundle feeds one row of the tile")
        for name in ("input_buffer_bytes", "temp_buffer_bytes"):
            _power_of_two(name, getattr(self, name), 4 * self.line_bytes, 1 << 26)
        if self.timing not in TIMINGS:
            raise ConfigError(f"unknown timing {self.timing!r}; known are {', '.join(TIMINGS)}")
        t = self.dram_timing
        banks = self.dram.banks_per_rank * self.dram.ranks
        away = t.nRFC if self.refresh_kind == "all" else t.nRFCSB + banks * (t.nRREFD + 1)
        if t.nREFI <= away + 4 * (t.nRAS + t.nRP) + 4 * self.dram.columns:
            raise ConfigError(f"nREFI {t.nREFI} leaves no time for a row between refreshes that "
                              f"take {away} nCK")

        self._check_host()

    def _check_host(self):
        if self.host not in ("native", "axi"):
            raise ConfigError(f'host must be "native" or "axi", not {self.host!r}')
        if self.axi_data_bits != 0:
            _power_of_two("axi_data_bits", self.axi_data_bits, 8, self.granule_bits)
        if not isinstance(self.axi_id_bits, int) or self.axi_id_bits not in range(1, 33):
            raise ConfigError(f"axi_id_bits must be from 1 to 32, not {self.axi_id_bits!r}")

    def _check_formats(self):
        known = [f.name.lower() for f in WEIGHT_FORMATS]
        formats = self.formats
        if not isinstance(formats, (list, tuple)) or set(formats) - set(known) \
                or len(set(formats)) < len(formats):
            raise ConfigError(f"formats must be a list of some of {', '.join(known)}, "
                              f"not {formats!r}")
        if "fp16" not in formats:
            raise ConfigError("formats must include fp16: operands and results come in it")
        object.__setattr__(self, "formats", tuple(f for f in known if f in formats))
        if self.has_bytes and self.tile.groups < 2:
            raise ConfigError("formats of 8 bits need tile.groups of at least 2: an element's "
                              "partial sums then fill two entries of the accumulators")

    # -- formats -------------------------------------------------------------------------

    @property
    def weight_formats(self) -> tuple[Format, ...]:
        return tuple(Format[name.upper()] for name in self.formats)

    @property
    def input_formats(self) -> tuple[Format, ...]:
        return tuple(f for f in self.weight_formats if f in (Format.FP16, Format.BF16))

    @property
    def output_formats(self) -> tuple[Format, ...]:
        return (*self.input_formats, Format.FP32)

    @property
    def opcodes(self) -> tuple[Opcode, ...]:
        """What a channel executes."""
        return tuple(o for o in Opcode if self.functions or o not in FUNCTION_OPCODES)

    @property
    def has_bytes(self) -> bool:
        """Whether weights may have 8 bits."""
        return any(f in BYTE_FORMATS for f in self.weight_formats)

    def pass_tokens(self, weight_format: Format) -> int:
        """Tokens served by one pass over weights of a format."""
        return self.tile.max_tokens // (2 if weight_format in BYTE_FORMATS else 1)

    @property
    def transposes(self) -> bool:
        """Whether weights of 16 bits may be reduced over their rows: beats must be square."""
        return self.tile.rows == self.tile.depth and self.tile.groups > 1

    @property
    def transposed_columns(self) -> int:
        """Most columns of such a weight: results that the accumulators hold for a token."""
        return self.tile.groups * self.tile.rows

    # -- the DRAM ------------------------------------------------------------------------

    @cached_property
    def dram_timing(self) -> Timing:
        """The speed grade with the overrides applied."""
        return TIMINGS[self.timing].with_overrides(self.timing_overrides)

    @property
    def clock_hz(self) -> float:
        """Clock of the logic die: tCCD_S is one clock."""
        return 1e12 / (Timing.CK_PER_CLOCK * self.dram_timing.tck_ps)

    @property
    def granule_elements(self) -> int:
        """16-bit elements in a granule: two beats deep."""
        return 2 * self.tile.depth

    @property
    def granule_bits(self) -> int:
        """Bits one bank delivers at once; the unit of every host access."""
        return self.granule_elements * ELEMENT_BITS

    @property
    def granule_bytes(self) -> int:
        return self.granule_bits // 8

    @property
    def axi_bits(self) -> int:
        """Data width of the AXI4 slave."""
        return self.axi_data_bits or self.granule_bits

    @property
    def word_bits(self) -> int:
        """A bundle word: one granule from each bank of the bundle."""
        return self.dram.bundle_banks * self.granule_bits

    @property
    def word_bytes(self) -> int:
        return self.word_bits // 8

    @property
    def check_bits(self) -> int:
        """Check bits stored with a granule; 0 without ``ecc``."""
        return self.granule_bits // PART_BITS * CHECK_BITS if self.ecc else 0

    @property
    def stored_bits(self) -> int:
        """Bits of a granule in the DRAM."""
        return self.granule_bits + self.check_bits

    @property
    def word_check_bits(self) -> int:
        """Check bits stored with a bundle word."""
        return self.dram.bundle_banks * self.check_bits

    @property
    def beat_bits(self) -> int:
        """What crosses the added TSVs each logic clock: half a bundle word."""
        return self.word_bits // 2

    @property
    def beat_bytes(self) -> int:
        return self.beat_bits // 8

    @property
    def capacity_bytes(self) -> int:
        """Bytes of DRAM behind one channel."""
        return self.dram.granules * self.granule_bytes

    # -- the buffers ---------------------------------------------------------------------

    @property
    def line_bits(self) -> int:
        """An operand line: one granule of each token of a group."""
        return self.tile.tokens * self.granule_bits

    @property
    def line_bytes(self) -> int:
        return self.line_bits // 8

    @property
    def input_lines(self) -> int:
        return self.input_buffer_bytes // self.line_bytes

    @property
    def temp_lines(self) -> int:
        return self.temp_buffer_bytes // self.line_bytes

    # -- identity ------------------------------------------------------------------------

    def as_dict(self) -> dict:
        """Plain values, nested by section, as a TOML file would hold them."""
        return asdict(self)

    @cached_property
    def digest(self) -> str:
        """Hash of what the hardware is, the name left out; keys every cached artefact."""
        values = self.as_dict()
        del values["name"]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def replace(self, **changes) -> "Config":
        """A checked copy with some fields changed."""
        return replace(self, **changes)
