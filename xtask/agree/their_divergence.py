"""How far our fast path and llama.cpp are from a computation in f32 for one GGUF file, by token ids: two mean KL in nats, and the
standard error of their difference.

Usage: their_divergence.py FILE.gguf EXACT.safetensors FAST.safetensors ID,ID,...
Needs the packages llama-cpp-python and numpy; LLAMA_CPP_LIB_PATH may name another build of the library.
"""
import sys

import numpy as np
from their_logits import ours, theirs


def logarithms(logits, rows):
    """Log probabilities, row by row."""
    table = np.asarray(logits, dtype=np.float64).reshape(rows, -1)
    table -= table.max(axis=1, keepdims=True)
    return table - np.log(np.exp(table).sum(axis=1, keepdims=True))


file, exact, fast, words = sys.argv[1:]
ids = [int(word) for word in words.split(",")]
right, mine, other = (logarithms(logits, len(ids)) for logits in (ours(exact), ours(fast), theirs(file, ids)))
mine, other = ((np.exp(right) * (right - approximate)).sum(axis=1) for approximate in (mine, other))
print(mine.mean(), other.mean(), (mine - other).std() / len(ids) ** 0.5)
