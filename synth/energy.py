# SPDX-License-Identifier: BSD-2-Clause
"""Energy of a GEMM in standard cells, from how often its gates changed in it."""

import tempfile
from pathlib import Path

import numpy as np

from logicpim.sim.model import layout
from logicpim.sim.model.check import check
from logicpim.sim.model.gemm import gemm
from logicpim.sim.verilog import VerilatorDevice
from logicpim.spec.config import Config
from logicpim.spec.errors import ConfigError
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status

from . import activity, netlist, power, sta
from .liberty import Library


def measure(config: Config, library: Library, sizes: tuple[int, int, int], *, each: int, seed: int,
            note=lambda text: None) -> dict:
    """Run ``Y [M, N] = X [M, K] . W [N, K]^T`` with some modules as gates; what they took.

    Parameters
    ----------
    config : Config
        Of one channel.
    library : Library
    sizes : (int, int, int)
        M, N, K.
    each : int
        How many instances of each kind of module are gates.
    seed : int
        Of the normal values in X and W.
    note : callable, optional
        Told in a line of text what takes long.

    Returns
    -------
    dict
        ``clocks`` that were recorded, ``matches_reference``, and ``modules``: for each kind its
        ``count``, how many were ``sampled``, and pJ of all of them together: ``internal_pj``,
        ``switching_pj``, ``leakage_pj``.
    """
    sta.require()
    insn = instruction(config, *sizes)
    sample = activity.sample(config, library, each, note)
    simulator = netlist.simulator(config, sample.texts, f"{config.name}, some of it gates",
                                  activity=True)
    note("running the GEMM")
    with tempfile.TemporaryDirectory() as work:
        saif = Path(work) / "activity.saif"
        matches = _run(config, simulator, insn, seed, saif)
        found = activity.read(saif.read_text())
    period = 1e12 / config.clock_hz
    result = {"matches_reference": matches, "modules": {}}
    for kind, text in sample.netlists.items():
        note(f"power of {kind}")
        gates = [nets for name in sample.instances[kind] for nets in found[name]]
        watts = power.measure(text, activity.mean(gates), library, period)
        clocks = activity.clocks(gates)
        # Watts by picoseconds are picojoules.
        all_of_it = sample.counts[kind] * clocks * period
        result["clocks"] = clocks
        result["modules"][kind] = {
            "count": sample.counts[kind], "sampled": len(gates),
            **{f"{part}_pj": getattr(watts, part) * all_of_it
               for part in ("internal", "switching", "leakage")}}
    return result


def instruction(config: Config, m: int, n: int, k: int) -> Instruction:
    """The GEMM, its weights dealt over all bundles; :class:`ConfigError` if it is not one."""
    insn = Instruction(
        Opcode.GEMM, m=m, n=n, k=k, weight_format=Format.FP16, input_format=Format.FP16,
        output_format=Format.FP32, interleave=config.dram.bundles.bit_length() - 1)
    if (status := check(config, insn.encode())) != Status.OK:
        raise ConfigError(f"M={m} N={n} K={k} in FP16 is no single instruction of {config.name}: "
                          f"{status.name}")
    return insn


def _run(config, simulator, insn, seed, saif) -> bool:
    random = np.random.default_rng(seed)
    x, w = ((random.standard_normal(shape) * scale).astype(np.float16).view(np.uint16)
            for shape, scale in (((insn.m, insn.k), 1), ((insn.n, insn.k), insn.k ** -0.5)))
    words = layout.pack_weights(config, w).reshape(-1, config.word_bytes)
    at = layout.word_addresses(config, insn.address, len(words), insn.interleave)
    size = layout.line_count(config, insn.m, insn.n, Format.FP32) * config.line_bytes
    with VerilatorDevice(config, library=simulator, seed=seed) as device:
        device.dram(0).reshape(-1, config.word_bytes)[at] = words
        device.write_buffer(0, Buffer.INPUT, insn.source_line, layout.pack_operands(config, x))
        device.record(0, saif)
        done, = device.execute({0: [insn]})[0]
        device.record(0, None)
        found = device.read_buffer(0, Buffer.TEMP, insn.result_line, size)
    y = layout.unpack_results(config, found, insn.m, insn.n, Format.FP32)
    return done.status == Status.OK and bool(
        np.array_equal(y, gemm(x, w, config.tile.depth, Format.FP32)))
