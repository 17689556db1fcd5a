# Makes golden cases with the reference implementation: tiny random models in the kit's layout (torch and transformers
# from PyPI are needed). `python make_case.py FOLDER [CASE…]` writes FOLDER/CASE. A case is a line of CASES; seeds are
# tried until no greedy step and no router is near a tie, so that any order of summation gives the same ids.
import json
import os
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

PROMPTS, NEW = [9, 40], 12
LEAST_MARGIN, LEAST_ROUTER_MARGIN = 0.003, 5e-4

BASE = dict(
    vocab_size=256, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
    max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None, hidden_act="silu",
    tie_word_embeddings=True,
)
FACTORS = dict(embedding_multiplier=12.0, logits_scaling=0.5, residual_multiplier=0.22, attention_multiplier=0.2)


def rope(theta):
    return {"rope_theta": theta, "rope_type": "default"}


# Class of the reference, its configuration's own keys, spread of the embedding, keys that older files leave out.
CASES = {
    "smollm3": ("SmolLM3", dict(intermediate_size=64, num_hidden_layers=4, rope_parameters=rope(5e5)), 0.3,
                ["no_rope_layers", "layer_types"]),
    "granite": ("Granite", dict(intermediate_size=64, num_hidden_layers=2, rope_parameters=rope(1e4), **FACTORS), 0.1, []),
    "granite_moe": ("GraniteMoe", dict(intermediate_size=32, num_hidden_layers=2, num_local_experts=4,
                    num_experts_per_tok=2, rope_parameters=rope(1e4), **FACTORS), 0.1, []),
}


def fill(model, spread, generator):
    """Random weights that bf16 holds exactly; the last norm has mixed signs, so that a tied head is no copy."""
    for name, weight in model.named_parameters():
        values = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * values
            if name == "model.norm.weight":
                values = values * torch.where(torch.rand(weight.shape, generator=generator) < 0.5, -1.0, 1.0)
        else:
            values = values * (spread if "embed" in name else 0.25)
        weight.copy_(values.to(torch.bfloat16).float())
    model.tie_weights()


def outputs(model, ids):
    """Logits, the output of each layer and of each router."""
    seen, hooks = {}, []
    for at, layer in enumerate(model.model.layers):
        hooks.append(layer.register_forward_hook(lambda m, i, o, at=at: seen.__setitem__(
            f"hidden.layer{at}", (o[0] if isinstance(o, tuple) else o).reshape(len(ids), -1))))
        for name, module in layer.named_modules():
            if name.endswith("router"):
                hooks.append(module.register_forward_hook(lambda m, i, o, at=at: seen.__setitem__(
                    f"router.layer{at}.logits", o[0].reshape(len(ids), -1))))
    made = model(ids[None], output_hidden_states=True, use_cache=False)
    [hook.remove() for hook in hooks]
    return made.logits[0], {"hidden.embed_tokens": made.hidden_states[0][0], **seen}


def greedy(model, ids):
    chosen, rows, cache, step = [], [], None, ids[None]
    for _ in range(NEW):
        made = model(step, cache=cache, use_cache=True)
        cache = made.cache if hasattr(made, "cache") else made.past_key_values
        rows.append(made.logits[0, -1])
        chosen.append(int(rows[-1].argmax()))
        step = torch.tensor([[chosen[-1]]])
    return chosen, torch.stack(rows)


def margin(rows, rank):
    best = rows.float().topk(rank + 1).values
    return float((best[..., rank - 1] - best[..., rank]).min())


def attempt(name, seed):
    kind, own, spread, _ = CASES[name]
    config = getattr(transformers, kind + "Config")(**BASE, **own)
    config._attn_implementation = "eager"
    model = getattr(transformers, kind + "ForCausalLM")(config).eval().float()
    generator = torch.Generator().manual_seed(seed)
    fill(model, spread, generator)
    tensors, prompts, least, least_router = {}, [], float("inf"), None
    for at, length in enumerate(PROMPTS):
        ids = torch.cat([torch.tensor([1]), torch.randint(3, 256, (length - 1,), generator=generator)])
        logits, inner = outputs(model, ids)
        chosen, rows = greedy(model, ids)
        least = min(least, margin(rows, 1))
        for key in [key for key in inner if key.startswith("router.")]:
            gap = margin(inner[key], config.num_experts_per_tok)
            least_router = gap if least_router is None else min(least_router, gap)
        tensors |= inner if at == 0 else {f"p{at}.greedy_logits": rows}
        tensors |= {f"p{at}.ids": ids.int(), f"p{at}.logits": logits, f"p{at}.greedy_ids": torch.tensor(chosen).int()}
        prompts.append({"ids": ids.tolist(), "greedy": chosen})
    facts = {
        "case": name, "model_class": kind + "ForCausalLM", "compute_dtype": "float32", "storage_dtype": "bfloat16",
        "seed_attempt": seed, "ignore_eos": True, "prompts": prompts, "min_greedy_margin": least,
        "min_router_margin": least_router,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return model, tensors, facts


def write(folder, name, model, tensors, facts):
    os.makedirs(folder, exist_ok=True)
    put = lambda file, value: open(os.path.join(folder, file), "w").write(json.dumps(value, indent=1, sort_keys=True) + "\n")
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        config = json.load(open(os.path.join(place, "config.json")))
        with safe_open(os.path.join(place, "model.safetensors"), "pt") as file:
            weights = {key: file.get_tensor(key).to(torch.bfloat16) for key in file.keys()}
    put("config.v5.json", config)
    # The layout of published files: rotary keys at the top, the type of the numbers under its old name.
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config |= {"rope_scaling": None, "torch_dtype": "bfloat16"}
    config.pop("dtype", None)
    put("config.json", config)
    derived = CASES[name][3]
    if derived:
        put("config.hub.json", {key: value for key, value in config.items() if key not in derived})
    put("golden.json", facts)
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    save_file({key: value.contiguous() for key, value in tensors.items()}, os.path.join(folder, "golden.safetensors"))


def main():
    for name in sys.argv[2:] or CASES:
        with torch.no_grad():
            for seed in range(200):
                model, tensors, facts = attempt(name, seed)
                gap = facts["min_router_margin"]
                if facts["min_greedy_margin"] >= LEAST_MARGIN and (gap is None or gap >= LEAST_ROUTER_MARGIN):
                    break
            else:
                sys.exit(f"{name}: every seed has a tie")
        write(os.path.join(sys.argv[1], name), name, model, tensors, facts)
        print(name, "seed", facts["seed_attempt"], "margins", facts["min_greedy_margin"], gap)


main()
