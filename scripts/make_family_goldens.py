#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Write tiny random models of each family and what transformers says about them.

For each family: a model of odd sizes with random weights, saved by transformers in FP16 or BF16;
three prompts, 32 tokens greedy in FP32; and the logits and tokens of transformers in FP16 on the
same inputs, which are the yardstick of the tests. A prompt on which FP16 chooses another expert is
replaced by another.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    MISSING = None
except ImportError as error:  # reported by main(), so that --help works without them
    MISSING = error.name

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 32
PROMPTS = (3, 9, 20)  # lengths; the last is beyond the windows and the first trained lengths below
LOGIT_POSITIONS = range(0, TOKENS, 3)  # all of them would be half a megabyte more
MAX_ERROR = 0.5  # above it FP16 has chosen another expert; a yardstick that long is none
TOLERANCE = 1e-3  # of --check, between machines: FP32 sums run in another order

YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 6.0, "beta_fast": 4.0,
        "beta_slow": 1.0, "original_max_position_embeddings": 16}
GQA = {"hidden_size": 42, "intermediate_size": 75, "num_hidden_layers": 2,
       "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
       "max_position_embeddings": 96, "vocab_size": 131}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}
MOE = {"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 43}
MLA = {"hidden_size": 50, "intermediate_size": 61, "moe_intermediate_size": 23,
       "num_hidden_layers": 3, "num_attention_heads": 5, "num_key_value_heads": 5,
       "kv_lora_rank": 18, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 9,
       "first_k_dense_replace": 1, "vocab_size": 113, "max_position_embeddings": 96}
OSS = {**GQA, **MOE, "hidden_size": 46, "sliding_window": 6,
       "rope_parameters": {**YARN, "original_max_position_embeddings": 64, "truncate": False}}
# Name of the folder: class, dtype, what differs from the class's own configuration.
FAMILIES = {
    "llama": ("Llama", "float16", {**GQA, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 2.0, "original_max_position_embeddings": 24}}),
    "llama-linear": ("Llama", "bfloat16", {
        **GQA, "num_key_value_heads": 6, "attention_bias": True, "mlp_bias": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 300.0, "factor": 3.0}}),
    "mistral": ("Mistral", "float16", {**GQA, **THETA, "sliding_window": 7}),
    "mixtral": ("Mixtral", "float16", {**GQA, **MOE, **THETA, "sliding_window": None}),
    "qwen2": ("Qwen2", "float16", {
        **GQA, **THETA, "hidden_size": 60, "use_sliding_window": True, "sliding_window": 5,
        "max_window_layers": 1, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", "float16", {**GQA, **THETA, "head_dim": 14}),
    "qwen3_moe": ("Qwen3Moe", "float16", {
        **GQA, **THETA, "num_hidden_layers": 3, "mlp_only_layers": [1], "num_experts": 7,
        "num_experts_per_tok": 3, "moe_intermediate_size": 29, "norm_topk_prob": True}),
    "opt": ("OPT", "float16", {
        "hidden_size": 42, "word_embed_proj_dim": 42, "ffn_dim": 77, "num_hidden_layers": 2,
        "num_attention_heads": 3, "vocab_size": 127, "max_position_embeddings": 64}),
    "phimoe": ("Phimoe", "bfloat16", {
        **GQA, **MOE, "hidden_size": 54, "head_dim": 8, "intermediate_size": 37,
        "attention_bias": True, "lm_head_bias": True, "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 300.0, "short_mscale": 1.2, "long_mscale": 1.3,
            "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.0, 2.0, 4.0, 6.0],
            "original_max_position_embeddings": 64}}),
    "gpt_oss": ("GptOss", "bfloat16", OSS),
    "gpt_oss-mxfp4": ("GptOss", "bfloat16", {**OSS, "hidden_size": 64, "intermediate_size": 96,
                                             "num_local_experts": 4}),
    "deepseek_v2": ("DeepseekV2", "bfloat16", {
        **MLA, "q_lora_rank": None, "n_routed_experts": 7, "num_experts_per_tok": 3,
        "n_shared_experts": 2, "topk_method": "greedy", "routed_scaling_factor": 1.5,
        "rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.9}}),
    "deepseek_v3": ("DeepseekV3", "bfloat16", {
        **MLA, "q_lora_rank": 22, "n_routed_experts": 9, "num_experts_per_tok": 3, "n_group": 3,
        "topk_group": 2, "n_shared_experts": 1, "rope_parameters": {
            "rope_type": "default", "rope_theta": 300.0}}),
    "switch": ("SwitchTransformers", "float16", {
        "d_model": 36, "d_kv": 10, "d_ff": 53, "num_heads": 3, "num_layers": 2,
        "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
        "num_experts": 5, "expert_capacity": 4, "vocab_size": 109, "decoder_start_token_id": 0,
        "relative_attention_num_buckets": 12, "relative_attention_max_distance": 20}),
    "nllb-moe": ("NllbMoe", "float16", {
        "d_model": 39, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 3,
        "decoder_attention_heads": 3, "encoder_ffn_dim": 53, "decoder_ffn_dim": 53,
        "encoder_sparse_step": 2, "decoder_sparse_step": 2, "num_experts": 5, "vocab_size": 109,
        "max_position_embeddings": 64}),
}

EPILOG = f"""\
what is written, under DIR/NAME
  config.json, model*.safetensors    the model as transformers saves it
  golden.json    for each prompt: prompt_token_ids; token_ids, {TOKENS} of them; token_ids_16, the
                 best tokens of transformers in FP16 on the same inputs; logit_positions; error_16,
                 the largest difference of its logits there from those in FP32
  logits.npz     FP32 logits [prompt, position, vocabulary] that chose token_ids

examples
  scripts/make_family_goldens.py                   all, into tests/llm/families
  scripts/make_family_goldens.py llama gpt_oss     two of them
  scripts/make_family_goldens.py --check           compare with what is there; write nothing
"""


def die(message):
    """End with one line on stderr and status 1."""
    sys.exit(f"make_family_goldens: {message}")


def randomise(model, seed):
    """Weights that keep a signal's size, and norms, biases and sinks that are not neutral."""
    random = torch.Generator().manual_seed(seed)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=random)

    tensors = dict(model.named_parameters()) | {
        n: b for n, b in model.named_buffers() if n.endswith("correction_bias")}
    for name, tensor in tensors.items():
        packed = name.endswith(("experts.gate_up_proj", "experts.down_proj"))
        if name.endswith("sinks"):
            value = normal(tensor)
        elif name.endswith(("bias", "_bias")):
            value = 0.2 * normal(tensor)
        elif tensor.ndim == 1:
            value = 1 + 0.2 * normal(tensor)
        elif "embed" in name or "shared.weight" in name or "relative" in name:
            value = normal(tensor)
        elif packed and "gpt_oss" in model.config.model_type:
            value = 1.5 * normal(tensor) * tensor.shape[-2] ** -0.5
        else:
            gain = 4 if "lm_head" in name or "router" in name or "gate.weight" in name else 1.5
            value = gain * normal(tensor) * tensor.shape[-1] ** -0.5
        tensor.data.copy_(value)
    model.tie_weights()


def quantise(folder, seed):
    """Replaces the experts' matrices by random MXFP4 ones."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    random = torch.Generator().manual_seed(seed)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        blocks = (experts, out, into // 32)
        tensors[f"{name}_blocks"] = torch.randint(256, (*blocks, 16), generator=random).byte()
        scale = 127 - round(math.log2(2 * into ** 0.5))
        tensors[f"{name}_scales"] = torch.randint(scale - 1, scale + 2, blocks,
                                                  generator=random).byte()
    save_file(tensors, path, metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def both_experts(self, hidden, router_mask, router_probs):
    """NllbMoeExperts.forward: each token's two experts, weighted.

    transformers 5.23 takes the one-hot mask of the first choice for a list of experts and so sends
    every token to experts 0 and 1, whatever the router says.
    """
    out = torch.zeros_like(hidden)
    for expert in range(self.num_experts):
        token, = torch.where(router_probs[:, expert] > 0)
        value = self[f"expert_{expert}"](hidden[token]) * router_probs[token, expert, None]
        out.index_add_(0, token, (value * (1 - self.moe_token_dropout)).to(out.dtype))
    return out


def make(name, folder):
    """The model in ``folder``."""
    kind, dtype, values = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**values)
    seq2seq = kind in ("SwitchTransformers", "NllbMoe")
    cls = getattr(transformers, kind + ("ForConditionalGeneration" if seq2seq else "ForCausalLM"))
    config._attn_implementation = "eager"
    model = cls(config)
    seed = sum(map(ord, name))
    randomise(model, seed)
    # Mistral's in several files, as large models come.
    model.to(getattr(torch, dtype)).save_pretrained(
        folder, max_shard_size="60KB" if name == "mistral" else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name.endswith("mxfp4"):
        quantise(folder, seed)
    return cls


def load(cls, folder, dtype):
    """The model in a format, for one CPU thread."""
    extra = {}
    if "quantization_config" in json.loads((folder / "config.json").read_text()):
        extra["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    model = cls.from_pretrained(folder, local_files_only=True, dtype=dtype, **extra,
                                attn_implementation="eager", experts_implementation="eager")
    return model.to(dtype).eval().requires_grad_(False)


def decode(model, prompt, forced=None):
    """Logits [TOKENS, vocabulary] and the best tokens; ``forced`` tokens are fed, or the best."""
    ids, cache, encoded, logits = torch.tensor([prompt]), None, {}, []
    if model.config.is_encoder_decoder:
        encoded = {"encoder_outputs": model.get_encoder()(ids, return_dict=True)}
        ids = torch.tensor([[model.config.decoder_start_token_id]])
    for position in range(TOKENS):
        feed = {"decoder_input_ids": ids} | encoded if encoded else {"input_ids": ids}
        out = model(**feed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1].float())
        best = forced[position] if forced else int(logits[-1].argmax())
        ids = torch.tensor([[best]])
    logits = torch.stack(logits).numpy()
    return logits, logits.argmax(-1).tolist()


def golden(name, folder, cls):
    """What golden.json and logits.npz hold."""
    exact = load(cls, folder, torch.float32)
    half = load(cls, folder, torch.float16)
    random, rows, all_logits = np.random.default_rng(sum(map(ord, name))), [], []
    for length in PROMPTS:
        error = math.inf
        while error > MAX_ERROR:
            prompt = random.integers(3, exact.config.vocab_size, length).tolist()
            logits, tokens = decode(exact, prompt)
            logits_16, tokens_16 = decode(half, prompt, tokens)
            logits, logits_16 = logits[LOGIT_POSITIONS], logits_16[LOGIT_POSITIONS]
            error = float(np.abs(logits_16 - logits).max())
        rows.append({"prompt_token_ids": prompt, "token_ids": tokens, "token_ids_16": tokens_16,
                     "logit_positions": list(LOGIT_POSITIONS),
                     "error_16": error})
        all_logits.append(logits)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"dtype": FAMILIES[name][1], **versions, "prompts": rows}, np.stack(all_logits)


def main(argv=None):
    """Write or compare the golden files."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        default=ROOT / "tests" / "llm" / "families")
    parser.add_argument("--check", action="store_true", help=f"compare the models that are there: "
                        f"tokens equal, logits within {TOLERANCE}")
    args = parser.parse_args(argv)
    if MISSING:
        die(f"{MISSING} is missing: pip install -e '.[train]'")
    if unknown := set(args.names) - set(FAMILIES):
        die(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(FAMILIES)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.models.nllb_moe.modeling_nllb_moe.NllbMoeExperts.forward = both_experts
    for name in args.names or FAMILIES:
        folder = args.output / name
        kind = FAMILIES[name][0]
        if args.check:
            seq2seq = kind in ("SwitchTransformers", "NllbMoe")
            cls = getattr(transformers,
                          kind + ("ForConditionalGeneration" if seq2seq else "ForCausalLM"))
        else:
            cls = make(name, folder)
        found, logits = golden(name, folder, cls)
        if args.check:
            known = json.loads((folder / "golden.json").read_text())
            with np.load(folder / "logits.npz") as packed:
                error = float(np.abs(packed["logits"] - logits).max())
            same = all(a["token_ids"] == b["token_ids"]
                       for a, b in zip(known["prompts"], found["prompts"], strict=True))
            if not same or error > TOLERANCE:
                die(f"{name}: tokens {'equal' if same else 'differ'}, logits {error:.2g} apart")
        else:
            (folder / "golden.json").write_text(json.dumps(found) + "\n")
            np.savez_compressed(folder / "logits.npz", logits=logits)
        errors = ", ".join(f"{p['error_16']:.3g}" for p in found["prompts"])
        print(f"{name}: errors in FP16 {errors}; "
              f"largest logit {np.abs(logits).max():.3g}")


if __name__ == "__main__":
    main()
