# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim run --requests``: requests of a file, served by continuous batching."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from ..driver.modelled import Clock
from ..driver.serve import Served, Server, kv_room
from ..sim.model import layout
from ..spec.errors import LogicPimError
from .decoding import Decoding
from .io import Progress, count, percent, table, whole
from .requests import Line, Pieces, Words, read_requests
from .trace import write_trace

_OWN = {"output": None, "max_batch": 16, "max_prefill": 2048, "kv_tokens": None}
_POINTS = (50, 90, 99)


def add_options(parser) -> None:
    """Options that only ``--requests`` has."""
    group = parser.add_argument_group("with --requests")
    group.add_argument("--output", type=Path, metavar="FILE",
                       help="write the results there, an object a line, instead of on stdout; all "
                            "of them or, where something stops the work, none")
    group.add_argument("--max-batch", type=whole(1), metavar="N",
                       help=f"sequences that run at once (default: {_OWN['max_batch']})")
    group.add_argument("--max-prefill", type=whole(1), metavar="N",
                       help=f"prompt tokens that begin in one step; a longer prompt has a step of "
                            f"its own (default: {_OWN['max_prefill']})")
    group.add_argument("--kv-tokens", type=whole(1), metavar="N",
                       help="with --attention xpu: tokens that the KV cache has room for (default: "
                            "what the DRAM holds beside the weights, in FP16)")


def refuse_options(args) -> None:
    """Raise LogicPimError where one of them was given without ``--requests``."""
    for name in _OWN:
        if getattr(args, name) is not None:
            raise LogicPimError(f"--{name.replace('_', '-')} goes with --requests FILE")


def run(args) -> dict:
    """Serve; the keys of the JSON object. Tokens are said on stderr as they come."""
    begun = time.perf_counter()
    if args.first_id is not None:
        raise LogicPimError("--first-id goes with --prompt or --prompt-ids")
    if args.output and (args.output.is_dir() or not args.output.resolve().parent.is_dir()):
        raise LogicPimError(f"cannot write the results {args.output}: it is a folder, or its "
                            f"folder is not there")
    progress = Progress()
    decoding = Decoding(args, progress)
    words = Words(args.model, decoding.model.vocab_size)
    lines = read_requests(args.requests, words, decoding.model, args.tokens, args.ignore_eos)
    limits = {name: getattr(args, name) or _OWN[name] for name in ("max_batch", "max_prefill")}
    room = None
    if args.attention == "xpu":
        room = args.kv_tokens or kv_room(decoding.config, decoding.model, decoding.weights)
    elif args.kv_tokens:
        raise LogicPimError("--kv-tokens goes with --attention xpu: otherwise the KV cache is as "
                            "large as the DRAM has room")
    with decoding.opened(room) as (device, decoder):
        bits = layout.element_dtype(decoding.weights).itemsize
        server = Server(decoder, Clock(decoding.config, decoding.model, device.timed, bits),
                        **limits)
        inside, seconds = device.simulator_s, time.perf_counter()
        found = _serve(server, [line.request for line in lines if line.request], progress)
        seconds, inside = time.perf_counter() - seconds, device.simulator_s - inside
        write_trace(args, device)
    results = [_result(line, found.get(line.id) if line.request else None) for line in lines]
    if args.output:
        _write(args.output, results)
    return {
        "results": results,
        **_summary(server, list(found.values()), results),
        **decoding.result(),
        "timed": device.timed, **limits, "kv_tokens": room,
        "decode_s": seconds,
        "wall_tokens_per_s": sum(len(s.ids) for s in found.values()) / seconds,
        "simulator_s": inside if device.timed else None,
        "outside_simulator": 1 - inside / seconds if device.timed else None,
        "wall_s": time.perf_counter() - begun,
    }


def _serve(server: Server, requests, progress) -> dict[str, Served]:
    """What became of each, by id."""
    found: dict[str, Served] = {}
    pieces: dict[str, Pieces] = {}
    for served, logits in server.run(requests):
        name = served.request.id
        found[name] = served
        progress.clear()
        if logits is None:
            print(f"[{name}] error: {served.error}", file=sys.stderr, flush=True)
            continue
        say = pieces.setdefault(name, Pieces(served.request.ended))
        if piece := say(served.ids, served.finish is not None):
            print(f"[{name}] {json.dumps(piece, ensure_ascii=False)}", file=sys.stderr, flush=True)
    return found


