#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Write what Hugging Face transformers says about a model folder: the golden files of the driver.

For each prompt, transformers decodes 64 tokens greedily from the FP16 checkpoint loaded in FP32,
on one CPU thread with eager attention. `</s>` does not end the decoding: it counts as a token.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    import transformers
    from transformers import AutoTokenizer, MixtralForCausalLM
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts
    MISSING = None
except ImportError as error:  # reported by main(), so that --help works without them
    MISSING = error.name

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 64
LOGIT_POSITIONS = range(0, TOKENS, 9)  # first to last; all 64 would be half a megabyte more
LOGIT_TOLERANCE = 1e-3  # between machines: FP32 sums run in another order
MIN_MARGIN = 0.01  # twice the 0.005 by which FP16 operands move a logit: see --fp16-experts

# Chosen before the outcome of a training was seen. A near tie may fall either way in a correct
# implementation, so prompts with one below MIN_MARGIN are named on stderr and left out.
PROMPTS = {
    "and": "And",
    "beginning": "In the beginning",
    "shepherd": "The LORD is my shepherd;",
    "answered": "And Jesus answered and said unto them,",
    "third-year": "And it came to pass in the third year of the king, that the word of the LORD"
                  " came unto the prophet, saying,",
    "elders": "Then the elders of the city gathered themselves together at the gate, and said one"
              " to another, What shall we do for the people? for there is no bread in the house,"
              " neither water in the well,",
    "wise-son": "My son, if thou be wise,",
    "sons-of": "Now these are the names of the sons of",
    "behold": "Behold,",
    "grace": "Grace be unto you, and peace, from God our Father,",
}

EPILOG = f"""\
what is written, under MODEL_DIR/golden
  NAME.json    prompt, prompt_token_ids, token_ids ({TOKENS} of them), text (the decoded token_ids),
               min_margin (smallest gap between the best and the second logit) and
               min_margin_position (index into token_ids where it is), logit_positions,
               torch, transformers
  logits.npz   one FP32 array per NAME, [position, vocabulary]: the logits that chose
               token_ids[p] for each p of logit_positions, {list(LOGIT_POSITIONS)}

A prompt whose min_margin is below --min-margin is left out. Two runs write the same bytes.

examples
  scripts/make_golden.py                      write the golden files of models/tiny-mixtral
  scripts/make_golden.py --check              compare with those that are there; write nothing
  scripts/make_golden.py --fp16-experts       do FP16 operands change a token? write nothing
"""


def die(message):
    """End with one line on stderr and status 1."""
    sys.exit(f"make_golden: {message}")


def parse_args(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, nargs="?", default=ROOT / "models" / "tiny-mixtral",
        metavar="MODEL_DIR", help="Mixtral folder (default: models/tiny-mixtral)")
    add("--min-margin", type=float, default=MIN_MARGIN,
        help="leave out prompts whose decoding comes nearer to a tie (default: %(default)s)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true",
                      help=f"compare only: tokens equal, logits within {LOGIT_TOLERANCE}")
    mode.add_argument("--fp16-experts", action="store_true",
                      help="decode again with the experts' operands rounded to FP16, and report")
    return parser.parse_args(argv)


def load(folder):
    """The tokenizer, and the model in FP32."""
    if not (folder / "config.json").is_file():
        die(f"{folder} is no model folder: it has no config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = MixtralForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32,
            attn_implementation="eager", experts_implementation="eager")
    except Exception as error:
        die(f"transformers cannot load {folder}: {str(error).splitlines()[0]}")
    model.generation_config.eos_token_id = None
    return tokenizer, model.eval().requires_grad_(False)


def decode(model, ids):
    """Greedy decoding: the token ids, and the FP32 logits [TOKENS, vocabulary] that chose them."""
    prompt = torch.tensor([ids])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                         num_beams=1, max_new_tokens=TOKENS, pad_token_id=0,
                         return_dict_in_generate=True, output_logits=True)
    logits = torch.cat(out.logits).float().numpy()
    tokens = out.sequences[0, len(ids):].tolist()
    assert len(tokens) == TOKENS and tokens == logits.argmax(-1).tolist()
    return tokens, logits


def margins(logits):
    """Gap between the best and the second logit, for each position."""
    best = np.sort(logits, axis=-1)
    return best[:, -1] - best[:, -2]


