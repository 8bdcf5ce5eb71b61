# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim bench gemm``: one matrix product on a device, measured and checked."""

import time
from dataclasses import replace

import numpy as np

from ..driver.backends import open_device
from ..driver.bound import bandwidth_bound
from ..driver.kernel import Job, Kernels, check_reduction
from ..driver.memory import Memory, load, scale_words
from ..driver.quantise import quantise
from ..driver.stats import Stats
from ..sim.model import layout
from ..sim.model.arithmetic import bytes_as_fp16, fp32_to_bf16
from ..sim.model.gemm import gemm
from ..spec.errors import LogicPimError
from ..spec.isa import BYTE_FORMATS, WEIGHT_FORMATS, Format
from . import bench_attention, bench_ffn
from .figures import add_device_options, add_run_options, figures, rows
from .io import (
    Progress,
    add_weights_options,
    bundles_of,
    config_of,
    listing,
    percent,
    scale_group_of,
    whole,
    with_formats,
)
from .trace import check_trace, wants_trace, write_trace

EPILOG = """\
X [M, K] and W [N, K] are seeded normal values, in the formats of --input and --weights; with
--scale-group W is quantised. The rows of W are dealt over the channels, and on a stack (--config
paper) X over their slices of the input buffer; what exceeds the buffers is cut into several
instructions. The result is compared bit for bit with the reference model.

what the keys mean
  cycles                logic clocks from the instruction's acceptance to its completion, of the
                        channel that takes longest
  weight_bytes          useful bytes of weights: N * K * 2, or N * K with 8 bits
  bandwidth_efficiency  weight_bytes / (channels * cycles * bytes of a beat), refresh included
  bandwidth_bound       the most it could be: a closed formula of the DRAM's timing, the number of
                        bundles, refresh and stagger; of_bound is the part of it that was reached
  mac_utilisation       M * N * K / (cycles * multiply-accumulators of all channels)
  stalls                clocks in which the tile took no beat, by cause, of that channel
  wall_s, cycles_per_s, macs_per_s
                        seconds of the kernel on this machine, and its speed here; setup_s is
                        the time for compiling and loading before

examples
  logicpim bench gemm --m 1 --n 1024 --k 4096
  logicpim bench gemm --m 1 --n 4096 --k 4096 --bundles 2
  logicpim bench gemm --m 8 --n 1024 --k 4096 --no-refresh --json
  logicpim bench gemm --weights int8 --scale-group 128 --m 4 --n 1024 --k 4096
  logicpim bench gemm --transpose --m 4 --n 128 --k 4096
  logicpim bench gemm --config small --m 3 --n 7 --k 11 --trace commands.csv
  logicpim bench gemm --config small --m 3 --n 70 --k 110 --perfetto timeline.json
  logicpim bench gemm --m 8 --n 4096 --k 4096 --channels 4 --backend reference
  logicpim bench gemm --config paper --set channels=4 --m 4 --n 512 --k 4096
"""

FORMATS = {f.name.lower(): f for f in Format}
OUTPUTS = ("fp16", "bf16", "fp32")
INPUTS = ("fp16", "bf16")


def draw(random, shape, scale: float, fmt: Format) -> np.ndarray:
    """Patterns of normal values in a format; INT8 takes them 127 to four times the scale."""
    values = random.standard_normal(shape) * scale
    if fmt == Format.INT8:
        return np.clip(np.rint(values * (127 / (4 * scale))), -127, 127).astype(np.int8).view(
            np.uint8)
    if fmt == Format.BF16:
        return fp32_to_bf16(values.astype(np.float32).view(np.uint32))
    half = values.astype(np.float16)
    if fmt == Format.FP16:
        return half.view(np.uint16)
    every = np.arange(256, dtype=np.uint8)
    known = bytes_as_fp16(every, fmt).view(np.float16)
    every, known = every[np.isfinite(known)], known[np.isfinite(known)]
    order = np.argsort(known, kind="stable")
    middle = (known[order][1:].astype(np.float32) + known[order][:-1].astype(np.float32)) / 2
    return every[order][np.searchsorted(middle, half.astype(np.float32))]


def add_parser(subparsers):
    """Add ``bench`` and its kernels."""
    bench = subparsers.add_parser("bench", help="measure one kernel",
                                  description="Measure one kernel on a device.")
    kernels = bench.add_subparsers(dest="kernel", required=True, metavar="KERNEL")
    p = kernels.add_parser("gemm", help="a matrix product Y = X . W^T", epilog=EPILOG,
                           description="Run Y [M, N] = X [M, K] . W [N, K]^T on a device.")
    p.add_argument("--m", type=whole(1, 65535), required=True, help="tokens")
    p.add_argument("--n", type=whole(1), required=True, help="output rows of the weight")
    p.add_argument("--k", type=whole(1), required=True, help="reduction length")
    add_device_options(p)
    add_weights_options(p, WEIGHT_FORMATS, "no scales")
    p.add_argument("--transpose", action="store_true",
                   help="let the weight lie as [K, N], as V does in attention; 16-bit weights only")
    p.add_argument("--input", choices=INPUTS, default="fp16",
                   help="format of the operands, added to the configuration's if need be "
                        "(default: %(default)s)")
    p.add_argument("--output", choices=OUTPUTS, default="fp32",
                   help="format of the results (default: %(default)s)")
    add_run_options(p, run, show)
    bench_ffn.add_kernel(kernels)
    bench_attention.add_kernel(kernels)
    return p


