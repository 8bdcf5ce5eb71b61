# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim inspect``: the operations of a model with their sizes, bytes, FLOPs and Op/B."""

from pathlib import Path

from ..driver.spaces import account
from ..llm.checkpoint import Checkpoint, has_tensors
from ..llm.config import load_config
from ..llm.graph import ELEMENT_BYTES, STORED_BITS, Batch, Operation, operations
from ..llm.kinds import ModelConfig
from ..llm.presets import PRESETS, preset
from ..llm.tensors import parameters
from ..spec.errors import ModelError
from ..spec.presets import load_config as load_hardware
from .explain import costs_line, show_decisions
from .io import add_json_option, count, table, whole
from .planned import TEXT, add_planned_options, planned

EPILOG = f"""\
MODEL is a model folder, a config.json alone, or one of
  {', '.join(list(PRESETS)[:8])},
  {', '.join(list(PRESETS)[8:])}.
In a folder with a checkpoint every tensor is looked for too.

stages
  prefill   B sequences of --lin tokens each, read at once
  decode    one new token for each of B sequences with --context tokens before it
  mixed     the decode stage of B sequences together with the prefill of one more
A model with an encoder reads --lin tokens there, also in prefill, and --context tokens are those
that the decoder has made. All experts of a layer are taken to be chosen equally often.

{TEXT}
what the keys mean
  parameters    total, active (used by one token), experts (all of them), one_expert
  weight_bytes  of all parameters as they are stored
  kv_bytes_per_token  what a token keeps in the cache, in FP16; windows are not counted
  operations    one row for each: part (encoder or decoder), operation, where (as `logicpim run`
                places it), m, n, k, calls, flops, bytes (operands, weights as stored, and results,
                each once), op_b
  decisions     with --policy: what, layer; experts with tokens or sequences, where each runs, its
                estimates xpu_s and pim_s; seconds of the layer, xpu_s, pim_s; why
  memory        with --memory: bytes of each kind in each memory space, all channels together

examples
  logicpim inspect mixtral-8x7b --batch 32 --context 2048
  logicpim inspect models/tiny-mixtral --stage prefill --lin 128
  logicpim inspect gpt-oss-120b --stage mixed --batch 64 --lin 1024 --json
  logicpim inspect mixtral-8x7b --batch 32 --context 4096 --memory paper --stacks 8
  logicpim inspect mixtral-8x7b --stage mixed --batch 64 --policy duplex_pe_paper
"""


def add_parser(subparsers):
    """Add ``inspect``."""
    p = subparsers.add_parser(
        "inspect", help="show a model's operations with M, N, K, bytes, FLOPs and Op/B",
        epilog=EPILOG, description="Show the operations of one pass of a model.")
    p.add_argument("model", metavar="MODEL", help="folder, config.json or name of a model")
    p.add_argument("--stage", choices=("prefill", "decode", "mixed"), default="decode",
                   help="what the pass does (default: %(default)s)")
    p.add_argument("--batch", type=whole(1), default=1, metavar="B",
                   help="sequences (default: %(default)s)")
    p.add_argument("--lin", type=whole(1), metavar="L",
                   help="tokens of a prompt (default: 512, or half of those that the model was "
                        "made for if that is less)")
    p.add_argument("--context", type=whole(0), metavar="C",
                   help="tokens before the new one (default: those of the prompt)")
    p.add_argument("--memory", metavar="NAME_OR_TOML",
                   help="also lay experts, weights and KV cache over the memory spaces of this "
                        "configuration, and say where they do not fit")
    p.add_argument("--stacks", type=whole(1, 4096), default=1, metavar="S",
                   help="stacks of that configuration's channels (default: %(default)s)")
    add_planned_options(p)
    add_json_option(p)
    p.set_defaults(run=run, show=show)
    return p


def load(name: str) -> tuple[ModelConfig, str]:
    """A model by folder, file or name, and where its sizes are from."""
    path = Path(name)
    if not path.exists():
        return preset(name), PRESETS[name].source
    config = load_config(path)
    if path.is_dir() and has_tensors(path):
        Checkpoint(path, config)
    return config, str(path)


def passes(config: ModelConfig, stage: str, batch: int, lin: int, context: int
           ) -> list[tuple[str, Operation]]:
    """Operations of a stage, each with the part of the model; see the help of the command."""
    source = lin if config.encoder else 0
    longest = max(lin if stage != "decode" or source else 0,
                  context + 1 if stage != "prefill" else 0)
    if longest > config.max_positions:
        raise ModelError(f"{longest} tokens are more than the {config.max_positions} that the "
                         f"model was made for: ask for fewer (--lin, --context)")
    new = {"prefill": batch, "decode": 0, "mixed": 1}[stage]
    batches, rows = [], []
    if stage != "prefill":
        batches.append(Batch(sequences=batch, tokens=1, past=context, source=source))
    if new and config.encoder:
        read = [Batch(sequences=new, tokens=lin)]
        rows += [("encoder", o) for o in operations(config, read, encoder=True, stored=True)]
        batches.append(Batch(sequences=new, tokens=1, source=lin))
    elif new:
        batches.append(Batch(sequences=new, tokens=lin))
    return rows + [("decoder", o) for o in operations(config, batches, stored=True)]


