# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim run``: greedy decoding of a model folder, experts and attention on Logic-PIM."""

import argparse
import time
from pathlib import Path

from ..driver.attend import AttentionRunner, by_policy, reason, sequence_heads
from ..driver.backends import open_device
from ..driver.decode import Decoder, check_length
from ..driver.experts import ExpertRunner, place_experts
from ..driver.kv_cache import KvCache
from ..driver.memory import Memory
from ..driver.placed import PlacedExperts, costs_of
from ..driver.report import cost, placements
from ..driver.stats import Stats
from ..llm.checkpoint import Checkpoint
from ..llm.config import load_config
from ..llm.decoder import Model, NumpyExperts
from ..llm.tokenizer import Tokenizer
from ..placement import SHARED
from ..spec.errors import ModelError
from ..spec.isa import BYTE_FORMATS, Format
from .figures import add_backend_options
from .io import (
    Progress,
    add_bundles_option,
    add_config_options,
    add_json_option,
    add_weights_options,
    bundles_of,
    config_of,
    count,
    percent,
    say,
    scale_group_of,
    table,
    whole,
    with_formats,
)
from .trace import add_trace_option, check_trace, wants_trace, write_trace

EPILOG = """\
MODEL_DIR is an ordinary Hugging Face folder of one of the families of docs/models.md: config.json,
model.safetensors (or an index of several files) in FP16, BF16 or FP32, tokenizer.json. The products
of the experts run on Logic-PIM with FP16 operands and FP32 results, their weights in FP16 or,
quantised as they are loaded, in 8 bits with scales. Decode steps attend there too, keys and values
in FP16 in the device's DRAM; what the prompt needs of attention, and all else, runs in numpy in
float32 (--attention; docs/models.md says what attention cannot).

what the keys mean
  matches_reference     every logit equals that of the reference backend, bit for bit (--check);
                        null if that was not checked
  placements            a row for each phase and operation: where it ran, M, N, K as
                        [least, greatest], calls, FLOPs, bytes, Op/B; on Logic-PIM also its
                        cost: that of the softmax is in "attention scores, values", one program,
                        and that of the activation in "expert ffn"
  cycles                logic clocks in which Logic-PIM had an instruction in flight
  bandwidth_efficiency  useful weight bytes / (channels * cycles * bytes of a beat)

examples
  logicpim run models/tiny-mixtral --prompt "In the beginning" --tokens 32 --backend verilator
  logicpim run models/tiny-mixtral --prompt "Grace be" --backend reference --json
  logicpim run models/tiny-mixtral --prompt "Grace be" --weights int8 --scale-group 32
  logicpim run models/tiny-mixtral --prompt "Grace be" --tokens 4 --config small --channels 2 \\
      --set dram.rows=16384
"""


def add_parser(subparsers):
    """Add ``run``."""
    p = subparsers.add_parser(
        "run", help="decode text with experts and attention on Logic-PIM", epilog=EPILOG,
        description="Decode text greedily, experts and decode attention on Logic-PIM.")
    p.add_argument("model", type=Path, metavar="MODEL_DIR", help="Hugging Face folder")
    prompt = p.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="text to continue")
    prompt.add_argument("--prompt-ids", type=_ids, metavar="IDS",
                        help="token ids to continue, as in 5,17,3; needs no tokenizer")
    p.add_argument("--first-id", type=whole(0), metavar="ID",
                   help="token that the answer begins with, such as NLLB's target language")
    p.add_argument("--tokens", type=whole(1), default=64, metavar="N",
                   help="tokens to decode (default: %(default)s)")
    add_backend_options(p, "what runs the experts: the numpy reference, the generated Verilog "
                           "compiled by Verilator, or an FPGA board")
    add_config_options(p)
    add_bundles_option(p)
    add_weights_options(p, (Format.FP16, *BYTE_FORMATS), "0")
    p.add_argument("--policy", choices=SHARED, default="pim_only",
                   help="which experts run on Logic-PIM, asked for each layer; the others run on "
                        "the xPU, in numpy (default: %(default)s, all; docs/placement.md)")
    p.add_argument("--attention", choices=("pim", "xpu", "policy"), default="pim",
                   help="where decode steps attend: on Logic-PIM as far as it can, on the xPU, or "
                        "as --policy says of heads and queries in place of experts and tokens; "
                        "the prompt's attention is the xPU's (default: %(default)s)")
    p.add_argument("--check", action=argparse.BooleanOptionalAction,
                   help="run the reference in lockstep and compare every logit "
                        "(default: with --backend verilator)")
    p.add_argument("--ignore-eos", action="store_true",
                   help="go on after a token that ends the text")
    add_trace_option(p)
    add_json_option(p)
    p.set_defaults(run=run, show=show,
                   status=lambda result: 1 if result["matches_reference"] is False else 0)
    return p


