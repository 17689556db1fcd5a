"""Reads the finished file alone, runs it by plain formulas, and compares with expected.json.

    python verify.py ../starter.gguf ../expected.json

Shares no code with train.py: GGUF's names, its interleaved rotary embedding and its metadata are read as a stranger would.
"""

import json
import sys

import gguf
import numpy as np


def load(path):
    reader = gguf.GGUFReader(path)
    tensors = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape))).astype(np.float32)
        for t in reader.tensors
    }
    return tensors, {key: field.contents() for key, field in reader.fields.items()}


def norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def rotate(x, theta):
    # x: [rows, heads, head_dim]; neighbors form the pairs that are turned.
    rows, _, width = x.shape
    angle = np.arange(rows)[:, None] / theta ** (np.arange(0, width, 2) / width)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def logits(tensors, meta, ids):
    heads, kv_heads = meta["llama.attention.head_count"], meta["llama.attention.head_count_kv"]
    epsilon, theta = meta["llama.attention.layer_norm_rms_epsilon"], meta["llama.rope.freq_base"]
    x = tensors["token_embd.weight"][ids]
    rows = len(ids)
    hidden_keys = np.triu(np.full((rows, rows), -np.inf), 1)
    for layer in range(meta["llama.block_count"]):
        weight = lambda name: tensors[f"blk.{layer}.{name}.weight"]
        y = norm(x, weight("attn_norm"), epsilon)
        q = rotate((y @ weight("attn_q").T).reshape(rows, heads, -1), theta)
        k = rotate((y @ weight("attn_k").T).reshape(rows, kv_heads, -1), theta).repeat(heads // kv_heads, 1)
        v = (y @ weight("attn_v").T).reshape(rows, kv_heads, -1).repeat(heads // kv_heads, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]) + hidden_keys
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", scores, v).reshape(rows, -1) @ weight("attn_output").T
        y = norm(x, weight("ffn_norm"), epsilon)
        gate = y @ weight("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ weight("ffn_up").T)) @ weight("ffn_down").T
    return norm(x[-1], tensors["output_norm.weight"], epsilon) @ tensors["token_embd.weight"].T


def main():
    tensors, meta = load(sys.argv[1])
    cases = json.load(open(sys.argv[2]))["cases"]
    for case in cases:
        ids = list(case["prompt_ids"])
        for want in case["ids"]:
            got = int(np.argmax(logits(tensors, meta, ids)))
            assert got == want, f"{case['messages'][-1]['content']!r}: {got} instead of {want}"
            ids.append(got)
    print(f"{len(cases)} answers are the same")


if __name__ == "__main__":
    main()
