"""Writes the trained starter as one GGUF file, and what it answers to ten prompts as the program must answer them.

    python export.py --weights starter.pt --tokenizer tokenizer.json --out ../starter.gguf --expected ../expected.json
"""

import argparse
import json

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

import train
from make_tokenizer import SPECIAL

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DESCRIPTION = (
    "The small model that comes with Pasture: trained from scratch on short conversations written for it, to show the "
    "program at work. It knows little and is often wrong."
)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
PROMPTS = [
    [("user", "Hello!")],
    [("user", "Who are you?")],
    [("user", "What is GGUF?")],
    [("user", "How do I chat with a model?")],
    [("user", "What day comes after Monday?")],
    [("user", "What is two plus three?")],
    [("user", "count from one to five")],
    [("user", "Who won the world cup in 1998?")],
    [("system", "You are a pirate."), ("user", "what is a token")],
    [("user", "My name is Anna."), ("assistant", "Nice to meet you, Anna!"), ("user", "What is my name?")],
]


def to_gguf(name):
    """The GGUF name of one of our tensors, and the number of heads whose halves GGUF wants interleaved."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight", 0
    if name == "model.norm.weight":
        return "output_norm.weight", 0
    _, _, layer, rest = name.split(".", 3)
    part = NAMES[rest.removesuffix(".weight")]
    return f"blk.{layer}.{part}.weight", {"attn_q": train.HEADS, "attn_k": train.KV_HEADS}.get(part, 0)


def interleave(weight, heads):
    """Rows of a head from (first half, second half) to pairs, as GGUF's rotary embedding expects them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(model, tokenizer, path):
    """Writes the file and puts into the model the values that a reader of the file will see."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("Pasture Starter")
    out.add_description(DESCRIPTION)
    out.add_author("The Pasture contributors")
    out.add_license("Apache-2.0 OR MIT")
    out.add_size_label("3.7M")
    # So small a model is right more often where it does not wander.
    out.add_float32("general.sampling.temp", 0.3)
    out.add_languages(["en"])
    out.add_context_length(train.CONTEXT)
    out.add_embedding_length(train.HIDDEN)
    out.add_block_count(train.LAYERS)
    out.add_feed_forward_length(train.INNER)
    out.add_head_count(train.HEADS)
    out.add_head_count_kv(train.KV_HEADS)
    out.add_key_length(train.HEAD_DIM)
    out.add_value_length(train.HEAD_DIM)
    out.add_rope_dimension_count(train.HEAD_DIM)
    out.add_rope_freq_base(train.ROPE_THETA)
    out.add_layer_norm_rms_eps(train.EPSILON)
    out.add_vocab_size(train.VOCABULARY)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    data = json.loads(tokenizer.to_str())["model"]
    tokens = [t for t, _ in sorted(data["vocab"].items(), key=lambda item: item[1])]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["merges"]])
    out.add_bos_token_id(train.START)
    out.add_eos_token_id(train.STOP)
    out.add_pad_token_id(train.END)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)
    for name, parameter in model.named_parameters():
        target, heads = to_gguf(name)
        weight = parameter.detach().numpy().astype(np.float32)
        if weight.ndim == 1:
            out.add_tensor(target, weight)
            continue
        blocks = gguf.quants.quantize(interleave(weight, heads) if heads else weight, gguf.GGMLQuantizationType.Q8_0)
        out.add_tensor(target, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        # Blocks run along a row, so their values do not depend on the order of the rows.
        plain = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
        seen = gguf.quants.dequantize(plain, gguf.GGMLQuantizationType.Q8_0)
        parameter.data = torch.from_numpy(seen.reshape(weight.shape).copy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def render(talk):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in talk) + "<|im_start|>assistant\n"


def answer(model, tokenizer, talk, most=120):
    """Prompt ids, the ids of the likeliest answer with its end mark, and the smallest lead of a chosen token."""
    prompt = tokenizer.encode(render(talk)).ids
    ids, lead = list(prompt), float("inf")
    with torch.no_grad():
        while len(ids) - len(prompt) < most and (len(ids) == len(prompt) or ids[-1] != train.STOP):
            logits = model.head(model.model(torch.tensor([ids]))[0, -1])
            best = torch.topk(logits, 2)
            lead = min(lead, (best.values[0] - best.values[1]).item())
            ids.append(int(best.indices[0]))
    return prompt, ids[len(prompt) :], lead


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--weights", required=True)
    options.add_argument("--tokenizer", required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--expected", required=True)
    options = options.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(options.tokenizer)
    model = train.Starter()
    model.load_state_dict(torch.load(options.weights, weights_only=True))
    write(model, tokenizer, options.out)
    cases = []
    for talk in PROMPTS:
        prompt, ids, lead = answer(model, tokenizer, talk)
        messages = [{"role": role, "content": text} for role, text in talk]
        cases.append({"messages": messages, "prompt_ids": prompt, "ids": ids, "text": tokenizer.decode(ids), "lead": round(lead, 3)})
        print(talk[-1][1], "->", cases[-1]["text"], f"(lead {lead:.2f})")
    note = "greedy answers in f32 over the Q8_0 weights; ids end with <|im_end|>; lead: smallest logit distance to the second best"
    with open(options.expected, "w") as out:
        out.write('{\n"note": ' + json.dumps(note) + ',\n"cases": [\n')
        out.write(",\n".join(json.dumps(case) for case in cases) + "\n]\n}\n")


if __name__ == "__main__":
    main()
