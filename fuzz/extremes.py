"""Writes damaged GGUF files: copies of one file, each with one number of its header at an extreme.

    python3 extremes.py MODEL.gguf FOLDER

A fuzzer rarely finds these by itself, because most bytes of a file are weights.
"""
import struct
import sys
from pathlib import Path

STRING, ARRAY, U32, F32, U64, I64 = 8, 9, 4, 6, 10, 11
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
COUNTS = [0, 1, 2, 3, 7, 255, 65535, 1 << 20, 1 << 31, (1 << 32) - 1]
SIGNED = [-1, 0, 1 << 62, (1 << 63) - 1]
FLOATS = [0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38, -3e38]
LENGTHS = [0, 1, 31, 33, 64, 1 << 32, 1 << 61, (1 << 64) - 1]


def lies(data):
    read = lambda form, at: struct.unpack_from("<" + form, data, at)
    after_string = lambda at: at + 8 + read("Q", at)[0]
    tensors, pairs = read("QQ", 8)
    at = 24
    for version in [0, 1, 2, 4, 3 << 24]:
        yield data[:4] + struct.pack("<I", version) + data[8:]
    for length in LENGTHS:
        for count in [8, 16]:
            yield data[:count] + struct.pack("<Q", length) + data[count + 8 :]
    for _ in range(pairs):
        at = after_string(at)
        (kind,), value = read("I", at), at + 4
        for other in range(14):
            yield data[:at] + struct.pack("<I", other) + data[at + 4 :]
        if kind in (STRING, ARRAY):
            length = value if kind == STRING else value + 4
            for lie in LENGTHS:
                yield data[:length] + struct.pack("<Q", lie) + data[length + 8 :]
        if kind == STRING:
            at = after_string(value)
        elif kind == ARRAY:
            item, count = read("IQ", value)
            at = value + 12
            for _ in range(count):
                at = after_string(at) if item == STRING else at + SIZES[item]
        else:
            start, at = value - 4, value + SIZES[kind]
            new = []
            if kind == U32:
                new = [struct.pack("<II", U32, n) for n in COUNTS]
                new += [struct.pack("<Iq", I64, n) for n in SIGNED]
                new += [struct.pack("<IQ", U64, (1 << 64) - 1)]
            elif kind == F32:
                new = [struct.pack("<If", F32, x) for x in FLOATS]
            for lie in new:
                yield data[:start] + lie + data[at:]
    for _ in range(tensors):
        at = after_string(at)
        (dimensions,) = read("I", at)
        at += 4
        for _ in range(dimensions):
            for length in LENGTHS:
                yield data[:at] + struct.pack("<Q", length) + data[at + 8 :]
            at += 8
        for kind in range(43):
            yield data[:at] + struct.pack("<I", kind) + data[at + 4 :]
        for offset in [1, 32, 1 << 20, 1 << 63, (1 << 64) - 32]:
            yield data[: at + 4] + struct.pack("<Q", offset) + data[at + 12 :]
        at += 12
    for kind, zero in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (10, 8), (11, 8)]:
        pair = struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<I", kind) + bytes(zero)
        yield data[:16] + struct.pack("<Q", pairs + 1) + pair + data[24:]


if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, lie in enumerate(lies(source.read_bytes())):
        (folder / f"{source.parent.name}-{number}").write_bytes(lie)
