#!/usr/bin/env python3
"""Writes tiny random checkpoints of every supported family, with reference logits.

For each family: a folder with config.json and safetensors as `transformers` writes them, the same
weights as GGUF under llama.cpp's tensor names and row orders, and the logits that `transformers`
computes (float32, eager attention, CPU) for fixed tokens: plain, and under SelfExtend by its
definition (arXiv 2401.01325, equations 1 to 4), pair by pair, inside `transformers`' own layers. The
Rust tests (tests/families.rs) run both files and compare. Nothing here is derived from our own code.

    python3 -m venv target/checkpoints
    target/checkpoints/bin/pip install -r tools/requirements.txt
    target/checkpoints/bin/python tools/make_checkpoints.py [family ...]

Families that only version 5 of transformers has are written with that: `pip install --target DIR
transformers==5.24.0`, then the same with `PYTHONPATH=DIR`.
"""

import contextlib
import inspect
import json
import math
import re
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent / "crates/selfextend/tests/checkpoints"
VOCAB, TOKENS, WINDOW = 61, 72, 96
GROUP, NEIGHBOURS = 4, 12
FIVE = int(transformers.__version__.split(".")[0]) >= 5


class Spec:
    """A family: its transformers configuration, and its names in GGUF.

    `arch` is None where llama.cpp does not know the family; without `folder` the family has its own
    code outside transformers, and another class of it computes the same.
    `five`: only version 5 of transformers has it.
    With `unmoved` all layers that see far have no positions: SelfExtend changes nothing.
    """

    def __init__(
        self, config, arch, permute=False, norm_offset=0.0, keys=None, folder=True, unmoved=False,
        five=False, **options,
    ):
        self.config, self.permute, self.norm_offset = config, permute, norm_offset
        self.folder, self.unmoved, self.five = folder, unmoved, five
        self.arch = arch and gguf.MODEL_ARCH[arch]
        self.arch_name = arch and gguf.MODEL_ARCH_NAMES[self.arch]
        self.keys = keys or (lambda writer, config: None)
        self.options = {
            "vocab_size": VOCAB,
            "hidden_size": 24,
            "intermediate_size": 29,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": WINDOW,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "attn_implementation": "eager",
        } | options
        # GPT-J's follow from its own names.
        for name in [name for name, value in self.options.items() if value is ...]:
            del self.options[name]


GQA = {"num_key_value_heads": 2}


def sliding(writer, config):
    writer.add_sliding_window(config.sliding_window)


def soft_caps(writer, config):
    sliding(writer, config)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)


def yarn(writer, config):
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.rope_scaling["factor"])
    original = config.rope_scaling["original_max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(original)


def linear(writer, config):
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(config.rope_scaling["factor"])


def llama3(writer, config):
    """llama.cpp's converter writes the divisor of each frequency as a tensor."""
    scaling = getattr(config, "rope_scaling", None) or config.rope_parameters
    dim, theta = config.head_dim, getattr(config, "rope_theta", None) or scaling["rope_theta"]
    old = scaling["original_max_position_embeddings"]
    low = old / scaling["low_freq_factor"]
    high = old / scaling["high_freq_factor"]
    factors = []
    for frequency in 1.0 / theta ** (np.arange(0, dim, 2) / dim):
        wavelength = 2 * math.pi / frequency
        if wavelength < high:
            factors.append(1)
        elif wavelength > low:
            factors.append(scaling["factor"])
        else:
            smooth = (old / wavelength - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))


def longrope(writer, config):
    scale = config.max_position_embeddings / config.original_max_position_embeddings
    factor = math.sqrt(1 + math.log(scale) / math.log(config.original_max_position_embeddings))
    writer.add_rope_scaling_attn_factors(factor)
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    for name in ["long", "short"]:
        values = np.array(config.rope_scaling[f"{name}_factor"], dtype=np.float32)
        writer.add_tensor(f"rope_factors_{name}.weight", values)


def parallel(writer, config):
    writer.add_parallel_residual(config.use_parallel_residual)


