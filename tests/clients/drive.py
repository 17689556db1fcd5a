"""Drives a server with the official clients: whole and streamed, shapes, errors. Exits with 1 at the first difference.

Usage: drive.py URL. Every client must get the text that the chat route of OpenAI's API gives at temperature 0.
"""

import json
import sys

MODEL = "starter"
ASK = [{"role": "user", "content": "Hello!"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}, "b": {"type": "boolean"}},
    "required": ["n", "b"],
    "additionalProperties": False,
}


def same(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r}, not {wanted!r}")
    print(f"ok: {what}")


def fits(what, text):
    document = json.loads(text)
    if set(document) != {"n", "b"} or not 1 <= document["n"] <= 9 or not isinstance(document["b"], bool):
        sys.exit(f"{what}: {text}")
    print(f"ok: {what}")


def with_openai(url):
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    same("openai models", [model.id for model in client.models.list()], [MODEL])
    answer = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=40)
    text = answer.choices[0].message.content
    stream = client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=40, stream=True, stream_options={"include_usage": True}
    )
    parts = list(stream)
    same("openai chat stream", "".join(p.choices[0].delta.content or "" for p in parts if p.choices), text)
    same("openai chat usage", parts[-1].usage.completion_tokens, answer.usage.completion_tokens)
    logprobs = client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2, n=2, seed=1
    )
    same("openai logprobs", [len(c.logprobs.content[0].top_logprobs) for c in logprobs.choices], [2, 2])
    shape = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": SCHEMA}}
    shaped = client.chat.completions.create(model=MODEL, messages=ASK, response_format=shape, seed=1)
    fits("openai response_format", shaped.choices[0].message.content)
    whole = client.completions.create(model=MODEL, prompt="Hello", temperature=0, max_tokens=8)
    stream = client.completions.create(model=MODEL, prompt="Hello", temperature=0, max_tokens=8, stream=True)
    same("openai completion stream", "".join(p.choices[0].text for p in stream), whole.choices[0].text)
    response = client.responses.create(model=MODEL, input="Hello!", temperature=0, max_output_tokens=40)
    same("openai responses", response.output_text, text)
    with client.responses.stream(model=MODEL, input="Hello!", temperature=0, max_output_tokens=40) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        same("openai responses stream", "".join(deltas), text)
    try:
        client.chat.completions.create(model="none", messages=ASK)
        sys.exit("openai: an unknown model is answered")
    except openai.NotFoundError as error:
        same("openai errors", error.code, "model_not_found")
    return text


def with_batches(url, text):
    import time

    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    path = "/v1/chat/completions"

    def line(name, body):
        return json.dumps({"custom_id": name, "method": "POST", "url": path, "body": body}) + "\n"

    good = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 40}
    content = (line("good", good) + line("wrong", {**good, "model": "none"})).encode()
    file = client.files.create(
        file=("in.jsonl", content),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    same("openai file", (file.purpose, file.bytes, file.expires_at - file.created_at), ("batch", len(content), 3600))
    same("openai file content", client.files.content(file.id).content, content)
    batch = client.batches.create(
        input_file_id=file.id, endpoint=path, completion_window="24h", metadata={"of": "the clients' test"}
    )
    for _ in range(600):
        batch = client.batches.retrieve(batch.id)
        if batch.status not in ("validating", "in_progress", "finalizing"):
            break
        time.sleep(0.05)
    counts = batch.request_counts
    same("openai batch", (batch.status, counts.total, counts.completed, counts.failed), ("completed", 2, 1, 1))
    output = json.loads(client.files.content(batch.output_file_id).text)
    same("openai batch output", (output["custom_id"], output["response"]["status_code"]), ("good", 200))
    same("openai batch answer", output["response"]["body"]["choices"][0]["message"]["content"], text)
    errors = json.loads(client.files.content(batch.error_file_id).text)
    same("openai batch errors", (errors["custom_id"], errors["response"]["status_code"]), ("wrong", 404))
    same("openai batches", batch.id in [one.id for one in client.batches.list(limit=1)], True)
    ids = [one.id for one in client.files.list(limit=1)]
    same("openai files", {file.id, batch.output_file_id, batch.error_file_id} <= set(ids), True)
    long = client.files.create(file=("long.jsonl", b"".join(line(str(n), good).encode() for n in range(500))), purpose="batch")
    ended = client.batches.cancel(client.batches.create(input_file_id=long.id, endpoint=path, completion_window="24h").id)
    same("openai batch cancel", ended.status in ("cancelling", "cancelled"), True)
    same("openai file delete", client.files.delete(file.id).deleted, True)


def with_anthropic(url, text):
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    answer = client.messages.create(model=MODEL, messages=ASK, temperature=0, max_tokens=40)
    same("anthropic messages", answer.content[0].text, text)
    with client.messages.stream(model=MODEL, messages=ASK, temperature=0, max_tokens=40) as stream:
        same("anthropic stream", "".join(stream.text_stream), text)
    counted = client.messages.count_tokens(model=MODEL, messages=ASK)
    same("anthropic count", counted.input_tokens, answer.usage.input_tokens + answer.usage.cache_read_input_tokens)


def with_ollama(url, text):
    import ollama

    client = ollama.Client(host=url)
    options = {"temperature": 0, "num_predict": 40}
    answer = client.chat(model=MODEL, messages=ASK, options=options)
    same("ollama chat", answer.message.content, text)
    stream = client.chat(model=MODEL, messages=ASK, options=options, stream=True)
    same("ollama chat stream", "".join(part.message.content for part in stream), text)
    answer = client.generate(model=MODEL, prompt="Hello!", options=options)
    same("ollama generate", answer.response, text)
    fits("ollama format", client.chat(model=MODEL, messages=ASK, format=SCHEMA).message.content)
    same("ollama list", [model.model for model in client.list().models], [MODEL])
    loaded = client.ps().models[0]
    same("ollama ps", (loaded.model, loaded.size_vram, loaded.expires_at.year > 2200), (MODEL, 0, True))


def with_langchain(url, text):
    from langchain_ollama import ChatOllama
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=40, max_retries=0)
    same("langchain openai", chat.invoke("Hello!").content, text)
    same("langchain openai stream", "".join(part.content for part in chat.stream("Hello!")), text)
    chat = ChatOllama(model=MODEL, base_url=url, temperature=0, num_predict=40)
    same("langchain ollama", chat.invoke("Hello!").content, text)
    same("langchain ollama stream", "".join(part.content for part in chat.stream("Hello!")), text)


def with_litellm(url, text):
    import litellm

    litellm.suppress_debug_info = True
    common = {"messages": ASK, "temperature": 0, "max_tokens": 40}
    answer = litellm.completion(model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", **common)
    same("litellm openai", answer.choices[0].message.content, text)
    answer = litellm.completion(model=f"anthropic/{MODEL}", api_base=url, api_key="none", **common)
    same("litellm anthropic", answer.choices[0].message.content, text)


def main():
    url = sys.argv[1].rstrip("/")
    text = with_openai(url)
    with_batches(url, text)
    with_anthropic(url, text)
    with_ollama(url, text)
    with_langchain(url, text)
    with_litellm(url, text)


if __name__ == "__main__":
    main()
