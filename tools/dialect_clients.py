"""Talks to a running server with the unmodified `anthropic`, `ollama` and `prometheus_client` packages, and to
its completions as harnesses do: python dialect_clients.py URL MODEL"""

import gzip
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import anthropic
import ollama
import openai
from prometheus_client.parser import text_string_to_metric_families

url, model = sys.argv[1:3]
ask = [{"role": "user", "content": "Name three colours."}]

# What OpenAI's dialect says is what the others must say.
chat = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0).chat.completions
expected = chat.create(model=model, messages=ask, max_completion_tokens=24, temperature=0)
text, usage = expected.choices[0].message.content, expected.usage

claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
# Newer versions of the package have no parameter for it.
greedy = {"temperature": 0}
message = claude.messages.create(model=model, max_tokens=24, messages=ask, extra_body=greedy)
assert message.content[0].text == text, (message, text)
assert message.stop_reason in ("end_turn", "max_tokens")
read = message.usage.input_tokens + message.usage.cache_read_input_tokens
assert read == usage.prompt_tokens and message.usage.output_tokens == usage.completion_tokens
with claude.messages.stream(model=model, max_tokens=24, messages=ask, extra_body=greedy) as stream:
    assert "".join(stream.text_stream) == text
    assert stream.get_final_message().usage.output_tokens == usage.completion_tokens
counted = claude.messages.count_tokens(model=model, messages=ask)
assert counted.input_tokens == usage.prompt_tokens
blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
systems = claude.messages.create(model=model, max_tokens=4, system=blocks, messages=ask, stop_sequences=["e"], metadata={"user_id": "me"})
assert systems.stop_reason in ("end_turn", "max_tokens", "stop_sequence")
long = [{"role": "user", "content": "x " * 400_000}]
for wrong, kind in [
    (dict(model="claude-sonnet", messages=ask), anthropic.NotFoundError),
    (dict(model=model, messages=long), anthropic.BadRequestError),
    (dict(model=model, messages=ask, extra_body={"mcp_servers": [{"type": "url"}]}), anthropic.BadRequestError),
]:
    try:
        claude.messages.create(max_tokens=4, **wrong)
        raise SystemExit(f"{kind.__name__} expected")
    except kind as error:
        assert error.body["error"]["message"], error
print("anthropic client: ok,", anthropic.__version__)

local = ollama.Client(host=url)
options = {"temperature": 0, "num_predict": 24}
said = local.chat(model=model, messages=ask, options=options)
assert said.message.content == text and said.done_reason in ("stop", "length"), said
assert (said.prompt_eval_count, said.eval_count) == (usage.prompt_tokens, usage.completion_tokens)
assert "".join(part.message.content for part in local.chat(model=model, messages=ask, options=options, stream=True)) == text
assert local.generate(model=model, prompt=ask[0]["content"], options=options).response == text
assert "".join(part.response for part in local.generate(model=model, prompt=ask[0]["content"], options=options, stream=True)) == text
form = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"], "additionalProperties": False}
held = local.chat(model=model, messages=ask, format=form, options={"num_predict": 100})
assert json.loads(held.message.content)["colour"] in ("red", "green")
assert model in [listed.model for listed in local.list().models]
assert "completion" in local.show(model).capabilities
assert local.ps().models[0].model == model
try:
    local.chat(model="llama3.2", messages=ask)
    raise SystemExit("no such model")
except ollama.ResponseError as error:
    assert error.status_code == 404 and "does not exist" in error.error
print("ollama client: ok")


def post(path, body, headers=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers or {})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


# As harnesses ask: what a prompt's tokens are worth, alone and in a batch, in any spelling.
prompts = ["The capital of France is Paris.", "one two three"]
ids = [post("/tokenize", {"prompt": prompt, "add_special_tokens": False})["tokens"] for prompt in prompts]
worth = post("/v1/completions", {"prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": 0})
same = post("/completions/", {"prompt": ids, "echo": True, "logprobs": 1.0, "max_tokens": 0.0, "model": None})
for prompt, tokens, choice, again in zip(prompts, ids, worth["choices"], same["choices"]):
    assert choice["text"] == prompt and choice["logprobs"] == again["logprobs"]
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert len(choice["logprobs"]["tokens"]) == len(tokens)
packed = gzip.compress(json.dumps({"prompt": "one", "max_tokens": 1}).encode())
assert post("/v1/completions", packed, {"Content-Encoding": "gzip"})["choices"]
try:
    post("/v1/completions", gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"})
    raise SystemExit("a bomb is refused")
except urllib.error.HTTPError as error:
    assert error.code == 413, error
except urllib.error.URLError:
    pass  # refused before all of it was sent

metrics = urllib.request.urlopen(url + "/metrics").read()
families = list(text_string_to_metric_families(metrics.decode()))
assert len(families) >= 19 and all(family.documentation for family in families)
if promtool := shutil.which("promtool"):
    subprocess.run([promtool, "check", "metrics"], input=metrics, check=True)
print("harness, metrics: ok" + ("" if promtool else " (skipped: no promtool)"))