def multipliers(writer, config):
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)
    usual = (config.hidden_size // config.num_attention_heads) ** -0.5
    if config.attention_multiplier != usual:
        writer.add_attention_scale(config.attention_multiplier)


def logit_scale(writer, config):
    writer.add_logit_scale(config.logit_scale)
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    if getattr(config, "sliding_window", None):
        sliding(writer, config)


def pattern(writer, config):
    if config.sliding_window:
        sliding(writer, config)
        writer.add_sliding_window_pattern([it == "sliding_attention" for it in config.layer_types])


def pattern_and_yarn(writer, config):
    pattern(writer, config)
    rope = config.rope_parameters["full_attention"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def clip(writer, config):
    writer.add_clamp_kqv(config.clip_qkv)


def experts(writer, config):
    """Keys of a mixture of experts, as llama.cpp's converter writes them."""
    names = ["num_local_experts", "num_experts", "n_routed_experts"]
    writer.add_expert_count(next(getattr(config, n) for n in names if hasattr(config, n)))
    writer.add_expert_used_count(config.num_experts_per_tok)
    if width := getattr(config, "moe_intermediate_size", None):
        writer.add_expert_feed_forward_length(width)
    if shared := getattr(config, "shared_expert_intermediate_size", None):
        writer.add_expert_shared_feed_forward_length(shared)


def granite_experts(writer, config):
    multipliers(writer, config)
    experts(writer, config)
    writer.add_expert_shared_feed_forward_length(config.shared_intermediate_size)


def olmo_experts(writer, config):
    clip(writer, config)
    experts(writer, config)


def glm_experts(writer, config):
    experts(writer, config)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_group_count(config.n_group)
    writer.add_expert_group_used_count(config.topk_group)


def gpt_oss(writer, config):
    experts(writer, config)
    writer.add_expert_feed_forward_length(config.intermediate_size)
    sliding(writer, config)
    yarn(writer, config)


def phi_experts(writer, config):
    experts(writer, config)
    scaling = config.rope_scaling
    # One for both lists.
    assert scaling["long_mscale"] == scaling["short_mscale"]
    writer.add_rope_scaling_attn_factors(scaling["long_mscale"])
    writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    for name in ["long", "short"]:
        values = np.array(scaling[f"{name}_factor"], dtype=np.float32)
        writer.add_tensor(f"rope_factors_{name}.weight", values)


def split_gpt_oss(tensors):
    """gpt-oss' experts as llama.cpp's converter writes them: turned, and gates by themselves."""
    out = {}
    for name, tensor in tensors.items():
        if ".experts.gate_up_proj" in name:
            if not name.endswith("_bias"):
                tensor = tensor.transpose(1, 2)
            end = ".bias" if name.endswith("_bias") else ".weight"
            stem = name.removesuffix("_bias").removesuffix("gate_up_proj")
            out[f"{stem}gate_proj{end}"] = tensor[:, ::2]
            out[f"{stem}up_proj{end}"] = tensor[:, 1::2]
        elif name.endswith(".experts.down_proj"):
            out[f"{name}.weight"] = tensor.transpose(1, 2)
        elif name.endswith(".experts.down_proj_bias"):
            out[name.replace("_bias", ".bias")] = tensor
        elif name.endswith(".sinks"):
            out[f"{name}.weight"] = tensor
        else:
            out[name] = tensor
    return out


def merge_experts(tensors):
    """The matrices of a layer's experts as one tensor, without their numbers in its name."""
    merged, stacks = {}, {}
    for name, tensor in tensors.items():
        if found := re.search(r"\.experts\.(\d+)\.", name):
            name = name.replace(found[0], ".experts.")
            stacks.setdefault(name, {})[int(found[1])] = tensor
        elif name.endswith("shared_expert_gate.weight"):
            merged[name] = tensor.squeeze()
        elif name.endswith("e_score_correction_bias"):
            merged[name.replace("_bias", ".bias")] = tensor
        elif name.endswith("block_sparse_moe.input_linear.weight"):
            for half, part in zip(["w1", "w3"], tensor.chunk(2, dim=1)):
                merged[name.replace("input_linear", f"experts.{half}")] = part
        elif name.endswith("shared_mlp.input_linear.weight"):
            for half, part in zip(["gate", "up"], tensor.chunk(2)):
                merged[name.replace("shared_mlp.input_linear", f"mlp.shared_expert.{half}_proj")] = part
        else:
            merged[name] = tensor
    for name, experts in stacks.items():
        merged[name] = torch.stack([experts[n] for n in sorted(experts)])
    return merged


GEMMA = dict(norm_offset=1.0, head_dim=12, num_key_value_heads=1, num_attention_heads=2)

FAMILIES = {
    # Llama 2, SOLAR, TinyLlama, SmolLM 1 and 2.
    "llama": Spec("LlamaConfig", "LLAMA", permute=True, **GQA),
    "llama-biased": Spec(
        "LlamaConfig", "LLAMA", permute=True, attention_bias=True, mlp_bias=True,
        head_dim=10, rope_theta=5e5, tie_word_embeddings=True, num_key_value_heads=1,
    ),
    # Llama 3.1 and 3.2.
    "llama3": Spec(
        "LlamaConfig", "LLAMA", permute=True, keys=llama3, rope_theta=500.0, head_dim=16,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }, **GQA,
    ),
    "llama-linear": Spec(
        "LlamaConfig", "LLAMA", permute=True, keys=linear,
        rope_scaling={"rope_type": "linear", "factor": 3.0}, **GQA,
    ),
    "llama-yarn": Spec(
        "LlamaConfig", "LLAMA", permute=True, keys=yarn, head_dim=16, rope_theta=100.0,
        rope_scaling={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24,
        }, **GQA,
    ),
    "smollm3": Spec("SmolLM3Config", "SMOLLM3", permute=True, num_hidden_layers=5, **GQA),
    "mistral": Spec(
        "MistralConfig", "LLAMA", permute=True, keys=sliding, sliding_window=17, head_dim=8, **GQA
    ),
    "qwen2": Spec("Qwen2Config", "QWEN2", use_sliding_window=False, **GQA),
    "qwen3": Spec("Qwen3Config", "QWEN3", head_dim=10, tie_word_embeddings=True, **GQA),
    "phi2": Spec(
        "PhiConfig", "PHI2", hidden_size=40, num_attention_heads=2, partial_rotary_factor=0.4,
        intermediate_size=160,
    ),
    "phi3": Spec(
        "Phi3Config", "PHI3", keys=sliding, sliding_window=33,
        original_max_position_embeddings=WINDOW, **GQA,
    ),
    "phi3.5": Spec(
        "Phi3Config", "PHI3", keys=longrope, original_max_position_embeddings=24,
        sliding_window=262144,
        rope_scaling={
            "type": "longrope", "short_factor": [1.0, 1.05, 1.1],
            "long_factor": [1.2, 2.5, 3.9],
        }, **GQA,
    ),
    "gemma": Spec("GemmaConfig", "GEMMA", **GEMMA),
    "gemma2": Spec(
        "Gemma2Config", "GEMMA2", keys=soft_caps, num_hidden_layers=3, sliding_window=13,
        query_pre_attn_scalar=12, attn_logit_softcapping=3.0, final_logit_softcapping=5.0,
        **GEMMA,
    ),
    "gemma3": Spec(
        "Gemma3TextConfig", "GEMMA3", keys=sliding, num_hidden_layers=7, sliding_window=13,
        query_pre_attn_scalar=12, rope_theta=1e6, rope_local_base_freq=1e4, **GEMMA,
    ),
    "stablelm": Spec(
        "StableLmConfig", "STABLELM", keys=parallel, hidden_size=48, num_attention_heads=3,
        num_key_value_heads=1, partial_rotary_factor=0.25, use_qkv_bias=True,
        use_parallel_residual=False,
    ),
    "stablelm-parallel": Spec(
        "StableLmConfig", "STABLELM", keys=parallel, hidden_size=48, num_attention_heads=3,
        num_key_value_heads=3, partial_rotary_factor=0.25, use_parallel_residual=True,
    ),
    "mixtral": Spec(
        "MixtralConfig", "LLAMA", permute=True, keys=experts, head_dim=8, intermediate_size=11,
        num_local_experts=5, num_experts_per_tok=2, **GQA,
    ),
    "qwen2-moe": Spec(
        "Qwen2MoeConfig", "QWEN2MOE", keys=experts, moe_intermediate_size=9, num_experts=5,
        num_experts_per_tok=3, shared_expert_intermediate_size=13, norm_topk_prob=False, **GQA,
    ),
    "qwen3-moe": Spec(
        "Qwen3MoeConfig", "QWEN3MOE", keys=experts, head_dim=10, num_hidden_layers=3,
        moe_intermediate_size=9, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True,
        mlp_only_layers=[1], **GQA,
    ),
    "olmoe": Spec(
        "OlmoeConfig", "OLMOE", keys=olmo_experts, intermediate_size=9, num_experts=6,
        num_experts_per_tok=3, norm_topk_prob=False, clip_qkv=0.8, **GQA,
    ),
    "granite-moe": Spec(
        "GraniteMoeSharedConfig", "GRANITE_MOE", permute=True, keys=granite_experts,
        intermediate_size=9, num_local_experts=5, num_experts_per_tok=2, attention_bias=True,
        shared_intermediate_size=7, embedding_multiplier=3.0, attention_multiplier=0.3,
        residual_multiplier=0.7, logits_scaling=1.6, **GQA,
    ),
    "glm4-moe": Spec(
        "Glm4MoeConfig", "GLM4_MOE", keys=glm_experts, head_dim=8, moe_intermediate_size=7,
        intermediate_size=11, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2,
        routed_scaling_factor=1.7, n_group=3, topk_group=2, first_k_dense_replace=1,
        attention_bias=True, use_qk_norm=True, **GQA,
    ),
    # Yarn's ramp does not begin at a whole pair; gates are beyond their limit here and there.
    "gpt-oss": Spec(
        "GptOssConfig", "GPT_OSS", keys=gpt_oss, hidden_size=32, intermediate_size=32, head_dim=12,
        num_local_experts=4, num_experts_per_tok=2, sliding_window=13, rope_theta=100.0,
        rope_scaling={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24,
            "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        }, **GQA,
    ),
    "phi3.5-moe": Spec(
        "PhimoeConfig", "PHIMOE", keys=phi_experts, intermediate_size=11, num_local_experts=5,
        num_experts_per_tok=2, attention_bias=True, lm_head_bias=True,
        rope_scaling={
            "type": "longrope", "short_factor": [1.0, 1.05, 1.1], "long_factor": [1.2, 2.5, 3.9],
            "short_mscale": 1.24, "long_mscale": 1.24, "original_max_position_embeddings": 24,
        }, **GQA,
    ),
    # What GGUF cannot say: how near experts are, and a magnitude for each list.
    "phi3.5-moe-jitter": Spec(
        "PhimoeConfig", None, intermediate_size=11, num_local_experts=5, num_experts_per_tok=2,
        attention_bias=True, lm_head_bias=True, router_jitter_noise=0.1, rope_scaling={
            "type": "longrope", "short_factor": [1.0, 1.05, 1.1], "long_factor": [1.2, 2.5, 3.9],
            "short_mscale": 1.1, "long_mscale": 1.24, "original_max_position_embeddings": 24,
        }, **GQA,
    ),
    "hunyuan": Spec(
        "HunYuanDenseV1Config", "HUNYUAN_DENSE", head_dim=8, attention_bias=True, **GQA
    ),
    "hunyuan-alpha": Spec(
        "HunYuanDenseV1Config", None, head_dim=8, rope_theta=100.0, hidden_size=16,
        intermediate_size=19, rope_scaling={
            "type": "dynamic", "alpha": 50.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1,
        }, **GQA,
    ),
    "glm4-moe-below": Spec(
        "Glm4MoeConfig", "GLM4_MOE", five=True, keys=glm_experts, head_dim=8, hidden_size=16,
        moe_intermediate_size=7, intermediate_size=11, n_routed_experts=6, num_experts_per_tok=2,
        n_shared_experts=1, n_group=3, topk_group=2, first_k_dense_replace=1, **GQA,
    ),
    "olmo2": Spec("Olmo2Config", "OLMO2", rope_theta=5e5, **GQA),
    "pythia": Spec(
        "GPTNeoXConfig", "GPTNEOX", keys=parallel, hidden_size=48, num_attention_heads=3,
        rotary_pct=0.25, use_parallel_residual=True,
    ),
    "gpt-neox-sequential": Spec(
        "GPTNeoXConfig", "GPTNEOX", keys=parallel, hidden_size=48, num_attention_heads=3,
        rotary_pct=0.25, use_parallel_residual=False,
    ),
}


# Smaller than those above, as there are many.
SMALL = {"hidden_size": 16, "intermediate_size": 19}
SMALL_GQA = SMALL | GQA

GPT = {"n_embd": 24, "intermediate_size": ..., "n_inner": None}

FAMILIES |= {
    "phi4-mini": Spec(
        "Phi3Config", "PHI3", keys=longrope, num_attention_heads=2, **SMALL,
        original_max_position_embeddings=24, sliding_window=None, partial_rotary_factor=0.75,
        tie_word_embeddings=True, rope_scaling={
            "type": "longrope", "short_factor": [1.0, 1.05, 1.1], "long_factor": [1.2, 2.5, 3.9],
        }, num_key_value_heads=1,
    ),
    "granite": Spec(
        "GraniteConfig", "GRANITE", permute=True, keys=multipliers, attention_bias=True,
        embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.7,
        logits_scaling=1.6, **SMALL_GQA,
    ),
    # MiniCPM 1 and 2: Granite's multipliers are theirs.
    "minicpm": Spec(
        "GraniteConfig", "MINICPM", permute=True, keys=multipliers, folder=False,
        tie_word_embeddings=True, embedding_multiplier=5.0, attention_multiplier=4**-0.5,
        residual_multiplier=0.8, logits_scaling=1.3, **SMALL_GQA,
    ),
    "starcoder2": Spec("Starcoder2Config", "STARCODER2", tie_word_embeddings=True, **SMALL_GQA),
    "nemotron": Spec(
        "NemotronConfig", "NEMOTRON", norm_offset=1.0, partial_rotary_factor=0.5, head_dim=4, **SMALL_GQA,
    ),
    "glm": Spec("GlmConfig", "CHATGLM", head_dim=8, tie_word_embeddings=False, **SMALL_GQA),
    "glm4": Spec("Glm4Config", "GLM4", head_dim=12, attention_bias=False, **SMALL_GQA),
    "cohere": Spec(
        "CohereConfig", "COMMAND_R", keys=logit_scale, logit_scale=0.4, use_qk_norm=True, **SMALL_GQA
    ),
    "cohere-plain": Spec(
        "CohereConfig", "COMMAND_R", keys=logit_scale, logit_scale=0.4, **SMALL
    ),
    "cohere2": Spec(
        "Cohere2Config", "COHERE2", keys=logit_scale, logit_scale=0.5, num_hidden_layers=5,
        sliding_window=13, unmoved=True, **SMALL_GQA,
    ),
    "internlm2": Spec("LlamaConfig", "INTERNLM2", permute=True, folder=False, **SMALL_GQA),
    "exaone": Spec(
        "LlamaConfig", "EXAONE", folder=False, keys=llama3, rope_theta=500.0, head_dim=16,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }, **SMALL_GQA,
    ),
    # Its small one has no sliding window, its large one no RoPE elsewhere.
    "exaone4": Spec(
        "Exaone4Config", "EXAONE4", sliding_window=None,
        layer_types=["full_attention"] * 2, **SMALL_GQA,
    ),
    "exaone4-local": Spec(
        "Exaone4Config", "EXAONE4", keys=pattern, sliding_window=13, num_hidden_layers=5,
        unmoved=True, **SMALL_GQA,
    ),
    "olmo": Spec("OlmoConfig", "OLMO", permute=True, keys=clip, clip_qkv=0.9, **SMALL_GQA),
    "ernie4.5": Spec("Ernie4_5Config", "ERNIE4_5", head_dim=8, use_bias=True, **SMALL_GQA),
    "seed-oss": Spec("SeedOssConfig", "SEED_OSS", head_dim=10, **SMALL_GQA),
    "arcee": Spec("ArceeConfig", "ARCEE", permute=True, **SMALL_GQA),
    "helium": Spec("HeliumConfig", None, head_dim=4, **SMALL_GQA),
    "gptj": Spec("GPTJConfig", None, rotary_dim=4, **GPT),
    "codegen": Spec("CodeGenConfig", None, rotary_dim=4, **GPT),
    "apertus": Spec(
        "ApertusConfig", "APERTUS", keys=llama3, rope_theta=500.0, head_dim=16,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }, **SMALL_GQA,
    ),
    "olmo3": Spec(
        "Olmo3Config", "OLMO2", five=True, keys=pattern_and_yarn, sliding_window=13,
        num_hidden_layers=4, rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {
                "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0,
                "original_max_position_embeddings": 24,
            },
        }, **SMALL_GQA,
    ),
    "vaultgemma": Spec(
        "VaultGemmaConfig", None, five=True, norm_offset=1.0, head_dim=8, sliding_window=13,
        query_pre_attn_scalar=12, attn_logit_softcapping=3.0, final_logit_softcapping=5.0,
        **SMALL_GQA,
    ),
    "ministral": Spec(
        "MinistralConfig", None, five=True, sliding_window=13, head_dim=4,
        layer_types=["sliding_attention", "full_attention"], **SMALL_GQA,
    ),
    "exaone3.5": Spec(
        "ExaoneConfig", "EXAONE", five=True, head_dim=16, tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }, keys=llama3, **SMALL_GQA,
    ),
    "internlm3": Spec(
        "InternLM3Config", "LLAMA", five=True, permute=True, head_dim=8, attention_bias=True,
        mlp_bias=True, **SMALL_GQA,
    ),
    "jais2": Spec("Jais2Config", "JAIS2", five=True, **SMALL),
    "persimmon": Spec("PersimmonConfig", None, hidden_size=32, hidden_act="relu2"),
    "stablelm-12b": Spec(
        "StableLmConfig", "STABLELM", keys=parallel, hidden_size=24, intermediate_size=19, num_attention_heads=3,
        num_key_value_heads=1, partial_rotary_factor=0.5, use_parallel_residual=True,
        qk_layernorm=True,
    ),
    "phi2-qk-norm": Spec(
        "PhiConfig", None, hidden_size=32, num_attention_heads=2, qk_layernorm=True,
        hidden_act="gelu_fast",
    ),
    "neox-unbiased": Spec(
        "GPTNeoXConfig", "GPTNEOX", keys=parallel, hidden_size=24, intermediate_size=19, num_attention_heads=3,
        rotary_pct=0.5, attention_bias=False,
    ),
    "llama-quick-gelu": Spec("LlamaConfig", None, hidden_act="quick_gelu", **SMALL_GQA),
    "llama-relu": Spec("LlamaConfig", None, hidden_act="relu", **SMALL_GQA),
    "llama-yarn-weights": Spec(
        "LlamaConfig", None, head_dim=16, rope_theta=100.0,
        rope_scaling={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24,
            "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False, "beta_fast": 20.0,
        }, **SMALL_GQA,
    ),
    "llama-yarn-factor": Spec(
        "LlamaConfig", None, head_dim=16, rope_theta=100.0,
        rope_scaling={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24,
            "attention_factor": 1.3, "truncate": False,
        }, **SMALL_GQA,
    ),
}


