"""Trains the starter's byte-level BPE vocabulary on the generated conversations.

    python make_tokenizer.py --corpus corpus.jsonl --out tokenizer.json
"""

import argparse
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Known to GGUF readers as "qwen2": words with one leading sign, single digits, runs of signs, white space.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--corpus", required=True)
    options.add_argument("--out", required=True)
    options = options.parse_args()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts():
        for i, line in enumerate(open(options.corpus)):
            if i < 20000:
                for turn in json.loads(line)["messages"]:
                    yield turn["role"] + "\n" + turn["content"]

    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(options.out)
    print("tokens:", tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