def run(args) -> dict:
    """Run the kernel; the keys of the JSON object."""
    config = config_of(args)
    if args.no_refresh:
        config = config.replace(refresh=False)
    args.bundles = bundles_of(args, config)
    check_trace(args)
    weights, inputs, output = (FORMATS[name] for name in (args.weights, args.input, args.output))
    config = with_formats(config, weights, inputs, output)
    group = scale_group_of(args, config)
    scales = 0 if group is None else layout.scale_groups(
        config, args.k, scale_words(config, group, weights), weights)
    check_reduction(config, args.k, weights, scales, config.stack and not args.transpose)
    if args.transpose and (weights in BYTE_FORMATS or not config.transposes):
        raise LogicPimError("--transpose is for weights of 16 bits and for tiles with as many rows "
                            "as they are deep and two groups of accumulators or more")
    memory = Memory(config)
    place = memory.place_transposed if args.transpose else memory.place
    matrices = place(args.n, args.k, space=0, bundles=args.bundles, fmt=weights)
    matrices = matrices if args.transpose else (matrices,)
    progress = Progress()
    begun = time.perf_counter()
    random = np.random.default_rng(args.seed)
    x_bits = draw(random, (args.m, args.k), 1, inputs)
    if group is None:
        w_bits = draw(random, (args.n, args.k), args.k ** -0.5, weights)
    else:
        values = random.standard_normal((args.n, args.k)) * args.k ** -0.5
        w_bits, scales = quantise(values, weights, group or None)
        matrices = (replace(*matrices, scales=scales,
                            scale_group=scale_words(config, group, weights)),)
    with open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                     progress=progress) as device:
        for matrix, first in zip(matrices, range(0, args.n, matrices[0].n), strict=True):
            load(device, matrix, w_bits[first:first + matrix.n])
        kernels, stats = Kernels(device), Stats()
        started = time.perf_counter()
        progress(f"running on {args.backend}")
        parts, = kernels.run([Job(x_bits, matrices, inputs)], output, stats)
        wall = time.perf_counter() - started
        progress("checking")
        expected = gemm(x_bits, w_bits, config.tile.depth, output, inputs=inputs, weights=weights,
                        scales=matrices[0].scales, scale_group=group or None)
        matches = np.array_equal(np.concatenate(parts, axis=1), expected)
        write_trace(args, device)
        timed = device.timed
    progress.clear()
    efficiency, limit = stats.bandwidth_efficiency(config), _limit(
        config, args, matrices, stats.weight_bytes)
    return {
        "m": args.m, "n": args.n, "k": args.k, "config": config.name, "backend": args.backend,
        "bundles": args.bundles,
        "channels": config.channels, "weights": args.weights, "scale_group": group,
        "transpose": args.transpose, "input": args.input,
        "output": args.output, "refresh": config.refresh,
        "bandwidth_bound": limit,
        "of_bound": efficiency / limit if efficiency is not None else None,
        **figures(config, stats, timed, bool(matches), started - begun, wall),
    }


def _limit(config, args, matrices, weight_bytes: int) -> float:
    """The upper bound of the kernel's bandwidth efficiency."""
    tile, weights = config.tile, matrices[0].format
    words = [0] * config.channels
    for matrix in matrices:
        for piece in matrix.pieces:
            stored = (matrix.k, piece.rows) if matrix.transposed else (piece.rows, matrix.k)
            words[piece.channel] += layout.weight_words(config, *stored, weights)
    # A word of 8-bit weights takes two clocks for half a group of tokens.
    at_once = tile.tokens * layout.element_dtype(weights).itemsize // 2
    resident = tile.tokens if args.transpose else config.pass_tokens(weights)
    limit = bandwidth_bound(config, args.bundles, max(words), passes=-(-args.m // resident),
                            groups=-(-args.m // at_once))
    return limit * weight_bytes / (max(words) * config.word_bytes * config.channels)


def show(result: dict, args) -> None:
    """Print the result for people."""
    r = result
    print(f"GEMM M={r['m']} N={r['n']} K={r['k']} on {r['config']} ({r['channels']} channel"
          f"{'s' * (r['channels'] > 1)}, {r['backend']})")
    print(listing([("at most, by formula", percent(r["bandwidth_bound"])), *rows(r)]), end="")
