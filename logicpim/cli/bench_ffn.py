# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim bench ffn``: a gated feed-forward network in one program, measured and checked."""

import time

import numpy as np

from ..driver.backends import open_device
from ..driver.ffn import FfnJob, FfnKernels
from ..driver.kernel import Kernels
from ..driver.memory import Memory
from ..driver.network import load_ffn, place
from ..driver.stats import Stats
from ..spec.errors import LogicPimError
from ..spec.functions import Function
from .figures import add_device_options, add_run_options, figures, rows
from .io import (
    Progress,
    bundles_of,
    config_of,
    listing,
    whole,
)
from .trace import check_trace, wants_trace, write_trace

EPILOG = """\
Y [M, hidden] = (f(X . Wgate^T) * (X . Wup^T)) . Wdown^T, all in FP16 with sums in FP32: GEMM gate,
GEMM up and ACTIVATE by blocks of columns, GEMM down, in one program without the host between.
Rows of gate and up are dealt over the channels, and with them the columns of down; what the
channels contribute to Y is added at the end. On a stack (--config paper) the rows of all three are
dealt, one program is for all channels and each has the activations of the others. The keys are
those of bench gemm, over the whole network; weight_bytes = 3 * hidden * intermediate * 2.

examples
  logicpim bench ffn --m 4 --hidden 4096 --intermediate 448     Mixtral 8x7B, 1 of 32 channels
  logicpim bench ffn --config paper --m 4 --hidden 4096 --intermediate 14336   all of it, minutes
  logicpim bench ffn --config small --m 3 --hidden 24 --intermediate 40 --function gelu
"""


def add_kernel(kernels) -> None:
    """Add ``ffn`` to the kernels of ``bench``."""
    p = kernels.add_parser("ffn", help="a gated feed-forward network", epilog=EPILOG,
                           description="Run a gated feed-forward network on a device.")
    p.add_argument("--m", type=whole(1, 65535), required=True, help="tokens")
    p.add_argument("--hidden", type=whole(1), required=True, help="size of a token")
    p.add_argument("--intermediate", type=whole(1), required=True,
                   help="rows of gate and of up, in all channels together")
    p.add_argument("--function", choices=[f.name.lower() for f in Function], default="silu",
                   help="the activation (default: %(default)s)")
    add_device_options(p)
    add_run_options(p, run, show)


def run(args) -> dict:
    """Run the network; the keys of the JSON object."""
    config = config_of(args)
    if args.no_refresh:
        config = config.replace(refresh=False)
    if not config.functions:
        raise LogicPimError(f"{config.name} has no activation module: set functions=true")
    bundles = bundles_of(args, config)
    check_trace(args)
    ffn = place(Memory(config), args.hidden, args.intermediate, 0, bundles)
    progress, begun = Progress(), time.perf_counter()
    random = np.random.default_rng(args.seed)

    def draw(rows, columns, scale):
        values = random.standard_normal((rows, columns)) * scale
        return values.astype(np.float16).view(np.uint16)

    job = FfnJob(draw(args.m, args.hidden, 1), ffn)
    weights = [draw(args.intermediate, args.hidden, args.hidden ** -0.5) for _ in range(2)]
    weights.append(draw(args.hidden, args.intermediate, args.intermediate ** -0.5))
    function = Function[args.function.upper()]
    with (open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                      progress=progress) as device,
          open_device("reference", config) as golden):
        load_ffn(device, ffn, *weights)
        load_ffn(golden, ffn, *weights)
        network, stats = FfnKernels(Kernels(device), function), Stats()
        started = time.perf_counter()
        progress(f"running on {args.backend}")
        y, = network.run([job], stats)
        wall = time.perf_counter() - started
        progress("checking")
        expected, = FfnKernels(Kernels(golden), function).run([job])
        matches = np.array_equal(y.view(np.uint32), expected.view(np.uint32))
        write_trace(args, device)
        timed = device.timed
    progress.clear()
    return {
        "m": args.m, "hidden": args.hidden, "intermediate": args.intermediate,
        "function": args.function, "config": config.name, "backend": args.backend,
        "bundles": bundles, "channels": config.channels, "refresh": config.refresh,
        **figures(config, stats, timed, matches, started - begun, wall),
    }


def show(result: dict, args) -> None:
    """Print the result for people."""
    r = result
    print(f"FFN M={r['m']} hidden={r['hidden']} intermediate={r['intermediate']} on {r['config']} "
          f"({r['channels']} channel{'s' * (r['channels'] > 1)}, {r['backend']})")
    print(listing(rows(r)), end="")
