"""The text that llama.cpp adds to a prompt, each token the likeliest.

Usage: their_text.py FILE.gguf PROMPT TOKENS
Needs the package llama-cpp-python; LLAMA_CPP_LIB_PATH may name another build of the library.
"""
import sys

from llama_cpp import Llama

path, prompt, tokens = sys.argv[1:]
model = Llama(path, n_ctx=256, n_threads=1, verbose=False)
print(model(prompt, max_tokens=int(tokens), temperature=0.0, top_k=1, repeat_penalty=1.0)["choices"][0]["text"])