def run(args) -> dict:
    """The keys of the JSON object."""
    config, source = load(args.model)
    if args.lin is None:
        args.lin = min(512, max(1, config.max_positions // 2))
    context = args.context
    if context is None:
        context = 0 if config.encoder else args.lin
    found = parameters(config)
    rows = [{"part": part, "operation": o.name, "where": str(o.place), "m": o.m, "n": o.n, "k": o.k,
             "calls": o.calls, "flops": o.flops, "bytes": o.bytes, "op_b": o.op_b}
            for part, o in passes(config, args.stage, args.batch, args.lin, context)]
    flops, moved = (sum(row[key] for row in rows) for key in ("flops", "bytes"))
    bits = STORED_BITS[config.storage]
    memory = None
    if args.memory is not None:
        held = account(
            load_hardware(args.memory, []), config, stacks=args.stacks,
            sequences=0 if args.stage == "prefill" else args.batch, context=context + 1,
            prefills={"prefill": args.batch, "decode": 0, "mixed": 1}[args.stage], lin=args.lin)
        memory = {kind: values.sum(axis=0).tolist() for kind, values in held.items()}
    return {
        "model": args.model, "source": source, "family": config.family, "stage": args.stage,
        "batch": args.batch, "lin": args.lin, "context": context,
        "layers": config.layers, "expert_layers": len(config.expert_layers),
        "hidden_size": config.hidden_size, "vocab_size": config.vocab_size,
        "experts": config.experts, "top_k": config.top_k,
        "expert_width": config.intermediate_size,
        "expert_matrices": len(config.expert.matrices) if config.expert else 0,
        "parameters": {"total": found.total, "active": found.active, "experts": found.experts,
                       "one_expert": found.one_expert},
        "weight_bytes": round(ELEMENT_BYTES * (found.total - found.experts)
                              + found.experts * bits / 8),
        "kv_bytes_per_token": ELEMENT_BYTES * sum(
            block.attention.cached for block in config.blocks[config.encoder:]),
        "operations": rows, "flops": flops, "bytes": moved, "op_b": flops / moved,
        "memory": memory, **(planned(args, config, context) if args.policy else {}),
    }


def show(result: dict, args) -> None:
    """Print the model in a few lines, and the table."""
    sizes = result["parameters"]
    print(f"{result['model']} ({result['family']}; {result['source']})")
    print(f"{result['layers']} layers of {result['hidden_size']}, vocabulary "
          f"{result['vocab_size']:,}; {sizes['total'] / 1e9:.3g} billion parameters, "
          f"{sizes['active'] / 1e9:.3g} used by a token; {count(result['weight_bytes'])} bytes")
    if result["experts"]:
        print(f"{result['expert_layers']} layers with {result['experts']} experts of "
              f"{result['expert_matrices']} matrices, {result['expert_width']} wide, "
              f"{result['top_k']} for a token")
    print(f"{count(result['kv_bytes_per_token'])} bytes of KV cache for a token\n")
    shape = {"prefill": f"{result['batch']} x {result['lin']} tokens",
             "decode": f"{result['batch']} x 1 token after {result['context']}",
             "mixed": f"{result['batch']} x 1 token after {result['context']} and 1 x "
                      f"{result['lin']} tokens"}[result["stage"]]
    rows = [["encoder " * (r["part"] == "encoder") + r["operation"], r["where"],
             *(count(r[key] or None) for key in ("m", "n", "k", "calls", "flops", "bytes")),
             f"{r['op_b']:.2f}"] for r in result["operations"]]
    rows.append(["all", "-", "-", "-", "-", "-", count(result["flops"]), count(result["bytes"]),
                 f"{result['op_b']:.2f}"])
    print(f"{result['stage']}: {shape}")
    print(table(["operation", "where", "M", "N", "K", "calls", "FLOPs", "bytes", "Op/B"], rows),
          end="")
    if result["memory"]:
        spaces = len(result["memory"]["free"])
        print(f"\nmemory of {args.stacks} stack{'s' * (args.stacks > 1)} of {args.memory}, bytes")
        print(table(["", *(f"space {i}" for i in range(spaces)), "all"], [
            [kind, *map(count, values), count(sum(values))]
            for kind, values in result["memory"].items()]), end="")
    if args.policy:
        show_decisions(result["decisions"])
        print(f"\npolicy {result['policy']}; {costs_line(result['costs'])}")
