"""Writes random blocks of every tensor format and the numbers that the `gguf` package reads from them.

    python3 tools/make_blocks.py          (needs gguf and numpy of tools/requirements.txt)

One file a format in crates/selfextend/tests/blocks: the blocks, then their numbers as little-endian
f32. Scales of the first three quarters of the blocks are those of usual weights (2^-9 to 2^-5), of
the rest anything down to subnormal numbers and zero. `tensor/tests.rs` and the CUDA crate's tests
read them.
"""
from pathlib import Path

import gguf
import numpy as np

FOLDER = Path(__file__).parent.parent / "crates/selfextend/tests/blocks"
# Where ggml-common.h has a block's half floats: the scale, then the minimum's scale if there is one.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "NVFP4": [], "TQ1_0": [52], "TQ2_0": [64],
    "IQ3_S": [0], "IQ3_XXS": [0], "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0], "IQ1_S": [0], "IQ1_M": [],
}  # fmt: skip


def half_floats(rng, count):
    """Scales as bytes, one row each."""
    usual = np.arange(count) < count * 3 // 4
    powers = np.where(usual, rng.uniform(-9, -5, count), rng.uniform(-25, -2, count))
    signs = np.where(rng.random(count) < 0.25, -1.0, 1.0)
    numbers = (signs * np.exp2(powers)).astype("<f2")
    numbers[-1] = 0
    return numbers.view(np.uint8).reshape(count, 2)


def put_other_scales(name, rng, blocks):
    """Scales that are no half floats in one place."""
    count = len(blocks)
    if name == "MXFP4":
        # Exponents of usual weights, then any that keep the numbers finite, down to the lowest.
        usual = np.arange(count) < count * 3 // 4
        blocks[:, 0] = np.where(usual, rng.integers(116, 126, count), rng.integers(0, 250, count))
        blocks[-3:, 0] = [0, 1, 2]
    if name == "NVFP4":
        # All bytes are scales; these are zero, not a number (read as zero), the lowest, the highest.
        blocks[-2:, :4] = [[0, 0x7F, 1, 0x7E], [0x80, 0xFF, 8, 7]]
    if name == "IQ1_M":
        # Four bits of the half float are the upper bits of each of four words.
        halves = half_floats(rng, count).view("<u2")[:, 0]
        words = blocks[:, 48:].view("<u2")
        for n in range(4):
            words[:, n] = words[:, n] & 0x0FFF | (halves >> (4 * n) & 15) << 12


def blocks(name, rng):
    size, length = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    if name in HALVES:
        count = 32 if size <= 64 else 8
        random = rng.integers(0, 256, (count, length), dtype=np.uint8)
        for at in HALVES[name]:
            random[:, at : at + 2] = half_floats(rng, count)
        put_other_scales(name, rng, random)
        return random
    numbers = rng.normal(0, 1, 256) * np.exp2(rng.uniform(-20, 3, 256))
    if name == "BF16":
        return (numbers.astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)
    return numbers.astype({"F32": "<f4", "F16": "<f2"}[name]).view(np.uint8)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for number, name in enumerate(["F32", "F16", "BF16", *HALVES]):
        data = blocks(name, np.random.default_rng(number))
        floats = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
        floats = np.ascontiguousarray(floats, dtype="<f4")
        assert np.isfinite(floats).all()
        (FOLDER / f"{name}.bin").write_bytes(data.tobytes() + floats.tobytes())
