#!/usr/bin/env python3
"""Draws random configurations of every family, option by option, and writes what `transformers`
computes for them.

The weights follow from the names of the tensors (`weights`; tests/configs.rs has the same rule), so
a case is a config.json as text, the shapes of its tensors, and some rows of logits (float64, eager
attention, CPU). Options are present, absent or null, in the spelling of the library that computes the
logits. Configurations that this library refuses are left out.

    python3 -m venv target/checkpoints
    target/checkpoints/bin/pip install -r tools/requirements.txt
    target/checkpoints/bin/python tools/make_configs.py 3 > four.jsonl   # cases for each family

The same with transformers 5 gives the cases of that version. Nothing here is derived from our own
code.
"""

import json
import random
import sys
import warnings

import numpy as np
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCAB, TOKENS, WINDOW, HEADS = 61, 72, 96, 4
ROWS = [40, TOKENS - 1]
IDS = [(n * 7919 + 13) % VOCAB for n in range(TOKENS)]
FIVE = int(transformers.__version__.split(".")[0]) >= 5
FAMILIES = (
    "llama mistral smollm3 qwen2 qwen3 phi phi3 gemma gemma2 gemma3_text stablelm olmo2 gpt_neox"
).split()
# Models with a text part of one of these families; the first is what their own class takes.
NESTING = {
    "gemma3": ["gemma3_text"],
    "mistral3": ["mistral"],
    "llava": ["llama", "mistral", "qwen2", "qwen3"],
}
VISION = {"gemma3": "siglip_vision_model", "mistral3": "pixtral", "llava": "clip_vision_model"}
# The names that both versions write, and those that 4.52 wrote.
WRITTEN = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
PARTIAL = {"phi", "phi3", "stablelm", "gpt_neox"}


