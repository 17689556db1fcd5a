"""A plugin for pytest: llama-server's own test files start `pasture serve` in its place.

What a test asks of the program is translated into Pasture's flags; a test that asks for anything else is skipped, with
the option as its reason. Routes that OpenAI's API knows under /v1 are asked there. Tests that look at what is
llama-server's alone stand in left_out.txt with the reason, and are not run.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import requests
import utils

PROGRAM = os.environ["PROGRAM"]
MODEL = os.environ["STORY"]
# Names that the tests put into `model`, which llama-server does not look at.
NAMES = ["tinyllama-2", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "davinci-002", "gpt-4.1"]
ROUTES = {
    "/chat/completions": "/v1/chat/completions",
    "/completions": "/v1/completions",
    "/health": "/healthz",
    "/models": "/v1/models",
    "/embeddings": "/v1/embeddings",
    "/responses": "/v1/responses",
}
# Options that change nothing that a test could see, or that are Pasture's usual way.
USUAL = {
    "server_port", "server_host", "model_hf_repo", "model_alias", "temperature", "seed", "offline", "n_batch", "n_ubatch",
    "n_ctx", "n_slots", "n_predict", "api_key", "server_continuous_batching", "server_metrics", "server_slots",
    "external_server", "process", "jinja", "n_prompts", "server_embeddings", "kv_unified", "fa", "n_threads", "debug",
}


def left_out():
    rows = (Path(__file__).parent / "left_out.txt").read_text().splitlines()
    rows = [row.split(" | ", 1) for row in rows if row and not row.startswith("#")]
    return [(re.compile(pattern), reason) for pattern, reason in rows]


def pytest_collection_modifyitems(items):
    rows = left_out()
    used = set()
    for item in items:
        name = f"{item.path.stem}::{item.name}"
        for pattern, reason in rows:
            if pattern.fullmatch(name):
                used.add(pattern)
                item.add_marker(pytest.mark.skip(reason=reason))
                break
    unused = [pattern.pattern for pattern, _ in rows if pattern not in used]
    if unused and len(items) > 100:
        raise pytest.UsageError(f"left_out.txt names tests that are not there: {unused}")


def start(self, timeout_seconds=60):
    usual = utils.ServerPreset.tinyllama2().__dict__
    for option, value in self.__dict__.items():
        if option not in USUAL and value not in (None, False) and value != usual.get(option):
            pytest.skip(f"llama-server's option {option}")
    if self.model_hf_repo != "ggml-org/test-model-stories260K":
        pytest.skip(f"another model: {self.model_hf_repo}")
    names = [self.model_alias or NAMES[0]]
    if "test_basic" not in os.environ["PYTEST_CURRENT_TEST"]:
        names = dict.fromkeys([*names, *NAMES])
    command = [PROGRAM, "serve", *(f"{name}={MODEL}" for name in names)]
    # Its context is that of all slots together, and may be longer than the model was made for.
    context = min((self.n_ctx or 512) // (1 if self.kv_unified else self.n_slots or 1), 512)
    command += ["--port", str(self.server_port), "--context", str(context), "--slots", str(self.n_slots or 4)]
    if self.api_key:
        command += ["--api-key", self.api_key]
    print("starting", " ".join(command))
    self.process = subprocess.Popen(command)
    utils.server_instances.add(self)
    end = time.time() + timeout_seconds
    while time.time() < end:
        try:
            if requests.get(f"http://127.0.0.1:{self.server_port}/healthz", timeout=5).status_code == 200:
                return
        except requests.exceptions.ConnectionError:
            pass
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}")
        time.sleep(0.02)
    raise TimeoutError("the server did not start")


real_url = utils.ServerProcess.make_url
real_request = utils.ServerProcess.make_request
real_stream = utils.ServerProcess.make_stream_request


def named(self, path, data):
    """What llama-server takes from its command line is asked for in each request."""
    if not isinstance(data, dict) or ROUTES.get(path, path) not in GIVEN:
        return data
    usual = GIVEN[ROUTES.get(path, path)](self)
    return {**usual, **data, "model": self.model_alias or NAMES[0]}


def settings(self):
    limit = {} if self.n_predict is None else {"max_tokens": self.n_predict}
    return {"temperature": self.temperature, "seed": self.seed, **limit}


GIVEN = {
    "/v1/chat/completions": settings,
    "/v1/completions": settings,
    "/v1/embeddings": lambda self: {},
    "/tokenize": lambda self: {},
    "/detokenize": lambda self: {},
    "/apply-template": lambda self: {},
    "/v1/responses": lambda self: {},
    "/v1/messages": lambda self: {},
    "/v1/messages/count_tokens": lambda self: {},
}


# llama-server's own route, where a test asks nothing of it that /v1/completions does not know.
NATIVE = {"prompt": "prompt", "n_predict": "max_tokens", "seed": "seed", "temperature": "temperature",
          "ignore_eos": "ignore_eos", "top_k": "top_k", "top_p": "top_p", "cache_prompt": None}


def translated(path, data):
    if path != "/completion":
        return path, data
    for option in data:
        if option not in NATIVE:
            pytest.skip(f"llama-server's own field {option}")
    return "/v1/completions", {NATIVE[option]: value for option, value in data.items() if NATIVE[option]}


def make_url(self, path, host=None):
    return real_url(self, ROUTES.get(path, path), host)


def make_request(self, method, path, data=None, headers=None, timeout=600, host=None):
    way, asked = translated(path, data)
    answer = real_request(self, method, way, named(self, way, asked), headers, timeout, host)
    if way != path and answer.status_code == 200:
        texts = [{"content": choice["text"]} for choice in answer.body["choices"]]
        several = isinstance(data["prompt"], list) and not isinstance(data["prompt"][0], int)
        answer.body = texts if several else texts[0]
    return answer


def make_stream_request(self, method, path, data=None, headers=None, host=None):
    way, asked = translated(path, data)
    for part in real_stream(self, method, way, named(self, way, asked), headers, host):
        yield part if way == path else {"content": part["choices"][0]["text"] if part["choices"] else ""}


utils.ServerProcess.start = start
utils.ServerProcess.make_url = make_url
utils.ServerProcess.make_request = make_request
utils.ServerProcess.make_stream_request = make_stream_request
utils.ServerPreset.load_all = staticmethod(lambda: None)
