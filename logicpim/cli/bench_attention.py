# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim bench attention``: the attention of one decode step, measured and checked."""

import time

import numpy as np

from ..driver.attention import AttentionKernel, place
from ..driver.backends import open_device
from ..driver.kernel import Kernels
from ..driver.memory import Memory, load
from ..driver.stats import Stats
from ..spec.errors import LogicPimError
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
softmax(Q . K^T / sqrt(size)) . V for each head of keys and values with its group of queries: GEMM,
SOFTMAX, GEMM, all heads in one program a channel. Keys lie as [context, size], values transposed.
The keys are those of bench gemm; weight_bytes counts keys and values.

examples
  logicpim bench attention --heads 8 --group 8 --context 4096 --bundles 2
"""


def add_kernel(kernels) -> None:
    """Add ``attention`` to the kernels of ``bench``."""
    p = kernels.add_parser("attention", help="the attention of one decode step", epilog=EPILOG,
                           description="Run the attention of one decode step on a device.")
    p.add_argument("--heads", type=whole(1), required=True, help="heads of keys and values")
    p.add_argument("--group", type=whole(1, 65535), required=True, help="queries to a head")
    p.add_argument("--context", type=whole(1), required=True, help="tokens in the cache")
    p.add_argument("--size", type=whole(1), default=128, help="of a head (default: %(default)s)")
    add_device_options(p)
    add_run_options(p, run, show)


def run(args) -> dict:
    """Run the attention; the keys of the JSON object."""
    config = config_of(args)
    if args.no_refresh:
        config = config.replace(refresh=False)
    if not config.functions:
        raise LogicPimError(f"{config.name} has no softmax module: set functions=true")
    bundles = bundles_of(args, config)
    check_trace(args)
    heads = place(Memory(config), args.heads, args.context, args.size, bundles)
    progress, begun = Progress(), time.perf_counter()
    random = np.random.default_rng(args.seed)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float16).view(np.uint16)

    queries = draw(args.heads, args.group, args.size)
    cache = [(draw(args.context, args.size), draw(args.size, args.context)) for _ in heads]
    results, scale = [], float(np.float32(args.size ** -0.5))
    with (open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                      progress=progress) as device,
          open_device("reference", config) as golden):
        for each in (device, golden):
            for head, (keys, values) in zip(heads, cache, strict=True):
                load(each, head.keys, keys)
                load(each, head.values, values)
        stats, started = Stats(), time.perf_counter()
        progress(f"running on {args.backend}")
        results.append(AttentionKernel(Kernels(device)).run(heads, queries, scale, stats))
        wall = time.perf_counter() - started
        progress("checking")
        results.append(AttentionKernel(Kernels(golden)).run(heads, queries, scale))
        write_trace(args, device)
        timed = device.timed
    progress.clear()
    matches = np.array_equal(*(y.view(np.uint32) for y in results))
    return {
        "heads": args.heads, "group": args.group, "context": args.context, "size": args.size,
        "config": config.name, "backend": args.backend, "bundles": bundles,
        "channels": config.channels, "refresh": config.refresh,
        **figures(config, stats, timed, matches, started - begun, wall),
    }


def show(result: dict, args) -> None:
    """Print the result for people."""
    r = result
    print(f"Attention of {r['heads']} heads, {r['group']} queries each, context {r['context']} on "
          f"{r['config']} ({r['channels']} channel{'s' * (r['channels'] > 1)}, {r['backend']})")
    print(listing(rows(r)), end="")
