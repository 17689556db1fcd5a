"""Runs lm-evaluation-harness as a client of `pasture serve` and compares each sample with what the harness computed by
itself with torch (crates/lab/tests/fixtures/expected.json), which `pasture eval` equals by a test of its own.

    python harness.py URL MODEL

The server serves stories260K in f32 (`pasture serve --exact`). Needs lm_eval with its extra `api`, and transformers.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
FIXTURES = Path(__file__).resolve().parents[2] / "crates/lab/tests/fixtures"
sys.path.insert(0, str(FIXTURES))

import lm_eval  # noqa: E402
import make  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

# Sums of up to 512 logarithms that two programs add in another order, told in 32 bits.
TOLERANCE = 2e-3
# A text longer than the context: for a server the harness cuts it in other places.
OTHER_WINDOWS = [("our_text", 1)]


def differs(expected, found):
    numbers = [(expected[key], found[key]) for key in ("loglikelihood",) if key in expected]
    numbers += zip(expected.get("loglikelihoods", []), found.get("loglikelihoods", []))
    for left, right in numbers:
        if abs(left - right) > TOLERANCE:
            return f"{left} and {right}"
    for key in ("line", "answer", "extracted", "score", "acc", "acc_norm"):
        # transformers drops the space that an answer begins with; servers do not.
        if str(expected.get(key)).strip() != str(found.get(key)).strip():
            return f"{key}: {expected.get(key)!r} and {found.get(key)!r}"
    return None


def main(url, model):
    expected = json.loads((FIXTURES / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        names = make.tasks(Path(place))
        found = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={"base_url": f"{url}/v1/completions", "model": model, "tokenizer": str(FIXTURES),
                        "tokenizer_backend": "huggingface", "max_length": 512, "num_concurrent": 4,
                        # As the tokenizer's own file asks, and as the harness does where it loads the model itself.
                        "add_bos_token": True},
            tasks=names, task_manager=TaskManager(include_path=place), bootstrap_iters=0, log_samples=True)
    wrong = 0
    for name in names:
        rows = sorted(found["samples"][name], key=lambda row: (row["doc_id"], row["filter"]))
        wanted = expected[name.removeprefix("our_")]
        assert len(rows) == len(wanted["samples"])
        for row, sample in zip(rows, wanted["samples"]):
            what = differs(sample, make.sample(name, row))
            if what and (name, sample["line"]) not in OTHER_WINDOWS:
                wrong += 1
                print(f"{name}, line {sample['line']}: {what}")
        results = {key.removesuffix(",none"): value for key, value in found["results"][name].items()}
        print(name, len(rows), {key: results[key] for key in wanted["results"]})
    if wrong:
        sys.exit(f"{wrong} samples differ")
    print("every sample is the same, but for the text that is cut in other places")


if __name__ == "__main__":
    main(*sys.argv[1:3])