def weights(name, shape):
    """Numbers that follow from a tensor's name: FNV-1a for the name, a mix of bits for each number."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    # Multiples of 2^-24 from -1/4 to 1/4: exact in float32.
    number = (x >> np.uint64(41)).astype(np.float64) / 2**24 - 0.25
    return number.astype(np.float32).reshape(shape)


class Draw:
    def __init__(self, family, number):
        self.family, self.random = family, random.Random(f"{family} {number} {FIVE}")
        self.config = {"model_type": family, "vocab_size": VOCAB, "max_position_embeddings": WINDOW}

    def one(self, *values):
        return self.random.choice(values)

    def set(self, key, *values):
        """One of the values, or nothing for `...`."""
        value = self.one(*values)
        if value is not ...:
            self.config[key] = value

    def sizes(self):
        layers = self.one(2, 3)
        self.config |= {
            "hidden_size": self.one(24, 32),
            "intermediate_size": 29,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "pad_token_id": 0,
        }
        if self.family != "gpt_neox":
            self.config["num_key_value_heads"] = self.one(1, 2, 4)
            self.set("head_dim", ..., 8, 12, 16)
        self.config["hidden_act"] = "silu"
        if self.family in {"gemma2", "gemma3_text"}:
            del self.config["hidden_act"]
            self.set("hidden_activation", ..., "gelu_pytorch_tanh", "gelu", "silu")
            self.set("hidden_act", ..., "silu")
        else:
            # Version 5 takes "gelu" in a Gemma config for the approximation that its models were
            # trained with; 4 does not.
            exact = ["gelu"] if FIVE or self.family != "gemma" else []
            self.set("hidden_act", "silu", "gelu_new", "gelu_pytorch_tanh", *exact)
        for key in ["rms_norm_eps", "layer_norm_eps"]:
            self.set(key, ..., 1e-3, 1e-6)
        return layers

    def scaling(self):
        factor = self.one(1.5, 2.0, 4, 8.0)
        kind = self.one("default", "linear", "dynamic", "yarn", "yarn", "llama3", "longrope")
        if self.family == "phi3":
            kind = "longrope"
        own = {}
        if kind in {"linear", "dynamic"}:
            own = {"factor": factor}
        elif kind == "yarn":
            own = {"factor": factor}
            for key, values in {
                "original_max_position_embeddings": (..., 24, 48, WINDOW),
                "attention_factor": (..., ..., 0.7),
                "beta_fast": (..., 8.0, 32),
                "beta_slow": (..., 1.0, 2),
                "mscale": (..., ..., 0.7),
                "mscale_all_dim": (..., 1.0),
                "truncate": (..., True, False),
            }.items():
                value = self.one(*values)
                if value is not ...:
                    own[key] = value
        elif kind == "llama3":
            own = {
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": self.one(24, 48),
            }
        elif kind == "longrope":
            own = {"short_factor": "short", "long_factor": "long"}
            if self.family == "phi3":
                self.set("original_max_position_embeddings", 24, 80)
            else:
                self.config["original_max_position_embeddings"] = self.one(24, 80)
        names = self.one(["rope_type"], ["rope_type"], ["type"], ["type", "rope_type"])
        if self.family == "phi3" and not FIVE:
            names = ["type"]
        if self.family == "gemma3_text" and FIVE:
            # Version 5 overlooks the old name here; 4 reads it.
            names = ["rope_type"]
        return {name: kind for name in names} | own

    def rope(self):
        share = self.one(..., 0.5, 1.0, 0.25) if self.family in PARTIAL else ...
        theta = self.one(..., 10000.0, 500.0, 100)
        scaling = self.one(None, self.scaling())
        if FIVE and self.one(True, True, False):
            own = dict(scaling or {"rope_type": "default"})
            inside = self.one(True, False)
            if theta is not ...:
                (own if inside else self.config)["rope_theta"] = theta
            if share is not ...:
                (own if inside else self.config)["partial_rotary_factor"] = share
            if self.family == "gemma3_text":
                # Version 5 overlooks it where rope_parameters has kinds of layers.
                own.pop("truncate", None)
                local = {"rope_type": "default"} | ({"rope_theta": 77.0} if inside else {})
                own = {"full_attention": own, "sliding_attention": local}
            self.config["rope_parameters"] = own
            return
        self.set("rope_scaling", ..., None, *([{}] if FIVE else []))
        if scaling is not None:
            self.config["rope_scaling"] = scaling
        if theta is not ...:
            self.config[self.one("rope_theta", "rotary_emb_base")
                        if self.family == "gpt_neox" else "rope_theta"] = theta
        if share is not ...:
            self.config[self.one("partial_rotary_factor", "rotary_pct")
                        if self.family == "gpt_neox" else "partial_rotary_factor"] = share
        if self.family == "gemma3_text":
            self.set("rope_local_base_freq", ..., 77.0)

    def options(self, layers):
        kinds = ["sliding_attention", "full_attention"]
        listed = [self.one(*kinds) for _ in range(layers)]
        for key, values in {
            # Options of some families; the others ignore them.
            "sliding_window": (..., None, 9, 17),
            "use_sliding_window": (..., True, False),
            "max_window_layers": (..., 0, 1, 2),
            "layer_types": (..., ..., None, listed),
            "sliding_window_pattern": (..., 2, 3),
            "no_rope_layers": (..., [self.one(0, 1) for _ in range(layers)]),
            "no_rope_layer_interval": (..., 2),
            "attention_bias": (..., True, False),
            "mlp_bias": (..., True, False),
            "use_qkv_bias": (..., True, False),
            "use_parallel_residual": (..., True, False),
            "tie_word_embeddings": (..., True, False),
            "query_pre_attn_scalar": (..., 7, 20),
            "attn_logit_softcapping": (..., None, 1.5),
            "final_logit_softcapping": (..., None, 1.5),
            "qk_layernorm": (..., False),
            "pretraining_tp": (..., 1),
            "attention_dropout": (..., 0.0),
        }.items():
            self.set(key, *values)

    def draw(self):
        layers = self.sizes()
        self.rope()
        self.options(layers)
        return self.config


def nest(family, number, text):
    """A config.json with a text part."""
    one = random.Random(f"{family} {number} {FIVE} outside").choice
    if text["model_type"] == NESTING[family][0] and one([True, False]):
        del text["model_type"]
    config = {"model_type": family, "text_config": text}
    config["vision_config"] = {
        "model_type": VISION[family],
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    } | ({"projection_dim": 8} if family == "llava" else {})
    if family == "gemma3":
        config["mm_tokens_per_image"] = 4
    if FIVE:
        # 4 reads it in the text part, 5 outside.
        tied = text.get("tie_word_embeddings")
        if tied is None:
            text.pop("tie_word_embeddings", None)
        else:
            config["tie_word_embeddings"] = tied
    for key, values in {
        "image_token_index": (..., 60),
        "vocab_size": (..., 77),
        "rope_theta": (..., 3.0),
        "hidden_size": (..., 8),
        "transformers_version": (..., transformers.__version__),
    }.items():
        value = one(values)
        if value is not ...:
            config[key] = value
    return config


def written(family, number, name):
    """What a file calls a tensor."""
    if family == "gpt_neox":
        # Version 5 has its own name for the head of GPT-NeoX in memory, not in files.
        return name.replace("lm_head.", "embed_out.")
    if family in NESTING and number % 3:
        for own, new in WRITTEN.items():
            if name.startswith(own):
                return new + name.removeprefix(own)
    return name


def lists(value, pairs):
    """Puts lists of the right length where longrope needs them."""
    if isinstance(value, dict):
        return {key: lists(item, pairs) for key, item in value.items()}
    if value in ("short", "long"):
        return [1.0 + n * (0.07 if value == "short" else 0.9) for n in range(pairs)]
    return value


def rotary_size(config):
    """How many components of a head are rotated."""
    share = 1.0
    for key in ["rotary_pct", "partial_rotary_factor"]:
        share = config.get(key, share)
    family = {"phi": 0.5, "stablelm": 0.25, "gpt_neox": 0.25}
    nested = config.get("rope_parameters") or {}
    share = nested.get("partial_rotary_factor", share if share != 1.0 or "rotary_pct" in config
                       or "partial_rotary_factor" in config else family.get(config["model_type"], 1.0))
    usual = {"qwen3": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
    size = config.get("head_dim") or usual.get(config["model_type"])
    size = size or config["hidden_size"] // HEADS
    return int(size * share)


def case(family, number):
    texts = NESTING.get(family, [family])
    config = Draw(texts[number % len(texts)], number).draw()
    size = rotary_size(config)
    if size % 2:
        return None, "half a pair"
    config = lists(config, size // 2)
    if family in NESTING:
        config = nest(family, number, config)
    else:
        config["transformers_version"] = transformers.__version__
    text = json.dumps(config)
    try:
        parsed = CONFIG_MAPPING[family].from_dict(json.loads(text))
        parsed._attn_implementation = "eager"
        auto = transformers.AutoModelForCausalLM
        if family in NESTING:
            auto = transformers.AutoModelForImageTextToText
        model = auto.from_config(parsed, attn_implementation="eager")
        model = model.double().eval()
        state = model.state_dict()
        tied = parsed.tie_word_embeddings
        if family in NESTING and not FIVE:
            tied = parsed.text_config.tie_word_embeddings
        heads = {"lm_head.weight", "embed_out.weight"} if tied else set()
        own = {k: written(family, number, k) for k in state}
        shapes = {own[k]: list(v.shape) for k, v in state.items() if k not in heads}
        new = {
            k: torch.from_numpy(weights(own[k], v.shape)).double()
            for k, v in state.items()
            if k not in heads
        }
        model.load_state_dict(new, strict=False)
        if tied:
            model.tie_weights()
        with torch.no_grad():
            logits = model(torch.tensor([IDS])).logits[0]
    except Exception as error:  # The library refuses it.
        return None, f"{type(error).__name__}: {error}"
    if not torch.isfinite(logits).all():
        return None, "not finite"
    rows = [[float(f"{x:.7g}") for x in logits[row].tolist()] for row in ROWS]
    return {"config": text, "shapes": shapes, "logits": rows}, None


def main():
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    wanted = int(sys.argv[1])
    for family in sys.argv[2:] or [*FAMILIES, *NESTING]:
        done = number = 0
        refused = {}
        while done < wanted and number < 20 * wanted + 20:
            made, error = case(family, number)
            number += 1
            if made is None:
                refused[error[:90]] = refused.get(error[:90], 0) + 1
                continue
            done += 1
            print(json.dumps(made), flush=True)
        print(family, done, "of", number, refused, file=sys.stderr)


if __name__ == "__main__":
    main()