def randomise(model, norm_offset):
    """Weights that keep activations of order one, norms and biases that matter."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() >= 2 and "norm." not in name:
            size = 1.6 / math.sqrt(tensor.shape[-1])
            if ("embed" in name or "wte" in name) and "out" not in name:
                size = 0.3 if model.config.tie_word_embeddings else 1.0
            tensor.data = noise * size
        elif name.endswith("bias") or ".act_fn." in name:
            tensor.data = noise * 0.3
        elif name.endswith(".sinks"):
            tensor.data = noise * 1.5
        else:
            tensor.data = 1.0 - norm_offset + noise * 0.3
        if name.endswith("gate_up_proj_bias"):
            tensor.data = noise * 4.0
    for name, tensor in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            # Below 0, version 4 takes experts of groups that were not taken: those are at 0 there, and
            # out of reach in 5.
            below = 2.0 if FIVE else 0.0
            tensor.data = torch.rand(tensor.shape, generator=generator) * 0.5 - below


def permute(weights, heads):
    """Rows of half-split pairs in the order of interleaved ones, as llama.cpp's converter does."""
    shape = weights.shape
    pairs = weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)


def stacked(tensors, heads, kv_heads):
    """One tensor for the norms of all heads."""
    out = dict(tensors)
    for name in tensors:
        if name.endswith("_layernorm.norms.0.weight"):
            count = heads if ".q_" in name else kv_heads
            rows = [out.pop(name.replace("norms.0", f"norms.{n}")) for n in range(count)]
            out[name.replace("norms.0.", "")] = torch.stack(rows)
    return out


