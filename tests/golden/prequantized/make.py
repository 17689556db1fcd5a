"""Makes the cases beside this file: one small Llama, quantized as published folders are, with the logits of the numbers
that the publisher's own library says its tensors stand for, in f32.

Needs torch, transformers 4.57, accelerate, bitsandbytes 0.50 and compressed-tensors 0.20, on the processor:
    python tests/golden/prequantized/make.py
bitsandbytes folders are written by transformers, compressed-tensors by its own compressor; fp8 folders, which
transformers writes on a GPU only, by the layout of its quantizer (weight_scale_inv) and of vLLM's (weight_scale)."""

import copy, json, shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
PROMPTS = [[1, 17, 250, 33, 4, 99, 128], [1, 5, 9, 200, 7, 61, 61, 140, 33, 250, 12, 8]]
NEW = 6
FP8_MAX = 448.0


def base():
    torch.manual_seed(20261124)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=256, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.12,
        rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = (1 + 0.2 * torch.randn_like(parameter.float())).to(torch.bfloat16)
        if "embed" in name:
            parameter.data = torch.randn_like(parameter.float()).to(torch.bfloat16)
    return model


def write(folder, config, tensors, exact, made):
    """A case from its configuration, its tensors, and the exact weights by name."""
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k not in ("quantization_config", "torch_dtype", "dtype")}))
    model.load_state_dict({k: v.float() for k, v in exact.items()}, strict=True)
    model = model.float().eval()
    results, prompts, margin = {}, [], 1e9
    with torch.no_grad():
        for at, ids in enumerate(PROMPTS):
            results[f"p{at}.ids"] = torch.tensor(ids, dtype=torch.int32)
            results[f"p{at}.logits"] = model(torch.tensor([ids])).logits[0].contiguous()
            longer, greedy = list(ids), []
            for _ in range(NEW):
                last = model(torch.tensor([longer])).logits[0, -1]
                two = last.topk(2).values
                margin = min(margin, float(two[0] - two[1]))
                greedy.append(int(last.argmax()))
                longer.append(greedy[-1])
            prompts.append({"ids": ids, "greedy": greedy})
    assert margin > 0.003, margin
    path = HERE / folder
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    facts = {"case": folder, "made": made, "compute_dtype": "float32", "prompts": prompts, "min_greedy_margin": margin,
             "logit_std": float(results["p1.logits"].std())}
    (path / "golden.json").write_text(json.dumps(facts, indent=1) + "\n")
    save_file(results, path / "golden.safetensors")
    save_file({k: v.contiguous() for k, v in tensors.items()}, path / "model.safetensors", {"format": "pt"})
    print(folder, "margin", margin, "std", facts["logit_std"], sum(f.stat().st_size for f in path.iterdir()) >> 10, "KiB")


def is_linear(name):
    return name.endswith("_proj.weight")


def plain_config(model):
    config = model.config.to_dict()
    keep = ("architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "vocab_size", "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps",
            "rope_theta", "bos_token_id", "eos_token_id", "hidden_act", "attention_bias", "mlp_bias")
    config["architectures"] = ["LlamaForCausalLM"]
    return {key: config[key] for key in keep if key in config} | {"torch_dtype": "bfloat16"}


def fp8(folder, model, scale_of, spread, ending, extra, quantization, made):
    tensors, exact = {}, {}
    for name, weight in model.state_dict().items():
        if not is_linear(name):
            tensors[name] = exact[name] = weight
            continue
        scale = scale_of(weight.float())
        codes = (weight.float() / spread(scale, weight.shape)).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
        tensors[name], tensors[name + ending] = codes, scale
        tensors |= extra(name)
        exact[name] = codes.float() * spread(scale, weight.shape)
    write(folder, plain_config(model) | {"quantization_config": quantization}, tensors, exact, made)


def blocks(high, wide):
    def scale_of(weight):
        rows, cols = weight.shape
        padded = torch.zeros(-(-rows // high) * high, -(-cols // wide) * wide)
        padded[:rows, :cols] = weight
        parts = padded.view(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
        return parts.abs().amax(dim=(1, 3)) / FP8_MAX

    def spread(scale, shape):
        return scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)[: shape[0], : shape[1]]

    return scale_of, spread


def bitsandbytes(folder, model, **options):
    import bitsandbytes.functional as F
    plain = HERE / "plain.tmp"
    written = HERE / "quantized.tmp"
    model.save_pretrained(plain)
    quantized = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=BitsAndBytesConfig(**options), dtype=torch.bfloat16, device_map="cpu")
    quantized.save_pretrained(written)
    tensors, exact = load_file(written / "model.safetensors"), {}
    for name, parameter in quantized.state_dict().items():
        if name in model.state_dict() and not is_linear(name):
            exact[name] = tensors[name]
    for name, module in quantized.named_modules():
        if name.endswith("_proj"):
            weight = module.weight
            if options.get("load_in_4bit"):
                state = copy.deepcopy(weight.quant_state)
                state.dtype = torch.float32
                exact[name + ".weight"] = F.dequantize_4bit(weight.data, state)
            else:
                exact[name + ".weight"] = F.int8_vectorwise_dequant(tensors[name + ".weight"], tensors[name + ".SCB"])
    config = json.loads((written / "config.json").read_text())
    shutil.rmtree(plain)
    shutil.rmtree(written)
    write(folder, config, tensors, exact, "transformers save_pretrained with bitsandbytes")


def compressed(folder, model):
    from compressed_tensors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization import preset_name_to_scheme
    scheme = preset_name_to_scheme("FP8_DYNAMIC", ["Linear"])
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"], format="float-quantized")
    model = copy.deepcopy(model)
    apply_quantization_config(model, config)
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.weight_scale.data = (module.weight.data.abs().amax(1, keepdim=True) / FP8_MAX).to(module.weight_scale.dtype)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    tensors = dict(model.state_dict())
    exact = {}
    for name, value in tensors.items():
        if name.endswith("_proj.weight"):
            exact[name] = value.float() * tensors[name + "_scale"].float()
        elif not name.endswith("_scale"):
            exact[name] = value
    path = HERE / "compressed.tmp"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(plain_config(model)))
    compressor.update_config(path)
    written = json.loads((path / "config.json").read_text())
    shutil.rmtree(path)
    write(folder, written, tensors, exact, "compressed-tensors, preset FP8_DYNAMIC")


def main():
    model = base()
    scale_of, spread = blocks(32, 64)
    fp8("fp8_block", model, scale_of, spread, "_scale_inv", lambda _: {},
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [32, 64],
         "modules_to_not_convert": ["lm_head"]}, "layout of transformers' finegrained fp8")
    one = lambda weight: (weight.abs().amax() / FP8_MAX).to(torch.float32)
    fp8("fp8_tensor", model, one, lambda scale, _: scale, "_scale",
        lambda name: {name.replace("weight", "input_scale"): torch.tensor(0.03)},
        {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, "layout of vLLM's fp8")
    compressed("compressed_fp8", model)
    bitsandbytes("bnb_nf4", model, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                 bnb_4bit_compute_dtype=torch.bfloat16)
    bitsandbytes("bnb_fp4", model, load_in_4bit=True, bnb_4bit_quant_type="fp4")
    bitsandbytes("bnb_int8", model, load_in_8bit=True)


main()