def golden(tokenizer, model, prompts, min_margin):
    """The golden record and the logits of each prompt that comes near no tie."""
    records, logits = {}, {}
    for name, prompt in prompts.items():
        ids = tokenizer(prompt).input_ids
        tokens, scores = decode(model, ids)
        gap = margins(scores)
        if gap.min() < min_margin:
            print(f"{name}: left out, margin {gap.min():.4f} at token {gap.argmin()}",
                  file=sys.stderr)
            continue
        print(f"{name}: {len(ids)} prompt tokens, margin {gap.min():.4f} at token {gap.argmin()}",
              file=sys.stderr)
        records[name] = {
            "prompt": prompt, "prompt_token_ids": ids, "token_ids": tokens,
            "text": tokenizer.decode(tokens, clean_up_tokenization_spaces=False),
            "min_margin": round(float(gap.min()), 4), "min_margin_position": int(gap.argmin()),
            "logit_positions": list(LOGIT_POSITIONS),
            "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
        }
        logits[name] = scores[LOGIT_POSITIONS]
    return records, logits


def to_json(record):
    """One key a line, lists included."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(folder, records, logits):
    """Write every golden file, and remove those of prompts that are no longer there."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **logits)
    files = {f"{name}.json": to_json(record).encode() for name, record in records.items()}
    files["logits.npz"] = packed.getvalue()
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        scratch = folder / f"{name}.part"
        scratch.write_bytes(content)
        os.replace(scratch, folder / name)
    for stale in set(folder.glob("*.json")) - {folder / name for name in files}:
        stale.unlink()
    print(f"{folder}: {len(records)} prompts, {sum(map(len, files.values()))} bytes",
          file=sys.stderr)


def check(folder, records, logits):
    """The differences between the golden files and these records, one line each."""
    try:
        stored = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
        with np.load(folder / "logits.npz") as packed:
            stored_logits = {name: packed[name] for name in packed.files}
    except (OSError, ValueError) as error:
        die(f"cannot read the golden files in {folder}: {error}")
    for name in sorted(stored.keys() | records.keys()):
        if name not in stored or name not in records or name not in stored_logits:
            yield f"{name}: only in {'the golden files' if name in stored else 'this run'}"
            continue
        for key in ("prompt", "prompt_token_ids", "token_ids", "text", "logit_positions"):
            if stored[name].get(key) != records[name][key]:
                yield f"{name}: {key} differs"
        if stored_logits[name].shape != logits[name].shape:
            yield f"{name}: shape of the logits differs"
        elif (error := float(np.abs(stored_logits[name] - logits[name]).max())) > LOGIT_TOLERANCE:
            yield f"{name}: logits differ by {error:.2g}"


def fp16_forward(self, hidden_states, top_k_index, top_k_weights):
    """The experts with FP16 operands and FP32 sums, as Logic-PIM computes them."""
    out = torch.zeros_like(hidden_states)
    x = hidden_states.half().float()
    for expert in range(self.num_experts):
        token, slot = torch.where(top_k_index == expert)
        gate, up = F.linear(x[token], self.gate_up_proj[expert]).chunk(2, dim=-1)
        inner = (F.silu(gate) * up).half().float()
        y = F.linear(inner, self.down_proj[expert])
        out.index_add_(0, token, y * top_k_weights[token, slot, None])
    return out


def report_fp16(tokenizer, model, prompts):
    """Decode each prompt both ways, say where tokens part and how far the logits move."""
    changed, exact = 0, MixtralExperts.forward
    for name, prompt in prompts.items():
        ids = tokenizer(prompt).input_ids
        tokens, logits = decode(model, ids)
        MixtralExperts.forward = fp16_forward
        try:
            rounded, moved = decode(model, ids)
        finally:
            MixtralExperts.forward = exact
        same = next((i for i in range(TOKENS) if tokens[i] != rounded[i]), TOKENS)
        shift = np.abs(logits - moved)[:min(same + 1, TOKENS)].max()
        changed += same < TOKENS
        verdict = "all tokens equal" if same == TOKENS else f"first change at token {same}"
        print(f"{name}: {verdict}, margin {margins(logits).min():.4f}, "
              f"logits move by at most {shift:.4f}")
    print(f"{changed} of {len(prompts)} prompts change")


def main(argv=None):
    args = parse_args(argv)
    if MISSING:
        die(f"the Python package {MISSING!r} is not there; pip install 'logicpim[train]'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer, model = load(args.model)
    if args.fp16_experts:
        return report_fp16(tokenizer, model, PROMPTS)
    records, logits = golden(tokenizer, model, PROMPTS, args.min_margin)
    folder = args.model / "golden"
    if not args.check:
        if not records:
            die(f"every prompt has a margin below {args.min_margin}; nothing written")
        return write(folder, records, logits)
    if differences := list(check(folder, records, logits)):
        sys.exit("\n".join(differences))
    print(f"{folder}: {len(records)} prompts agree", file=sys.stderr)


if __name__ == "__main__":
    main()
