"""Calls functions through a running server with unmodified clients: python tool_clients.py URL MODEL [--round-trip]

Works with any model that has a chat template: where a call is required, the server holds the answer to
one. --round-trip asks for a real one (call, result, answer), which takes a model that can.
"""

import asyncio
import json
import sys
from typing import Literal

import openai
import pydantic

url, model = sys.argv[1:3]
round_trip = "--round-trip" in sys.argv
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gives the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ask = [{"role": "user", "content": "How warm is it in Paris, in C?"}]


class Weather(pydantic.BaseModel):
    """Gives the weather of a city."""

    city: str = pydantic.Field(max_length=20)
    unit: Literal["C", "F"]


def openai_chat():
    options = dict(model=model, messages=ask, tools=[WEATHER], seed=1, max_completion_tokens=200)
    for choice in (NAMED, "required"):
        whole = client.chat.completions.create(tool_choice=choice, parallel_tool_calls=False, **options)
        (call,) = whole.choices[0].message.tool_calls
        assert whole.choices[0].finish_reason == "tool_calls", whole
        assert whole.choices[0].message.content is None
        assert json.loads(call.function.arguments)["unit"] in ("C", "F")
        with client.chat.completions.stream(tool_choice=choice, parallel_tool_calls=False, **options) as stream:
            names = [event.type for event in stream]
            last = stream.get_final_completion()
        (streamed,) = last.choices[0].message.tool_calls
        assert streamed.function.arguments == call.function.arguments, (streamed, call)
        assert "tool_calls.function.arguments.delta" in names and "tool_calls.function.arguments.done" in names
    history = ask + [whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "21 C, sunny"}]
    answer = client.chat.completions.create(**(options | dict(messages=history, tool_choice="none")))
    assert answer.choices[0].message.content and answer.choices[0].message.tool_calls is None
    parsed = client.chat.completions.parse(
        model=model, messages=ask, tools=[openai.pydantic_function_tool(Weather, name="get_weather")], tool_choice=NAMED
    )
    assert isinstance(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)
    parsed = client.chat.completions.parse(model=model, messages=ask, response_format=Weather)
    assert isinstance(parsed.choices[0].message.parsed, Weather)


def openai_responses():
    tool = {"type": "function", **WEATHER["function"]}
    options = dict(model=model, input="How warm is it in Paris?", max_output_tokens=200, temperature=0)
    whole = client.responses.create(**options)
    assert whole.output_text and whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(**options) as stream:
        events = [event.type for event in stream]
        last = stream.get_final_response()
    assert last.output_text == whole.output_text
    assert events[:2] == ["response.created", "response.in_progress"], events
    assert client.responses.retrieve(whole.id).output_text == whole.output_text
    called = client.responses.create(
        tools=[tool], tool_choice={"type": "function", "name": "get_weather"}, **options
    )
    (call,) = [item for item in called.output if item.type == "function_call"]
    assert set(json.loads(call.arguments)) == {"city", "unit"}
    after = client.responses.create(
        model=model,
        previous_response_id=called.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "21 C"}],
        max_output_tokens=20,
    )
    assert after.previous_response_id == called.id and after.usage.input_tokens > whole.usage.input_tokens
    parsed = client.responses.parse(text_format=Weather, **options)
    assert isinstance(parsed.output_parsed, Weather), parsed
    client.responses.delete(whole.id)
    try:
        client.responses.retrieve(whole.id)
        raise SystemExit("a deleted response is still there")
    except openai.NotFoundError:
        pass


def instructor_default():
    import instructor

    patched = instructor.from_openai(client)
    found = patched.chat.completions.create(
        model=model, messages=ask, response_model=Weather, max_retries=0, max_tokens=200
    )
    assert isinstance(found, Weather)


def langchain():
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=url + "/v1", api_key="none", max_retries=0, max_tokens=200)
    bound = chat.bind_tools([Weather], tool_choice="Weather", strict=True)
    answer = bound.invoke("How warm is it in Paris?")
    (call,) = answer.tool_calls
    assert call["name"] == "Weather" and Weather(**call["args"])
    chunks = list(bound.stream("How warm is it in Paris?"))
    assert any(chunk.tool_call_chunks for chunk in chunks)
    for method in ("function_calling", "json_schema"):
        assert isinstance(chat.with_structured_output(Weather, method=method).invoke("Paris?"), Weather)


def pydantic_ai():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=url + "/v1", api_key="none")
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        agent = Agent(kind(model, provider=provider), output_type=Weather, retries=0)
        found = asyncio.run(agent.run("How warm is it in Paris?", model_settings={"max_tokens": 200}))
        assert isinstance(found.output, Weather), found


def real_round_trip():
    calls = []
    messages = [{"role": "system", "content": "Use the functions you are given, then answer in a sentence."}] + ask
    tool = json.loads(json.dumps(WEATHER))
    del tool["function"]["strict"]
    for _ in range(3):
        answer = client.chat.completions.create(model=model, messages=messages, tools=[tool], temperature=0, max_tokens=200)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        assert answer.choices[0].finish_reason == "tool_calls"
        for call in message.tool_calls:
            calls.append(json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21, "unit": "C"}'})
    assert calls and calls[0]["city"] == "Paris", (calls, messages)
    assert "21" in message.content, messages
    print("round trip:", calls, "->", message.content)


steps = [openai_chat, openai_responses]
for name, step in [("instructor", instructor_default), ("langchain_openai", langchain), ("pydantic_ai", pydantic_ai)]:
    try:
        __import__(name)
        steps.append(step)
    except ImportError:
        print("skipped:", name, "is not installed")
if round_trip:
    steps.append(real_round_trip)
for step in steps:
    step()
    print("tools:", step.__name__, "ok")
