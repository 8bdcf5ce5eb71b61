# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim bench attention``: the attention of one decode step, measured and checked."""

import argparse
import time

import numpy as np

from ..driver.attention import AttentionKernel, Request
from ..driver.backends import open_device
from ..driver.kernel import Kernels
from ..driver.kv_cache import HeadForm, KvCache, append, load
from ..driver.memory import Memory
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
SOFTMAX, GEMM, all heads in one program a channel as far as the buffers reach. Keys and values lie
as tokens are appended to them (docs/architecture.md, "The KV cache"): all but the last are there,
the last is written through the host port. The keys are those of bench gemm; weight_bytes counts
keys and values once for each head. A context longer than the buffers hold is cut and put together
from the scores, which the xPU reads; that is not in the cycles.

examples
  logicpim bench attention --heads 8 --group 8 --context 4096 --bundles 2
  logicpim bench attention --heads 32 --group 1 --context 1024        (MHA)
  logicpim bench attention --heads 2 --group 4 --context 100,2000,37  (three sequences)
  logicpim bench attention --heads 1 --group 16 --context 512 --size 576 --value-size 512
"""


def add_kernel(kernels) -> None:
    """Add ``attention`` to the kernels of ``bench``."""
    p = kernels.add_parser("attention", help="the attention of one decode step", epilog=EPILOG,
                           description="Run the attention of one decode step on a device.")
    p.add_argument("--heads", type=whole(1), required=True, help="heads of keys and values")
    p.add_argument("--group", type=whole(1, 65535), required=True, help="queries to a head")
    p.add_argument("--context", type=_contexts, required=True, metavar="C[,C...]",
                   help="tokens in the cache of each sequence")
    p.add_argument("--batch", type=whole(1), default=1, metavar="B",
                   help="sequences of each of these (default: %(default)s)")
    p.add_argument("--size", type=whole(1), default=128, help="of a key (default: %(default)s)")
    p.add_argument("--value-size", type=whole(1), metavar="SIZE",
                   help="of a value (default: that of a key)")
    add_device_options(p)
    add_run_options(p, run, show)


def _contexts(text: str) -> list[int]:
    """An argument type: lengths with commas between them."""
    try:
        return [whole(1)(part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be lengths of 1 or more with commas between them, not {text!r}") from None


class _Step:
    """Random keys, values and queries of a decode step, and its attention on any device."""

    def __init__(self, args, config, bundles):
        self.args, self.config, self.bundles = args, config, bundles
        self.contexts = args.context * args.batch
        self.form = HeadForm(config, args.size, args.value_size or args.size)
        random = np.random.default_rng(args.seed)

        def draw(*shape):
            return random.standard_normal(shape, np.float32).astype(np.float16).view(np.uint16)

        self.data = [[(draw(args.group, self.form.head_dim), draw(context, self.form.head_dim),
                       draw(context, self.form.value_dim)) for _ in range(args.heads)]
                     for context in self.contexts]

    def place(self, device) -> list[Request]:
        """Put it in a device's cache, the last token by the host port."""
        cache = KvCache(self.config, Memory(self.config), self.bundles)
        requests, last = [], []
        for number, (context, data) in enumerate(zip(self.contexts, self.data, strict=True)):
            heads = cache.heads(self.form, self.args.heads, number, 0, 1)
            cache.grow(heads, context)
            for head, (q, k, v) in zip(heads, data, strict=True):
                load(device, head, k[:-1], v[:-1])
                last.append((head, context - 1, k[-1], v[-1]))
                requests.append(Request(head, context, q, self.args.size ** -0.5))
        append(device, last)
        return requests


def run(args) -> dict:
    """Run the attention; the keys of the JSON object."""
    config = config_of(args)
    if args.no_refresh:
        config = config.replace(refresh=False)
    if not (config.functions and config.transposes):
        raise LogicPimError(
            f"{config.name} cannot attend: that needs a softmax module (functions=true), square "
            f"beats (tile.rows = tile.depth) and two groups (tile.groups)")
    bundles = bundles_of(args, config)
    check_trace(args)
    progress, begun = Progress(), time.perf_counter()
    results, step = [], _Step(args, config, bundles)
    with (open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                      progress=progress) as device,
          open_device("reference", config) as golden):
        requests = step.place(device)
        stats, started = Stats(), time.perf_counter()
        progress(f"running on {args.backend}")
        results.append(AttentionKernel(Kernels(device)).run(requests, stats))
        wall = time.perf_counter() - started
        progress("checking")
        results.append(AttentionKernel(Kernels(golden)).run(step.place(golden)))
        write_trace(args, device)
        timed = device.timed
    progress.clear()
    matches = np.array_equal(*(np.array(y).view(np.uint32) for y in results))
    return {
        "heads": args.heads, "group": args.group, "contexts": step.contexts,
        "size": step.form.head_dim, "value_size": step.form.value_dim,
        "config": config.name, "backend": args.backend, "bundles": bundles,
        "channels": config.channels, "refresh": config.refresh, "programs": stats.programs,
        **figures(config, stats, timed, matches, started - begun, wall),
    }


def show(result: dict, args) -> None:
    """Print the result for people."""
    r = result
    contexts = sorted(set(r["contexts"]))
    each = f"contexts {contexts[0]}-{contexts[-1]}" if contexts[1:] else f"context {contexts[0]}"
    many = f"{len(r['contexts'])} sequences, " if r["contexts"][1:] else ""
    print(f"Attention of {many}{r['heads']} heads, {r['group']} queries each, {each} on "
          f"{r['config']} ({r['channels']} channel{'s' * (r['channels'] > 1)}, {r['backend']})")
    print(listing(rows(r)), end="")
