"""Reads the finished file alone, runs it by plain formulas, and compares with expected.json, or writes that file anew.

    python verify.py ../starter.gguf ../expected.json
    python verify.py ../starter.gguf ../expected.json --write

Shares no code with Pasture: GGUF's names, its interleaved rotary embedding and its metadata are read as a stranger would.
Needs `gguf` and `numpy` from PyPI.
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


def byte_of():
    """The byte behind each letter of a byte-level vocabulary: printable Latin-1 is itself, the rest follows from 256."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(rest)}


def text_of(meta, ids):
    letters = "".join(meta["tokenizer.ggml.tokens"][at] for at in ids)
    table = byte_of()
    return bytes(table[letter] for letter in letters).decode()


def answer(tensors, meta, prompt):
    """The likeliest answer, and the smallest distance of its logits to the second best."""
    stop, ids, lead = meta["tokenizer.ggml.eos_token_id"], [], float("inf")
    while len(ids) < 96 and (not ids or ids[-1] != stop):
        scores = logits(tensors, meta, [*prompt, *ids])
        ids.append(int(np.argmax(scores)))
        second, first = np.partition(scores, -2)[-2:]
        lead = min(lead, float(first - second))
    return ids, lead


def write(tensors, meta, path, found):
    for case in found["cases"]:
        ids, lead = answer(tensors, meta, case["prompt_ids"])
        spoken = ids[:-1] if ids[-1] == meta["tokenizer.ggml.eos_token_id"] else ids
        case |= {"ids": ids, "text": text_of(meta, spoken), "lead": round(lead, 3)}
        print(case["messages"][-1]["content"], "->", case["text"], f"(lead {lead:.2f})")
    with open(path, "w") as out:
        out.write('{\n"note": ' + json.dumps(found["note"]) + ',\n"cases": [\n')
        out.write(",\n".join(json.dumps(case) for case in found["cases"]) + "\n]\n}\n")


def main():
    tensors, meta = load(sys.argv[1])
    found = json.load(open(sys.argv[2]))
    if "--write" in sys.argv:
        return write(tensors, meta, sys.argv[2], found)
    cases = found["cases"]
    for case in cases:
        ids = list(case["prompt_ids"])
        for want in case["ids"]:
            got = int(np.argmax(logits(tensors, meta, ids)))
            assert got == want, f"{case['messages'][-1]['content']!r}: {got} instead of {want}"
            ids.append(got)
    print(f"{len(cases)} answers are the same")


if __name__ == "__main__":
    main()
