#!/usr/bin/env python3
"""Writes a GGUF file of OLMoE-1B-7B's shape with random weights, to measure speed without a download.

    target/checkpoints/bin/python tools/make_random_gguf.py Q4_K olmoe-q4_k.gguf      (3.9 GB)
    target/checkpoints/bin/python tools/make_random_gguf.py IQ4_XS olmoe-iq4_xs.gguf  (3.7 GB)

Blocks are random bytes; their scales are such that activations stay of order one. The router and the
norms are floats, as llama.cpp's quantiser leaves them. The tokenizer is one of single bytes.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np

HIDDEN, HEADS, VOCAB, WINDOW = 2048, 16, 50304, 4096
EXPERTS, USED, WIDTH = 64, 8, 1024
# How much larger weights are than the scales of their block, given random bytes: measured.
FORMATS = {"Q4_K": 240.0, "IQ4_XS": 1200.0}


def blocks(kind, rows, columns, rng):
    """Rows of random blocks whose weights have a deviation of about 1 / sqrt(columns)."""
    len_, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    count = rows * columns // len_
    out = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scale = np.float32(1 / (FORMATS[kind] * np.sqrt(columns)))
    scales = [scale, 7.5 * scale] if kind == "Q4_K" else [scale]
    out[:, : 2 * len(scales)] = np.array(scales, dtype=np.float16).view(np.uint8)
    return out.reshape(rows, -1)


def tensors(layers):
    """Name and shape of every tensor."""
    yield "token_embd", (VOCAB, HIDDEN)
    for n in range(layers):
        for norm in ["attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm"]:
            yield f"blk.{n}.{norm}", (HIDDEN,)
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            yield f"blk.{n}.{part}", (HIDDEN, HIDDEN)
        yield f"blk.{n}.ffn_gate_inp", (EXPERTS, HIDDEN)
        for part in ["ffn_gate_exps", "ffn_up_exps"]:
            yield f"blk.{n}.{part}", (EXPERTS, WIDTH, HIDDEN)
        yield f"blk.{n}.ffn_down_exps", (EXPERTS, HIDDEN, WIDTH)
    yield "output_norm", (HIDDEN,)
    yield "output", (VOCAB, HIDDEN)


def header(writer, layers):
    writer.add_name("random weights of OLMoE-1B-7B's shape")
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    # GPT-2's spelling of bytes: those that are printed stand for themselves.
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    spelled = [chr(byte) for byte in printed] + [chr(256 + n) for n in range(len(others))]
    tokens = spelled + ["ab"] + [f"<unused {n}>" for n in range(VOCAB - len(spelled) - 1)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(spelled) + 1) + [3] * (VOCAB - len(spelled) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(VOCAB - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--layers", type=int, default=16)
    args = parser.parse_args()
    kind = gguf.GGMLQuantizationType[args.format]
    writer = gguf.GGUFWriter(args.file, "olmoe")
    header(writer, args.layers)
    len_, size = gguf.GGML_QUANT_SIZES[kind]
    plain = lambda name: "norm" in name or name.endswith("ffn_gate_inp")
    for name, shape in tensors(args.layers):
        if plain(name):
            bytes_ = 4 * int(np.prod(shape))
            writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float32), bytes_)
        else:
            shape = (*shape[:-1], shape[-1] // len_ * size)
            bytes_ = int(np.prod(shape))
            writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.uint8), bytes_, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(7)
    # One tensor at a time: never more than one of them is in memory.
    for name, shape in tensors(args.layers):
        if "norm" in name:
            data = np.ones(shape, dtype=np.float32)
        elif plain(name):
            data = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(HIDDEN))
        else:
            data = blocks(args.format, int(np.prod(shape[:-1])), shape[-1], rng)
        writer.write_tensor_data(data)
    writer.close()
    print(f"{args.file}: {args.file.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