def _result(line: Line, served: Served | None) -> dict:
    """The record of a line of the file."""
    if served is None:
        return {"id": line.id, "line": line.number, "finish": "error", "error": line.error}
    request = served.request
    result = {
        "id": line.id, "line": line.number, "finish": served.finish,
        "text": request.ended.text(served.ids), "token_ids": served.ids,
        "prompt_tokens": len(request.prompt), "matches_reference": served.matches,
        "arrival_s": request.arrival, "joined_s": served.joined, "t2ft_s": served.t2ft,
        "tbt_s": served.tbt, "e2e_s": served.e2e,
    }
    return result | ({"error": served.error} if served.error else {})


def _write(path: Path, results: list[dict]) -> None:
    """The results, an object a line, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(_lines(results), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LogicPimError(f"cannot write {path}: {error.strerror}") from None


def _lines(results) -> str:
    return "".join(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"
                   for result in results)


def _points(values: list[float]) -> dict | None:
    """Percentiles, None without values."""
    return {f"p{p}": float(np.percentile(values, p)) for p in _POINTS} if values else None


def _summary(server: Server, served: list[Served], results: list[dict]) -> dict:
    steps, tokens = server.steps, sum(len(s.ids) for s in served)
    busy = sum(step.spent.seconds for step in steps)
    done = [s for s in served if s.finish in ("stop", "length")]
    first = min((s.request.arrival for s in served), default=0.0)
    return {
        "requests": len(results), "failed": sum(r["finish"] == "error" for r in results),
        "tokens": tokens, "steps": len(steps),
        "mean_batch": sum(s.sequences for s in steps) / len(steps) if steps else None,
        "modelled_s": server.now - first if steps else None,
        "tokens_per_s": tokens / (server.now - first) if steps else None,
        "t2ft_s": _points([s.t2ft for s in done]),
        "tbt_s": _points([t for s in done for t in s.tbt]),
        "e2e_s": _points([s.e2e for s in done]),
        "pim_share": sum(s.spent.pim for s in steps) / busy if busy else None,
        "xpu_share": sum(s.spent.xpu for s in steps) / busy if busy else None,
    }


def show(result: dict, args) -> None:
    """Print results, unless a file has them, and on stderr (else on stdout) what it took."""
    if not args.output:
        sys.stdout.write(_lines(result["results"]))
    out = sys.stdout if args.output else sys.stderr
    source = "measured clocks" if result["timed"] else "a roofline: this device counts no clocks"
    print(f"{result['requests']} requests, {result['failed']} failed; {result['tokens']} tokens in "
          f"{result['steps']} steps", file=out)
    if result["steps"]:
        rows = [[name, *(_time(result[key] and result[key][f"p{p}"]) for p in _POINTS)]
                for name, key in (("to the first token", "t2ft_s"),
                                  ("between tokens", "tbt_s"), ("to the last token", "e2e_s"))]
        print(table(["modelled", *(f"p{p}" for p in _POINTS)], rows), end="", file=out)
        print(f"modelled: {count(result['tokens_per_s'])} tokens a second, "
              f"{result['mean_batch']:.1f} sequences a step; Logic-PIM at work "
              f"{percent(result['pim_share'])}, xPU {percent(result['xpu_share'])} of the time\n"
              f"Logic-PIM by {source}, xPU by rooflines; {count(result['cycles'])} cycles, "
              f"bandwidth efficiency {percent(result['bandwidth_efficiency'])}, "
              f"MAC utilisation {percent(result['mac_utilisation'])}", file=out)
    print(f"wall: {result['wall_tokens_per_s']:.2f} tokens a second, {result['decode_s']:.1f} s "
          f"({result['wall_s']:.1f} s with loading)"
          + (f", {percent(result['outside_simulator'])} of it outside the simulator"
             if result["timed"] else ""), file=out)
    if result["backend"] != "reference":
        print({True: "every logit equals the reference, bit for bit",
               False: "LOGITS DIFFER from the reference",
               None: "not checked against the reference"}[result["matches_reference"]], file=out)


def _time(seconds: float | None) -> str:
    """Modelled seconds for people."""
    return "-" if seconds is None else f"{1e6 * seconds:,.1f} us"