def usual(spec, name):
    """InternLM 2's and EXAONE 3's converters read other names, of the same parts."""
    if spec.arch_name == "internlm2":
        for ours, theirs in [
            ("self_attn.q_proj", "attention.wq"), ("self_attn.k_proj", "attention.wk"),
            ("self_attn.v_proj", "attention.wv"), ("self_attn.o_proj", "attention.wo"),
        ]:
            name = name.replace(ours, theirs)
    return name


def write_gguf(spec, config, tensors, path, blocks={}):
    """`blocks`: what stands in the place of some tensors, in ggml's MXFP4."""
    writer = gguf.GGUFWriter(path, spec.arch_name)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if head_dim * heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    rope = getattr(config, "rope_parameters", None) or {}
    shares = [getattr(config, name, None) for name in ["partial_rotary_factor", "rotary_pct"]]
    share = next(filter(None, [*shares, rope.get("partial_rotary_factor")]), 1.0)
    writer.add_rope_dimension_count(int(share * head_dim))
    theta = getattr(config, "rope_theta", None) or getattr(config, "rotary_emb_base", None)
    if theta is None:
        rope = config.rope_parameters
        theta = rope.get("full_attention", rope)["rope_theta"]
    writer.add_rope_freq_base(theta)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        names = ["layer_norm_eps", "norm_epsilon", "norm_eps"]
        # OLMo 1's is a constant.
        found = [getattr(config, name) for name in names if hasattr(config, name)]
        writer.add_layer_norm_eps(found[0] if found else 1e-5)
    spec.keys(writer, config)
    names, others = (
        gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        for arch in [spec.arch, gguf.MODEL_ARCH.LLAMA]
    )
    curves = [name for name in tensors if ".act_fn." in name]
    for kind in ["alpha_n", "alpha_p", "beta", "eps"] if curves else []:
        numbers = [tensors[name].item() for name in sorted(curves) if name.endswith(kind)]
        getattr(writer, f"add_xielu_{kind}")(numbers)
    tensors = stacked(tensors, heads, kv_heads)
    tensors = split_gpt_oss(tensors) if spec.arch_name == "gpt-oss" else merge_experts(tensors)
    for name, tensor in tensors.items():
        if name in curves:
            continue
        data = tensor.float().numpy()
        if spec.permute and ".q_proj." in name:
            data = permute(data, heads)
        if spec.permute and ".k_proj." in name:
            data = permute(data, kv_heads)
        if ".query_key_value." in name:
            data = data.reshape(heads, 3, head_dim, *data.shape[1:]).swapaxes(0, 1)
            data = data.reshape(-1, *data.shape[3:])
        if name.endswith("norm.weight"):
            data = data + np.float32(spec.norm_offset)
        whole, name, endings = name, usual(spec, name), (".weight", ".bias")
        # llama.cpp knows no dense layers among the sparse ones of some.
        target = names.get_name(name, endings) or others.get_name(name, endings)
        assert target, name
        if whole in blocks:
            four = gguf.GGMLQuantizationType.MXFP4
            assert (gguf.quants.dequantize(blocks[whole], four) == data).all()
            writer.add_tensor(target, blocks[whole], raw_dtype=four)
        else:
            writer.add_tensor(target, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Shim:
    """torch with another matmul."""

    def __init__(self, matmul):
        self.matmul = matmul

    def __getattr__(self, name):
        return getattr(torch, name)


class SelfExtend:
    """Attention whose scores use SelfExtend's relative positions, as a context manager.

    Layers rotate queries and keys through their module's `apply_rotary_pos_emb`; here that only
    notes the angles, and the attention function rotates each query by each relative position.
    """

    def __init__(self, model, neighbours=NEIGHBOURS):
        self.model, self.neighbours, self.angles = model, neighbours, None
        layers = [m for m in model.modules() if type(m).__name__.endswith("Attention")]
        assert len(layers) == model.config.num_hidden_layers
        self.modules = {sys.modules[type(m).__module__] for m in layers}
        # Layers that multiply queries and keys themselves.
        self.own = not hasattr(layers[0], "scaling")
        # Norms of queries and keys after their rotation: their weights come after it here too.
        self.late = hasattr(layers[0], "query_layernorm")
        self.norms = []
        for layer in layers if self.late else []:
            weights = [layer.query_layernorm.weight, layer.key_layernorm.weight]
            self.norms.append((layer, weights))

    def __enter__(self):
        self.theirs = {module: module.apply_rotary_pos_emb for module in self.modules}
        self.rotate = {module: self.of_pairs(rotate) for module, rotate in self.theirs.items()}
        for module in self.modules:
            single = "tensor" in inspect.signature(self.theirs[module]).parameters
            module.apply_rotary_pos_emb = self.note_single if single else self.note
            if self.own:
                module.torch = Shim(lambda q, k, module=module: self.own_scores(module, q, k))
        transformers.AttentionInterface.register("selfextend", self.attention)
        transformers.AttentionMaskInterface.register(
            "selfextend", transformers.masking_utils.eager_mask
        )
        self.model.config._attn_implementation = "selfextend"
        for layer, weights in self.norms:
            layer.query_layernorm.weight, layer.key_layernorm.weight = [
                torch.nn.Parameter(torch.ones_like(w)) for w in weights
            ]
            layer.late = [w.data for w in weights]

    def __exit__(self, *_):
        for module, rotate in self.theirs.items():
            module.apply_rotary_pos_emb, module.torch = rotate, torch
        self.model.config._attn_implementation = "eager"
        for layer, (query, key) in self.norms:
            layer.query_layernorm.weight, layer.key_layernorm.weight = query, key

    def note(self, q, k, cos, sin, *_):
        # Phi-3.5-MoE's are those of all positions, without sequences.
        self.angles = [x[None] if x.dim() == 2 else x for x in (cos, sin)]
        return q, k

    @staticmethod
    def of_pairs(rotate):
        """GPT-J's function turns one tensor by half as many angles, given the other way round;
        Phi-3.5-MoE's takes positions, which index the angles."""
        parameters = inspect.signature(rotate).parameters
        positions = parameters.get("position_ids")
        if positions is not None and positions.default is inspect.Parameter.empty:
            def of_first(q, k, cos, sin):
                first = torch.zeros(1, q.shape[-2], dtype=torch.long)
                return rotate(q, k, cos[0], sin[0], first)

            return of_first
        if "tensor" not in parameters:
            return rotate

        def both(q, k, cos, sin):
            return [rotate(x, sin[..., ::2], cos[..., ::2]) for x in (q, k)]

        return both

    def note_single(self, tensor, sin, cos):
        self.angles = [x.repeat_interleave(2, dim=-1) for x in (cos, sin)]
        return tensor

    def attention(self, layer, q, k, v, mask, scaling, softcap=None, **_):
        n = q.shape[2]
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
        if self.angles is None:
            scores = q @ k.transpose(2, 3)
        else:
            window = getattr(layer, "sliding_window", None)
            module = sys.modules[type(layer).__module__]
            if self.late:
                scores = self.absolute_scores(module, q, k, *layer.late)
            else:
                scores = self.scores(module, q, k, window)
        scores = scores * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + mask[:, :, :, :n]
        if getattr(layer, "sinks", None) is not None:
            # A score of each head without a value.
            sinks = layer.sinks.reshape(1, -1, 1, 1).expand(1, -1, n, 1)
            weights = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :n]
        else:
            weights = torch.softmax(scores, dim=-1)
        self.angles = None
        return (weights @ v).transpose(1, 2).contiguous(), weights

    def own_scores(self, module, q, k):
        """The first product after the angles were noted is that of queries and keys."""
        if self.angles is None:
            return torch.matmul(q, k)
        scores = self.scores(module, q, k.transpose(2, 3), None)
        self.angles = None
        return scores

    def absolute_scores(self, module, q, k, query_weights, key_weights):
        """Where weights come after the rotation, scores depend on the positions themselves: those of
        the authors' code, for queries `i // G + W - W // G` and for keys `j // G` (section 3.2)."""
        (cos, sin), n = self.angles, q.shape[2]

        def turned(x, positions, weights):
            angles = cos[:, positions], sin[:, positions]
            return self.rotate[module](x, x, *angles)[0] * weights

        every = torch.arange(n)
        near = turned(q, every, query_weights) @ turned(k, every, key_weights).transpose(2, 3)
        shift = self.neighbours - self.neighbours // GROUP
        grouped_q = turned(q, (every // GROUP + shift).clamp(max=n - 1), query_weights)
        grouped = grouped_q @ turned(k, every // GROUP, key_weights).transpose(2, 3)
        return torch.where(every[:, None] - every[None] < self.neighbours, near, grouped)

    def scores(self, module, q, k, window):
        (cos, sin), n = self.angles, q.shape[2]
        rotate, turned = self.rotate[module], cos.shape[-1]
        if module.__name__.endswith("gpt_oss"):
            # It turns whole heads by angles of half as many pairs.
            turned = q.shape[-1]

        def at(x, position):
            angles = cos[:, position : position + 1], sin[:, position : position + 1]
            head = rotate(x[..., :turned], x[..., :turned], *angles)[0]
            return torch.cat([head, x[..., turned:]], dim=-1)

        every = torch.stack([at(q, r)[0] @ at(k, 0)[0].transpose(1, 2) for r in range(n)])
        i, j = torch.arange(n)[:, None], torch.arange(n)[None]
        relative = (i - j).clamp(min=0)
        # Local layers stay local: plain positions.
        if window is None:
            shift = self.neighbours - self.neighbours // GROUP
            grouped = i // GROUP - j // GROUP + shift
            relative = torch.where(i - j < self.neighbours, relative, grouped.clamp(0, n - 1))
        index = relative.expand(1, every.shape[1], n, n)
        return every.gather(0, index)


def references(model, config, unmoved=False):
    """Logits of fixed tokens; those of longrope's short factors beside them."""
    ids = torch.tensor([(i * i * 7 + i // 3 + 5) % VOCAB for i in range(TOKENS)])
    out = {"ids": ids}
    with torch.no_grad():
        out["logits"] = model(ids[None]).logits[0].contiguous()
        short = getattr(config, "original_max_position_embeddings", None)
        if short and short < TOKENS:
            out["short_logits"] = model(ids[None, :short]).logits[0].contiguous()
        # With all keys among the neighbours, SelfExtend is plain attention.
        with SelfExtend(model, TOKENS):
            same = model(ids[None]).logits[0]
            assert (same - out["logits"]).abs().max() < 5e-5, "our own attention is not theirs"
        # SelfExtend switches off a window that every layer has.
        kinds = getattr(config, "layer_types", None)
        if not kinds or "full_attention" not in kinds:
            for part in [config, *model.modules()]:
                if getattr(part, "sliding_window", None) is not None:
                    part.sliding_window = None
        with SelfExtend(model):
            out["selfextend_logits"] = model(ids[None]).logits[0].contiguous()
        changed = (out["selfextend_logits"] - out["logits"]).abs().max()
        if unmoved:
            assert changed < 1e-4, "a layer that sees far has positions"
        else:
            assert changed > 1e-2, "SelfExtend changed nothing"
    return out


def make(name, spec):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    config = getattr(transformers, spec.config)(**spec.options)
    # StableLM's own initialisation fails with norms of queries and keys.
    skipped = contextlib.nullcontext if FIVE else transformers.modeling_utils.no_init_weights
    with skipped():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.float().eval()
    randomise(model, spec.norm_offset)
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(folder / "model.safetensors")
    if spec.arch:
        write_gguf(spec, config, tensors, folder / "model.gguf")
    if not spec.folder:
        (folder / "config.json").unlink()
        (folder / "model.safetensors").unlink()
    logits = references(model, config, spec.unmoved)
    save_file(logits, folder / "reference.safetensors")
    sizes = [f.stat().st_size for f in folder.iterdir()]
    assert max(sizes) < 200_000, (name, sizes)
    print(f"{name}: {sum(sizes)} bytes, logits up to {logits['logits'].abs().max():.2f}")


def ggml_blocks(codes, scales):
    """Neighbours share a byte in safetensors, a number and that 16 later in ggml's blocks."""
    each = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)
    blocks = each[..., :16] | each[..., 16:] << 4
    return torch.cat([scales[..., None], blocks], dim=-1).flatten(-2).numpy()


def make_four_bits():
    """gpt-oss with experts in MXFP4: random codes, which `transformers` widens for the logits."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    folder, spec = ROOT / "gpt-oss-mxfp4", FAMILIES["gpt-oss"]
    shutil.rmtree(folder, ignore_errors=True)
    config = transformers.GptOssConfig(**spec.options)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.float().eval()
    randomise(model, 0.0)
    generator, packed, blocks = torch.Generator().manual_seed(8), {}, {}
    for n, layer in enumerate(model.model.layers):
        for part in ["gate_up_proj", "down_proj"]:
            weights = getattr(layer.mlp.experts, part)
            experts, inputs, outputs = weights.shape
            shape = (experts, outputs, inputs // 32)
            codes = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
            scales = torch.randint(122, 126, shape, dtype=torch.uint8, generator=generator)
            weights.data = convert_moe_packed_tensors(codes, scales, dtype=torch.float32)
            assert weights.shape == (experts, inputs, outputs)
            name = f"model.layers.{n}.mlp.experts"
            packed[f"{name}.{part}"] = codes, scales
            if part == "down_proj":
                blocks[f"{name}.down_proj.weight"] = ggml_blocks(codes, scales)
            else:
                for half, gate in enumerate(["gate", "up"]):
                    some = codes[:, half::2], scales[:, half::2]
                    blocks[f"{name}.{gate}_proj.weight"] = ggml_blocks(*some)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(folder / "model.safetensors")
    write_gguf(spec, config, tensors, folder / "model.gguf", blocks)
    for name, (codes, scales) in packed.items():
        del tensors[name]
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = codes, scales
    save_file(tensors, folder / "model.safetensors")
    path = folder / "config.json"
    method = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    config_json = json.loads(path.read_text()) | {"quantization_config": method}
    path.write_text(json.dumps(config_json, indent=2))
    save_file(references(model, config), folder / "reference.safetensors")
    print(folder.name)


def make_eight_bits():
    """Matrices in floats of 8 bits with a scale for each block, as DeepSeek and Qwen publish them; the
    logits are those of the numbers that DeepSeek's conversion makes of them, in bf16."""
    folder, source = ROOT / "llama-fp8", ROOT / "llama"
    tensors = load_file(source / "model.safetensors")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    size = [16, 8]
    method = {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": size,
    }
    model = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager")
    written, widened = {}, {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            written[name] = widened[name] = tensor
            continue
        scales = torch.zeros([-(-n // block) for n, block in zip(tensor.shape, size)])
        for row, column in np.ndindex(*scales.shape):
            place = [slice(at * n, (at + 1) * n) for at, n in zip((row, column), size)]
            scales[row, column] = tensor[tuple(place)].abs().max() / 448
        each = scales.repeat_interleave(size[0], 0).repeat_interleave(size[1], 1)
        each = each[: tensor.shape[0], : tensor.shape[1]]
        written[name] = (tensor / each).to(torch.float8_e4m3fn)
        written[f"{name}_scale_inv"] = scales
        widened[name] = (written[name].float() * each).to(torch.bfloat16).float()
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": method}, indent=2))
    save_file(written, folder / "model.safetensors")
    model.load_state_dict(widened, strict=False)
    model = model.float().eval()
    save_file(references(model, model.config), folder / "reference.safetensors")
    print(folder.name)


def make_merged(name):
    """Experts in one tensor, as version 5 holds them and writes them where it is asked to."""
    folder = ROOT / f"{name}-merged"
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        ROOT / name, attn_implementation="eager", dtype=torch.float32
    )
    model = model.eval()
    model.save_pretrained(folder, save_original_format=False)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(folder / "model.safetensors")
    assert any(name.endswith("experts.gate_up_proj") for name in tensors), list(tensors)
    save_file(references(model, model.config), folder / "reference.safetensors")
    print(folder.name)


def make_storage_variants():
    """One model in half precision, and one in two files."""
    source, tensors = ROOT / "llama", load_file(ROOT / "llama" / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    model_class = transformers.AutoModelForCausalLM
    for dtype in [torch.float16, torch.bfloat16]:
        name = str(dtype).removeprefix("torch.")
        folder = ROOT / f"llama-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        halves = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        (folder / "config.json").write_text(json.dumps(config | {"dtype": name}, indent=2))
        if dtype == torch.float16:
            save_file(halves, folder / "model.safetensors")
        else:
            shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
            files = list(shards)
            index = {key: files[n % 2] for n, key in enumerate(halves)}
            for key, file in index.items():
                shards[file][key] = halves[key]
            for file, part in shards.items():
                save_file(part, folder / file)
            (folder / "model.safetensors.index.json").write_text(
                json.dumps({"metadata": {}, "weight_map": index}, indent=2)
            )
        model = model_class.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
        spec = FAMILIES["llama"]
        write_gguf_as(spec, model.config, halves, folder / "model.gguf", dtype)
        save_file(references(model.float(), model.config), folder / "reference.safetensors")
        print(folder.name)


def write_gguf_as(spec, config, tensors, path, dtype):
    """Matrices in half precision, vectors in single, as llama.cpp's converter writes them."""
    wanted = gguf.GGMLQuantizationType.F16 if dtype == torch.float16 else gguf.GGMLQuantizationType.BF16
    add = gguf.GGUFWriter.add_tensor

    def add_half(self, name, tensor):
        if tensor.ndim == 1:
            add(self, name, tensor)
        else:
            add(self, name, gguf.quants.quantize(tensor, wanted), raw_dtype=wanted)

    gguf.GGUFWriter.add_tensor = add_half
    try:
        write_gguf(spec, config, tensors, path)
    finally:
        gguf.GGUFWriter.add_tensor = add


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["gpt-oss-mxfp4"]:
        sys.exit(make_four_bits())
    if sys.argv[1:] == ["llama-fp8"]:
        sys.exit(make_eight_bits())
    if sys.argv[1:] and sys.argv[1].endswith("-merged"):
        sys.exit(make_merged(sys.argv[1].removesuffix("-merged")))
    wanted = sys.argv[1:] or [name for name, spec in FAMILIES.items() if spec.five == FIVE]
    for name in wanted:
        make(name, FAMILIES[name])
    if not sys.argv[1:] and FIVE:
        make_merged("mixtral")
        make_merged("qwen2-moe")
    if not sys.argv[1:] and not FIVE:
        make_storage_variants()
        make_four_bits()
        make_eight_bits()