def run(args) -> dict:
    """Decode; the keys of the JSON object. Text is said as it comes."""
    begun = time.perf_counter()
    progress = Progress()
    config = config_of(args)
    check_trace(args)
    progress("reading the model")
    model_config = load_config(args.model)
    words = _Words(args, model_config.vocab_size)
    prompt = words.prompt
    _known(args.first_id or 0, "--first-id", model_config.vocab_size)
    checkpoint = Checkpoint(args.model, model_config)
    length = check_length(model_config, len(prompt), args.tokens)
    bundles = bundles_of(args, config)
    weights = Format[args.weights.upper()]
    config = with_formats(config, weights)
    group = scale_group_of(args, config) or 0
    memory = Memory(config)
    place_experts(config, model_config, bundles, weights, memory)
    if args.attention != "xpu":
        sequence_heads(KvCache(config, memory, bundles), model_config, 0, length)
    rounded = sorted(checkpoint.formats - {"F16"}) if weights == Format.FP16 else []
    if rounded:
        progress.note(f"the experts' weights are {', '.join(rounded)}: rounded to FP16")
    model = Model(model_config, checkpoint)
    _notes(progress, args, config, model_config)
    check = args.backend != "reference" if args.check is None else args.check

    def loading(done, layers):
        progress(f"loading layer {done} of {layers}")

    with (open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                      progress=progress) as device,
          open_device("reference", config) as golden):
        experts, reference = (
            ExpertRunner(each, model_config, checkpoint, loading, bundles, weights, group)
            if wanted else None for each, wanted in ((device, True), (golden, check)))
        attention = [_attention(args, each, model_config, bundles)
                     for each in (experts, reference)]
        if args.policy != "pim_only" and model_config.experts:
            on_xpu = NumpyExperts(model_config, checkpoint)
            experts, reference = (
                each and PlacedExperts(each, on_xpu, SHARED[args.policy],
                                       costs_of(config, model_config),
                                       config.dram.bundles // bundles)
                for each in (experts, reference))
        decoder = Decoder(model, experts, reference, *attention)
        progress.clear()
        ids, text, now, decoding = [], "", "", time.perf_counter()
        stop = () if args.ignore_eos else model_config.eos_ids
        for token, _ in decoder.greedy(prompt, args.tokens, stop, args.first_id):
            say(args, "" if ids else words.start)
            ids.append(token)
            shown = ids[:-1] if token in stop else ids
            now = words.continuation(shown)
            if not now.endswith("\N{REPLACEMENT CHARACTER}"):  # the first bytes of a character
                say(args, now[len(text):])
                text = now
            if args.json:
                progress(f"token {len(ids)} of {args.tokens}")
        decoding = time.perf_counter() - decoding
        say(args, "\n")
        write_trace(args, device)
    progress.clear()
    stats = {**experts.stats, **getattr(attention[0], "stats", {})}
    total = Stats.of(stats.values())
    return {
        "prompt": words.start, "prompt_token_ids": prompt, "text": now, "token_ids": ids,
        "backend": args.backend, "config": config.name, "channels": config.channels,
        "matches_reference": True if args.backend == "reference" else decoder.matches,
        "weights": args.weights, "scale_group": group if weights in BYTE_FORMATS else None,
        "rounded_to_fp16": rounded, "policy": args.policy,
        "attention": args.attention,
        "placements": placements(config, decoder.operations, stats),
        **cost(config, total),
        "stalls": total.stalls if device.timed else {},
        "decode_s": decoding,
        "wall_s": time.perf_counter() - begun,
    }


def _attention(args, experts: ExpertRunner | None, model_config, bundles):
    """What attends beside these experts; None for numpy."""
    if args.attention == "xpu" or experts is None:
        return None
    config, decide = experts.kernels.config, ()
    if args.attention == "policy":
        decide = (by_policy(config, SHARED[args.policy]),)
    return AttentionRunner(experts.kernels, model_config, experts.memory, bundles, *decide)


def _notes(progress, args, config, model_config) -> None:
    """Say what of the model does not run on Logic-PIM."""
    blocks = model_config.blocks[model_config.encoder:]
    reasons = [reason(config, block.attention) for block in blocks]
    attends = args.attention != "xpu" and None in reasons
    if args.attention != "xpu" and any(reasons):
        progress.note(f"attention runs on the xPU: {next(filter(None, reasons))}")
    if not model_config.experts:
        progress.note("the model has no experts: " + (
            "attention of decode steps runs on Logic-PIM, all else" if attends else "all of it")
            + " on the xPU, in numpy")


def _ids(text: str) -> list[int]:
    """An argument type: token ids with commas between them."""
    try:
        return [whole(0)(part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be token ids with commas between them, not {text!r}") from None


def _known(token: int, option: str, vocab_size: int) -> None:
    if token >= vocab_size:
        raise ModelError(f"token {token} of {option} is unknown to the model: it has {vocab_size}")


class _Words:
    """The prompt as ids, and ids as text; ids stand for themselves where the prompt was ids."""

    def __init__(self, args, vocab_size):
        if args.prompt is None:
            self.prompt, self.start = args.prompt_ids, " ".join(map(str, args.prompt_ids))
            self.continuation = lambda ids: "".join(f" {i}" for i in ids)
            _known(max(self.prompt), "--prompt-ids", vocab_size)
        else:
            tokenizer = Tokenizer(args.model, vocab_size)
            self.prompt, self.start = tokenizer.encode(args.prompt), args.prompt
            self.continuation = lambda ids: tokenizer.continuation(self.prompt, ids)


def show(result: dict, args) -> None:
    """Print what ran where, after the text."""
    header = ["", "where", "M", "N", "K", "calls", "Op/B", "bytes", "cycles", "efficiency"]
    for phase in ("prefill", "decode"):
        rows = [r for r in result["placements"] if r["phase"] == phase]
        if rows:
            print()
            print(table([phase, *header[1:]], [[
                r["operation"], r["where"], *map(_range, (r["m"], r["n"], r["k"])),
                count(r["calls"]), f"{r['op_b']:.2f}", count(r["bytes"]), count(r.get("cycles")),
                percent(r.get("bandwidth_efficiency"))] for r in rows]), end="")
    seconds = result["decode_s"]
    print(f"\n{len(result['token_ids'])} tokens in {seconds:.1f} s "
          f"({result['wall_s']:.1f} s with loading), {result['channels']} channel"
          f"{'s' * (result['channels'] > 1)} of {result['config']} on {result['backend']}")
    if result["cycles"]:
        print(f"Logic-PIM: {count(result['cycles'])} cycles, "
              f"{count(result['weight_bytes'])} bytes of weights, "
              f"bandwidth efficiency {percent(result['bandwidth_efficiency'])}, "
              f"MAC utilisation {percent(result['mac_utilisation'])}")
    if result["backend"] != "reference":
        print({True: "every logit equals the reference, bit for bit",
               False: "LOGITS DIFFER from the reference",
               None: "not checked against the reference"}[result["matches_reference"]])


def _range(sizes: list[int]) -> str:
    least, most = sizes
    return "-" if not most else str(least) if least == most else f"{least}-{most}"
