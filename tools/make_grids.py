"""Writes crates/selfextend/src/tensor/grids.rs: the lattices of ggml's IQ1, IQ2 and IQ3 formats.

    python3 tools/make_grids.py          (needs gguf and numpy of tools/requirements.txt)

The points are those of the `gguf` package (ggml project, MIT), which packs them as hex digits; here
they are packed the same way. Signs of IQ2_XXS, IQ2_XS and IQ3_XXS are seven bits and their parity,
which this script checks against the package's table.
"""
from pathlib import Path

import numpy as np
from gguf import quants

OUT = Path(__file__).parent.parent / "crates/selfextend/src/tensor/grids.rs"
NAMES = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]
HEADER = '''//! Points of the lattices of ggml's IQ formats. Written by tools/make_grids.py: do not edit.
//!
//! Origin: `iq2xxs_grid`, `iq2xs_grid`, `iq2s_grid`, `iq3xxs_grid`, `iq3s_grid` and `iq1s_grid` of
//! ggml's `ggml-common.h`, as the `gguf` package has them (ggml project, MIT).

/// Points from hex digits: `values[code]` of codes that fill bytes from their lowest bits.
const fn unpack<const L: usize, const N: usize>(digits: &[u8], values: &[i8]) -> [[i8; L]; N] {
    let bits = if values.len() <= 4 { 2 } else { 4 };
    let (mut points, mut n) = ([[0; L]; N], 0);
    while n < L * N {
        let at = n * bits / 8 * 2;
        let byte = digit(digits[at]) << 4 | digit(digits[at + 1]);
        let code = byte >> (n * bits % 8) & ((1 << bits) - 1);
        points[n / L][n % L] = values[code as usize];
        n += 1;
    }
    points
}

const fn digit(digit: u8) -> u8 {
    if digit <= b'9' {
        digit - b'0'
    } else {
        digit - b'a' + 10
    }
}
'''


def table(name):
    kind = getattr(quants, name)
    kind.init_grid()
    points, length = kind.grid_shape
    values = [int(value) for value in kind.grid_map]
    codes = np.searchsorted(values, kind.grid.reshape(points, length).astype(int))
    bits = 2 if len(values) <= 4 else 4
    codes = codes.reshape(-1, 8 // bits).astype(np.uint8)
    packed = (codes << (bits * np.arange(8 // bits)).astype(np.uint8)).sum(axis=1, dtype=np.uint8)
    digits = packed.tobytes().hex()
    assert digits == kind.grid_hex.decode(), name
    lines = " \\\n      ".join(digits[at : at + 88] for at in range(0, len(digits), 88))
    lines = lines.replace(" \\", "\\")
    return f'''
/// {points} points.
pub(super) static {name}: [[i8; {length}]; {points}] = unpack(
    b"{lines}",
    &{values},
);
'''


if __name__ == "__main__":
    parity = bytes(n | (n.bit_count() & 1) << 7 for n in range(128))
    assert quants.IQ2_XXS.ksigns == parity
    OUT.write_text(HEADER + "".join(table(name) for name in NAMES))
