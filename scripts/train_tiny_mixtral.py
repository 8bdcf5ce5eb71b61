#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Train the bundled tiny Mixtral on the King James Bible and write it as a Hugging Face folder.

The model is transformers' own `MixtralForCausalLM`, trained in FP32 on one CPU thread. Its weights
are rounded to FP16 once, at the end, and the losses reported are those of the rounded model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    MISSING = None
except ImportError as error:  # reported by main(), so that --help works without them
    MISSING = error.name

ROOT = Path(__file__).resolve().parents[1]
BOS, EOS = "<s>", "</s>"
BIBLE = "King James Bible (Debian packages bible-kjv and bible-kjv-text)"
WINDOW = 256
HOLD_OUT = 40  # every 40th chapter is never trained on

EPILOG = """\
the text
  The King James Bible (1611, public domain) from the Debian packages bible-kjv and bible-kjv-text:
      apt-get install bible-kjv
  Its program prints one verse a line, and this script reads
      bible -f Gen1:1-Rev22:21
  A chapter is one document; a verse is one line. Another text is read with --text FILE: lines are
  lines, and documents are separated by blank lines.

examples
  scripts/train_tiny_mixtral.py -o models/tiny-mixtral                 the bundled model
  scripts/train_tiny_mixtral.py -o build/trial --minutes 3             a quick trial
  scripts/train_tiny_mixtral.py -o build/x --state build/x.state       resumes where it was stopped

After training, write the golden files: scripts/make_golden.py models/tiny-mixtral
"""


def die(message):
    """End with one line on stderr and status 1."""
    sys.exit(f"train_tiny_mixtral: {message}")


def positive(kind):
    """An argparse type: a `kind` greater than zero."""
    def parse(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
        return value
    parse.__name__ = kind.__name__
    return parse


def parse_args(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-o", "--output", type=Path, default=ROOT / "models" / "tiny-mixtral", metavar="DIR",
        help="model folder to write (default: models/tiny-mixtral)")
    add("--text", type=Path, metavar="FILE", help="train on this UTF-8 text instead of the Bible")
    add("--steps", type=positive(int), default=2200,
        help="optimiser steps; the learning rate falls to zero at the last (default: %(default)s)")
    add("--minutes", type=positive(float),
        help="also end after this wall time; the weights then depend on the machine's speed")
    add("--batch", type=positive(int), default=12,
        help=f"windows of {WINDOW} tokens a step (default: %(default)s)")
    add("--lr", type=positive(float), default=3e-3,
        help="peak learning rate (default: %(default)s)")
    add("--weight-decay", type=float, default=0.1, help="of the matrices (default: %(default)s)")
    add("--aux", type=float, default=0.02,
        help="weight of the loss that keeps all experts in use (default: %(default)s)")
    add("--seed", type=int, default=1, help="of weights and batches (default: %(default)s)")
    add("--threads", type=positive(int), default=1, help="CPU threads (default: 1)")
    add("--vocab", type=positive(int), default=768, help="tokenizer entries (default: %(default)s)")
    add("--hidden", type=positive(int), default=104, help="hidden_size (default: %(default)s)")
    add("--intermediate", type=positive(int), default=150,
        help="intermediate_size; no multiple of a tile on purpose (default: %(default)s)")
    add("--layers", type=positive(int), default=4, help="num_hidden_layers (default: %(default)s)")
    add("--state", type=Path, metavar="FILE",
        help="save weights and optimiser here now and then, and resume from it if it exists")
    args = parser.parse_args(argv)
    if args.vocab < 258:
        parser.error("--vocab must be at least 258: 256 bytes and two special tokens")
    return args


def read_documents(path):
    """The text as a list of documents, each a list of lines."""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            die(f"cannot read --text {path}: {error}")
        blocks = re.split(r"\n\s*\n", text.strip())
        return [[line.strip() for line in block.splitlines()] for block in blocks if block.strip()]
    if shutil.which("bible") is None:
        die("the program 'bible' is not there; 'apt-get install bible-kjv', or give --text FILE")
    output = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True).stdout
    chapters = {}
    for line in output.splitlines():
        match = re.fullmatch(r"(\w+?\d+):\d+ (.+)", line)
        if match is None:
            die(f"unexpected output of 'bible': {line!r}")
        chapters.setdefault(match[1], []).append(match[2].strip())
    if sum(map(len, chapters.values())) != 31102:
        die("'bible' did not print the 31102 verses of the King James Bible")
    return list(chapters.values())


