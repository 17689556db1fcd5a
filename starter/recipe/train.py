"""The starter's architecture (Llama, with Hugging Face's tensor names) and its training on one processor core.

    python train.py --corpus corpus.jsonl --tokenizer tokenizer.json --out starter.pt --tokens 3000000
"""

import argparse
import json
import math
import random as randomness
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

VOCABULARY, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER = 2048, 256, 4, 4, 2, 64, 768
CONTEXT, ROPE_THETA, EPSILON = 1024, 10000.0, 1e-5
END, START, STOP = 0, 1, 2  # <|endoftext|>, <|im_start|>, <|im_end|>


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return F.rms_norm(x, (HIDDEN,), self.weight, EPSILON)


def rope_table(length):
    angle = torch.arange(length)[:, None] / ROPE_THETA ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)[None]
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD_DIM, bias=False)
        self.k_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.v_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD_DIM, HIDDEN, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        split = lambda y, heads: y.view(batch, length, heads, HEAD_DIM).transpose(1, 2)
        q = rope(split(self.q_proj(x), HEADS), cos, sin)
        k = rope(split(self.k_proj(x), KV_HEADS), cos, sin)
        v = split(self.v_proj(x), KV_HEADS)
        k, v = (y.repeat_interleave(HEADS // KV_HEADS, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.up_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(), Attention()
        self.post_attention_layernorm, self.mlp = Norm(), Mlp()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()

    def forward(self, ids):
        cos, sin = rope_table(ids.shape[1])
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class Starter(nn.Module):
    """The head is the embedding, transposed."""

    def __init__(self):
        super().__init__()
        self.model = Body()
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = "o_proj" in name or "down_proj" in name
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if deep else 0.02)

    def head(self, rows):
        return rows @ self.model.embed_tokens.weight.T


def encode(tokenizer, talk):
    """Ids of a conversation, and which of them are learned: what the assistant says, with the mark that ends it."""
    ids, learned = [], []
    line = tokenizer.encode("\n").ids
    for role, text in talk:
        head = [START, *tokenizer.encode(role + "\n").ids]
        body = [*tokenizer.encode(text).ids, STOP]
        ids += head + body + line
        learned += [0] * len(head) + [int(role == "assistant")] * len(body) + [0] * len(line)
    return ids[:CONTEXT], learned[:CONTEXT]


def batches(rows, tokens_in_batch, random):
    """Batches of conversations of like length; every conversation starts at position zero, as in a real chat."""
    for start in range(0, len(rows), 2048):
        part = sorted(rows[start : start + 2048], key=lambda r: len(r[0]))
        groups, group = [], []
        for row in part:
            if group and (len(group) + 1) * len(row[0]) > tokens_in_batch:
                groups.append(group)
                group = []
            group.append(row)
        groups.append(group)
        random.shuffle(groups)
        yield from groups


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--corpus", required=True)
    options.add_argument("--tokenizer", required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--tokens", type=int, default=3_000_000)
    options.add_argument("--batch", type=int, default=1536)
    options.add_argument("--rate", type=float, default=3e-3)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    random = randomness.Random(options.seed)
    tokenizer = Tokenizer.from_file(options.tokenizer)
    rows, budget = [], options.tokens
    for line in open(options.corpus):
        rows.append(encode(tokenizer, [(m["role"], m["content"]) for m in json.loads(line)["messages"]]))
        budget -= len(rows[-1][0])
        if budget < 0:
            break
    model = Starter()
    print(f"conversations {len(rows)}, weights {sum(p.numel() for p in model.parameters())}", flush=True)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.95),
    )
    seen, begin, mean = 0, time.time(), None
    for step, group in enumerate(batches(rows, options.batch, random)):
        length = max(len(r[0]) for r in group)
        ids = torch.full((len(group), length), END)
        learned = torch.zeros(len(group), length, dtype=torch.bool)
        for i, (row, mark) in enumerate(group):
            ids[i, : len(row)] = torch.tensor(row)
            learned[i, : len(row)] = torch.tensor(mark, dtype=torch.bool)
        rate = options.rate * min(1, (step + 1) / 100) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * min(1, seen / options.tokens)))
        for part in optimizer.param_groups:
            part["lr"] = rate
        want = learned[:, 1:]
        rows_of_interest = model.model(ids[:, :-1])[want]
        loss = F.cross_entropy(model.head(rows_of_interest), ids[:, 1:][want])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += sum(len(r[0]) for r in group)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            spent = time.time() - begin
            print(f"step {step} tokens {seen} loss {mean:.4f} rate {rate:.5f} tokens/s {seen / spent:.0f}", flush=True)
        if step % 400 == 399:
            torch.save(model.state_dict(), options.out)
    torch.save(model.state_dict(), options.out)
    print(f"done: tokens {seen}, loss {mean:.4f}, seconds {time.time() - begin:.0f}", flush=True)


if __name__ == "__main__":
    main()
