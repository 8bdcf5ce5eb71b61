# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim run``: greedy decoding of a model folder, experts and attention on Logic-PIM."""

import argparse
import time
from pathlib import Path

from ..driver.decode import check_length
from ..llm.tokenizer import Tokenizer
from ..spec.errors import ModelError
from ..spec.isa import BYTE_FORMATS, Format
from . import serve
from .decoding import Decoding
from .explain import KEYS, add_policy_options, costs_line, show_decisions
from .figures import add_backend_options
from .io import (
    Progress,
    add_bundles_option,
    add_config_options,
    add_json_option,
    add_weights_options,
    count,
    percent,
    say,
    table,
    whole,
)
from .trace import add_trace_option, write_trace

EPILOG = f"""\
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
{KEYS}  cycles                logic clocks in which Logic-PIM had an instruction in flight
  bandwidth_efficiency  useful weight bytes / (channels * cycles * bytes of a beat)

with --requests (docs/serving.md), where times are seconds of a modelled machine
  results               of each request: finish ("stop", "length" or "error"), text, token_ids,
                        t2ft_s, tbt_s, e2e_s; or error: what is wrong with it, which harms no other
  tokens_per_s          tokens by modelled time; wall_tokens_per_s by that of this machine
  timed                 Logic-PIM's time was counted in clocks; if not, a roofline stands in
  pim_share, xpu_share  of the modelled time in which each processor worked
  outside_simulator     of decode_s, what was not spent inside the simulator of the hardware
The status is 1 if a request failed or logits differ from the reference.

examples
  logicpim run models/tiny-mixtral --prompt "In the beginning" --tokens 32 --backend verilator
  logicpim run models/tiny-mixtral --prompt "Grace be" --backend reference --json
  logicpim run models/tiny-mixtral --prompt "Grace be" --weights int8 --scale-group 32
  logicpim run models/tiny-mixtral --prompt "Grace be" --policy duplex_pe_paper --explain
  logicpim run models/tiny-mixtral --requests requests.jsonl --max-batch 8 --output results.jsonl
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
    prompt.add_argument("--requests", type=Path, metavar="FILE",
                        help="serve the requests of a file, a JSON object a line, in one batch "
                             "that they join and leave (docs/serving.md)")
    p.add_argument("--first-id", type=whole(0), metavar="ID",
                   help="token that the answer begins with, such as NLLB's target language")
    p.add_argument("--tokens", type=whole(1), default=64, metavar="N",
                   help="tokens to decode (default: %(default)s)")
    add_backend_options(p, "what runs the experts: the numpy reference, the generated Verilog "
                           "compiled by Verilator, or an FPGA board")
    add_config_options(p)
    add_bundles_option(p)
    add_weights_options(p, (Format.FP16, *BYTE_FORMATS), "0")
    add_policy_options(p, "pim_only")
    p.add_argument("--explain", action="store_true",
                   help="say for each step and layer what ran where, both estimates and the rule")
    p.add_argument("--attention", choices=("pim", "xpu", "policy"), default="pim",
                   help="where decode steps attend: on Logic-PIM as far as it can, on the xPU, or "
                        "as --policy says of attention; "
                        "the prompt's attention is the xPU's (default: %(default)s)")
    p.add_argument("--check", action=argparse.BooleanOptionalAction,
                   help="run the reference in lockstep and compare every logit "
                        "(default: with --backend verilator)")
    p.add_argument("--ignore-eos", action="store_true",
                   help="go on after a token that ends the text")
    serve.add_options(p)
    add_trace_option(p)
    add_json_option(p)
    p.set_defaults(run=run, show=show, status=status)
    return p


def run(args) -> dict:
    """Decode; the keys of the JSON object. Text is said as it comes."""
    if args.requests is not None:
        return serve.run(args)
    serve.refuse_options(args)
    begun = time.perf_counter()
    progress = Progress()
    decoding = Decoding(args, progress)
    model = decoding.model
    words = _Words(args, model.vocab_size)
    prompt = words.prompt
    _known(args.first_id or 0, "--first-id", model.vocab_size)
    length = check_length(model, len(prompt), args.tokens)
    with decoding.opened(length=length) as (device, decoder):
        ids, text, now, seconds = [], "", "", time.perf_counter()
        stop = () if args.ignore_eos else model.eos_ids
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
        seconds = time.perf_counter() - seconds
        say(args, "\n")
        write_trace(args, device)
    return {
        "prompt": words.start, "prompt_token_ids": prompt, "text": now, "token_ids": ids,
        **decoding.result(),
        "decode_s": seconds,
        "wall_s": time.perf_counter() - begun,
    }


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


def status(result: dict) -> int:
    """1 where logits differ from the reference, or a request failed."""
    return int(result["matches_reference"] is False or bool(result.get("failed")))


def show(result: dict, args) -> None:
    """Print what ran where, after the text; or what became of requests."""
    if args.requests is not None:
        serve.show(result, args)
        return
    header = ["", "where", "M", "N", "K", "calls", "Op/B", "bytes", "cycles", "efficiency"]
    for phase in ("prefill", "decode"):
        rows = [r for r in result["placements"] if r["phase"] == phase]
        if rows:
            print()
            print(table([phase, *header[1:]], [[
                r["operation"], r["where"], *map(_range, (r["m"], r["n"], r["k"])),
                count(r["calls"]), f"{r['op_b']:.2f}", count(r["bytes"]), count(r.get("cycles")),
                percent(r.get("bandwidth_efficiency"))] for r in rows]), end="")
    show_decisions(result.get("decisions", ()))
    if args.policy != "pim_only" or args.explain:
        print(f"\npolicy {args.policy}; {costs_line(result['costs'])}")
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
