"""Adapters by peft, beside a folder with a model.

Usage: peft_adapter.py make BASE FOLDER lora|rslora|dora
       peft_adapter.py compare BASE FOLDER OURS.safetensors ID,ID,...
The second prints two relative RMS: of our logits against peft's, and of the base's against peft's.
Needs the packages torch, transformers, peft and safetensors.
"""
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def relative(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


what, base, folder = sys.argv[1:4]
torch.manual_seed(5)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
if what == "make":
    method = sys.argv[4]
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=MODULES, init_lora_weights=False,
        use_rslora=method == "rslora", use_dora=method == "dora",
    )
    get_peft_model(model, config).save_pretrained(folder)
else:
    ids = torch.tensor([[int(text) for text in sys.argv[5].split(",")]])
    with torch.no_grad():
        plain = model(ids).logits[0]
        logits = PeftModel.from_pretrained(model, folder).eval()(ids).logits[0]
    print(relative(load_file(sys.argv[4])["logits"], logits), relative(plain, logits))