def train_tokenizer(documents, vocab):
    """A byte-level BPE that puts `<s>` before each text, as Mixtral's own tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ("\n".join(lines) for lines in documents),
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=[BOS, EOS], show_progress=False,
                            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return tokenizer


class Corpus:
    """Documents as one token stream, cut in windows that begin with `<s>` and then a line."""

    def __init__(self, documents, tokenizer):
        self.bos, self.eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
        stream, starts = [], []
        for lines in documents:
            stream.append(self.bos)
            for index, line in enumerate(lines):
                starts.append(len(stream))
                text = line if index == len(lines) - 1 else line + "\n"
                stream += tokenizer.encode(text, add_special_tokens=False).ids
            stream.append(self.eos)
        self.stream = torch.tensor(stream)
        self.starts = [s for s in starts if s + WINDOW - 1 <= len(stream)]
        self.offsets = torch.arange(WINDOW - 1)

    def windows(self, starts):
        """Token ids of the windows at these positions of the stream."""
        body = self.stream[torch.tensor(starts)[:, None] + self.offsets]
        return F.pad(body, (1, 0), value=self.bos)

    def batch(self, size, seed):
        """`size` windows that depend on `seed` alone."""
        picks = np.random.default_rng(seed).integers(len(self.starts), size=size)
        return self.windows([self.starts[i] for i in picks])


def build_model(args, tokenizer):
    """An untrained model of the shape that the arguments ask for."""
    torch.manual_seed(args.seed)
    config = MixtralConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=args.hidden,
        intermediate_size=args.intermediate, num_hidden_layers=args.layers,
        num_attention_heads=8, num_key_value_heads=2, head_dim=16,
        num_local_experts=8, num_experts_per_tok=2, router_aux_loss_coef=args.aux,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=tokenizer.token_to_id(BOS), eos_token_id=tokenizer.token_to_id(EOS),
        experts_implementation="eager", attn_implementation="sdpa")
    return MixtralForCausalLM(config)


def losses(model, batch):
    """Mean next-token loss, load-balancing loss, and the router's logits by layer."""
    out = model(input_ids=batch, use_cache=False, output_router_logits=True)
    loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
    experts, top_k = model.config.num_local_experts, model.config.num_experts_per_tok
    # Layer by layer: transformers' own sum lets a layer starve the experts that another one uses.
    aux = [load_balancing_loss_func((logits,), experts, top_k) for logits in out.router_logits]
    return loss, sum(aux) / len(aux), out.router_logits


