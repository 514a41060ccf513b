"""Talks to a running server with the unmodified `openai` package: python openai_client.py URL MODEL"""

import json
import sys

import openai

url, model = sys.argv[1:3]
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)

assert model in [m.id for m in client.models.list()]
ask = [{"role": "user", "content": "Name three colours."}]

whole = client.chat.completions.create(
    model=model, messages=ask, max_completion_tokens=24, seed=7, n=2, logprobs=True, top_logprobs=2
)
assert len(whole.choices) == 2 and whole.choices[0].finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.model_extra["selfextend"]["trained_window"] > 0
assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2

text, usage = "", None
stream = client.chat.completions.create(
    model=model, messages=ask, max_completion_tokens=24, seed=7, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    usage = chunk.usage or usage
    text += "".join(choice.delta.content or "" for choice in chunk.choices)
assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
assert usage.prompt_tokens == whole.usage.prompt_tokens

plain = client.completions.create(model=model, prompt=["Once", "Then"], max_tokens=8, temperature=0, logprobs=1)
assert [c.index for c in plain.choices] == [0, 1] and len(plain.choices[0].logprobs.tokens) <= 8

schema = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "warm": {"type": "boolean"}},
    "required": ["colour", "warm"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model=model,
    messages=ask,
    max_completion_tokens=200,
    response_format={"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}},
)
assert json.loads(answer.choices[0].message.content)["colour"] in ("red", "green")

for wrong, kind in [
    (dict(model=model, messages=[{"role": "user", "content": "x " * 400_000}]), openai.BadRequestError),
    (dict(model="no-such-model", messages=ask), openai.NotFoundError),
    (dict(model=model, messages=ask, temperature=9), openai.BadRequestError),
]:
    try:
        client.chat.completions.create(**wrong)
        raise SystemExit(f"{kind.__name__} expected")
    except kind as error:
        assert error.body["message"], error
        if "x x" in wrong["messages"][0]["content"]:
            assert error.code == "context_length_exceeded", error
try:
    client.embeddings.create(model=model, input="x")
    raise SystemExit("embeddings are not served")
except openai.BadRequestError:
    pass
print("python client: ok, openai", openai.__version__)
