# Steps of LoRA with torch and peft, as `cargo xtask bench --train` compares them: one batch, AdamW, the loss over the
# whole vocabulary. Arguments: model folder, tokens, rank, threads, steps, whether layers are run again. One line of JSON.
import json, resource, sys, time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

folder, tokens, rank, threads, steps, again = sys.argv[1], *(int(word) for word in sys.argv[2:7])
torch.set_num_threads(threads)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
model.config.use_cache = False
modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules, task_type="CAUSAL_LM"))
if again:
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-4)
ids = torch.tensor([[1 + at * 7919 % (model.config.vocab_size - 1) for at in range(tokens)]])
seconds, busy, losses = [], [], []
for _ in range(steps):
    start, used = time.perf_counter(), time.process_time()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)
    busy.append(time.process_time() - used)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "busy": busy, "losses": losses, "peak": peak, "trained": sum(p.numel() for p in trained)}))