def evaluate(model, corpus, windows=64):
    """Loss on evenly spread windows, and the smallest and largest share of tokens of an expert."""
    count = min(windows, len(corpus.starts))
    starts = [corpus.starts[i * len(corpus.starts) // count] for i in range(count)]
    top_k, total, used = model.config.num_experts_per_tok, 0.0, 0
    for i in range(0, count, 16):
        part = corpus.windows(starts[i:i + 16])
        with torch.no_grad():
            loss, _, router = losses(model, part)
        total += loss.item() * len(part)
        used = used + torch.stack([
            torch.bincount(layer.topk(top_k).indices.flatten(), minlength=layer.shape[-1])
            for layer in router])
    share = used / used.sum(-1, keepdim=True)
    return {"loss": round(total / count, 4), "least_used_expert": round(share.min().item(), 4),
            "most_used_expert": round(share.max().item(), 4)}


class State:
    """The weights, the optimiser and the steps done, kept in a file if one is named."""

    def __init__(self, args, model):
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": args.weight_decay},
             {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.98))
        self.model, self.file, self.step, self.seconds = model, args.state, 0, 0.0
        self.settings = {key: value for key, value in vars(args).items()
                         if key not in ("output", "text", "state", "minutes", "threads")}

    def load(self):
        """Continue from the file, if there is one."""
        if self.file is None or not self.file.exists():
            return
        try:
            saved = torch.load(self.file, weights_only=True)
            if saved["settings"] != self.settings:
                die(f"{self.file} was saved with other settings: {saved['settings']}")
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.seconds = saved["step"], saved["seconds"]
        except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
            die(f"{self.file} is no state of this training; delete it or name another file")
        print(f"resumed at step {self.step}", file=sys.stderr)

    def save(self):
        """Replace the file."""
        if self.file is None:
            return
        scratch = self.file.with_name(self.file.name + ".part")
        torch.save({"settings": self.settings, "step": self.step, "seconds": self.seconds,
                    "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()},
                   scratch)
        os.replace(scratch, self.file)


def train(args, model, corpus, held_out):
    """Run the steps, with progress on stderr; returns the number of steps done."""
    state = State(args, model)
    state.load()
    begun, mean = time.monotonic() - state.seconds, None
    while True:
        state.seconds = time.monotonic() - begun
        late = state.seconds / 60 / args.minutes if args.minutes else 0.0
        done = max(state.step / args.steps, late)
        if done >= 1 or (state.step and state.step % 500 == 0):
            state.save()
        if done >= 1:
            return state.step
        for group in state.optimizer.param_groups:
            warm = min(1.0, (state.step + 1) / 200)
            group["lr"] = args.lr * warm * (0.5 + 0.5 * math.cos(math.pi * done))
        loss, aux, _ = losses(model, corpus.batch(args.batch, [args.seed, state.step]))
        (loss + args.aux * aux).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if state.step % 50 == 0:
            print(f"step {state.step:6d}  {100 * done:5.1f} %  loss {mean:.3f}  "
                  f"balance {aux.item():.3f}  {state.seconds:6.0f} s", file=sys.stderr, flush=True)
        if state.step % 1000 == 0:
            print(f"validation {evaluate(model, held_out)}", file=sys.stderr, flush=True)


def amend(file, **keys):
    """Set keys of a JSON file."""
    content = {**json.loads(file.read_text()), **keys}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def save(folder, model, tokenizer):
    """Write config.json, model.safetensors in FP16 and the tokenizer."""
    model.half().save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS,
        clean_up_tokenization_spaces=False, model_max_length=WINDOW).save_pretrained(folder)
    # Said also in the words of older transformers, which else would take their own defaults.
    amend(folder / "config.json", rope_theta=model.config.rope_parameters["rope_theta"])
    amend(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def sample(model, tokenizer, prompt):
    """The prompt and its greedy continuation."""
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                         max_new_tokens=96, pad_token_id=0)
    return tokenizer.decode(out[0].tolist())


def main(argv=None):
    """Train, write the folder, and print the record."""
    args = parse_args(argv)
    if MISSING:
        die(f"the Python package {MISSING!r} is not there; pip install 'logicpim[train]'")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    documents = read_documents(args.text)
    tokenizer = train_tokenizer(documents, args.vocab)
    last = HOLD_OUT - 1
    corpus = Corpus([d for i, d in enumerate(documents) if i % HOLD_OUT != last], tokenizer)
    held_out = Corpus(documents[last::HOLD_OUT], tokenizer)
    if not corpus.starts or not held_out.starts:
        die(f"the text is too short: it needs {HOLD_OUT} documents, and {WINDOW} tokens in the "
            f"{HOLD_OUT}th")
    model = build_model(args, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(corpus.stream)} training tokens, {len(held_out.stream)} held out; "
          f"{parameters} parameters", file=sys.stderr)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        steps = train(args, model, corpus, held_out)
    except KeyboardInterrupt:
        die("interrupted; nothing written" + (f" but {args.state}" if args.state else ""))

    with tempfile.TemporaryDirectory(dir=args.output.parent) as scratch:
        scratch = Path(scratch)
        save(scratch, model, tokenizer)
        rounded = MixtralForCausalLM.from_pretrained(
            scratch, dtype=torch.float32, experts_implementation="eager")
        record = {
            "text": args.text.name if args.text else BIBLE, "parameters": parameters,
            "training_tokens": len(corpus.stream), "window": WINDOW, "batch": args.batch,
            "steps": steps, "planned_steps": args.steps, "minutes": args.minutes,
            "lr": args.lr, "weight_decay": args.weight_decay, "aux": args.aux, "seed": args.seed,
            "training": evaluate(rounded, corpus), "validation": evaluate(rounded, held_out),
            "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
        }
        (scratch / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        args.output.mkdir(exist_ok=True)
        for file in sorted(scratch.iterdir()):
            file.chmod(0o644)
            os.replace(file, args.output / file.name)
    print(json.dumps(record, indent=2))
    print(sample(rounded, tokenizer, "And the LORD said"))


if __name__ == "__main__":
    main()
