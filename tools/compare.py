"""Top-1 agreement and Kullback-Leibler divergence of two files of logits: see compare.sh."""

import json
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
tokens = len(json.loads((folder / "ids.json").read_text()))


def log_probabilities(name):
    logits = np.fromfile(folder / name, dtype=np.float32).reshape(tokens, -1).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


theirs = log_probabilities("theirs.f32")
for name in ["ours.f32", "exact.f32"]:
    if (folder / name).exists():
        ours = log_probabilities(name)
        agree = (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()
        divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
        print(
            f"{name}: {tokens} tokens, top-1 agreement {agree:.2%}, "
            f"mean KL {divergence.mean():.6f}, largest {divergence.max():.4f}"
        )
