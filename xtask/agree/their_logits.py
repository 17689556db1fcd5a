"""Relative RMS between our logits and llama.cpp's for one GGUF file, by token ids.

Usage: their_logits.py FILE.gguf OURS.safetensors ID,ID,...
Needs the package llama-cpp-python; LLAMA_CPP_LIB_PATH may name another build of the library.
"""
import array
import ctypes
import json
import math
import struct
import sys

import llama_cpp as lib


def ours(path):
    """The values of the tensor "logits"."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    first, last = json.loads(content[8 : 8 + length])["logits"]["data_offsets"]
    return array.array("f", content[8 + length + first : 8 + length + last])


def theirs(path, ids):
    """What llama.cpp says, row after row."""
    lib.llama_backend_init()
    lib.llama_log_set(QUIET, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp does not load {path}")
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(64, len(ids))
    params.n_threads = params.n_threads_batch = 1
    context = lib.llama_init_from_model(model, params)
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for at, token in enumerate(ids):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, 1
        batch.seq_id[at][0] = 0
    if lib.llama_decode(context, batch):
        sys.exit(f"llama.cpp does not run {path}")
    width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    rows = array.array("f")
    for at in range(len(ids)):
        rows.extend(lib.llama_get_logits_ith(context, at)[:width])
    return rows


def near(first, second):
    """Their relative RMS."""
    far = sum((a - b) ** 2 for a, b in zip(first, second))
    return math.sqrt(far / sum(a * a for a in first))


QUIET = lib.llama_log_callback(lambda level, text, data: None)

if __name__ == "__main__":
    mine, other = ours(sys.argv[2]), theirs(sys.argv[1], [int(text) for text in sys.argv[3].split(",")])
    if len(mine) != len(other):
        sys.exit(f"{len(mine)} logits of ours, {len(other)} of llama.cpp's")
    print(near(mine, other))
