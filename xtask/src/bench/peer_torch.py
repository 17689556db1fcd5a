"""Reads a prompt of random tokens by transformers in bf16 and prints tokens a second: `peer_torch.py FOLDER TOKENS THREADS`."""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

folder, tokens, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
ids = torch.randint(1, model.config.vocab_size, (1, tokens))
with torch.inference_mode():
    model(ids, logits_to_keep=1)
    began = time.perf_counter()
    model(ids, logits_to_keep=1)
    took = time.perf_counter() - began
print(json.dumps({"tokens_per_second": tokens / took}))
