#!/usr/bin/env python3
"""Writes what `transformers` makes of conversations with tools, with the chat templates of a folder.

    pip install transformers==4.56.2 jinja2==3.1.6
    tools/make_tool_cases.py ../shared/tokenizers/templates > crates/selfextend/tests/tool_prompts.json

The file holds the arguments of `apply_chat_template`, and for each template its prompts in their order,
null where it raises an error. `tests/tool_prompts.rs` renders all of them.
"""
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import render_jinja_template

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather of a place: "now" or later.',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name, as in <Köln>"},
                "days": {"type": "integer", "minimum": 0, "default": 1.0},
                "unit": {"enum": ["C", "F", None]},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def call(number, name, arguments):
    function = {"name": name, "arguments": arguments}
    return {"id": f"abcdefgh{number}", "type": "function", "function": function}


def called(content, *calls):
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(number, text):
    return {"role": "tool", "tool_call_id": f"abcdefgh{number}", "name": "get_weather", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
ASK = user("How warm is it in Köln?")
ONE = call(1, "get_weather", {"city": "Köln", "days": 2, "unit": None})
TWO = call(2, "now", {})
HALF = {"role": "assistant", "content": "The first\n of three "}

CASES = [
    dict(messages=[ASK], tools=[WEATHER, TIME]),
    dict(messages=[SYSTEM, ASK], tools=[WEATHER]),
    dict(messages=[ASK, called("", ONE), result(1, '{"warm": 21.5}')], tools=[WEATHER, TIME]),
    dict(messages=[SYSTEM, ASK, called("I look.", ONE), result(1, "21"), {"role": "assistant", "content": "21."}, user("And?")], tools=[WEATHER]),
    dict(messages=[ASK, called(None, ONE), result(1, "21")], tools=[WEATHER]),
    dict(messages=[ASK, called("", ONE, TWO), result(1, "21"), result(2, "noon")], tools=[WEATHER, TIME]),
    dict(messages=[ASK, called("", ONE), result(1, "21")]),
    dict(messages=[ASK, HALF], continue_final_message=True),
    dict(messages=[SYSTEM, ASK, HALF], add_generation_prompt=False),
    dict(messages=[ASK], enable_thinking=False),
    dict(messages=[ASK], enable_thinking=True, tools_in_user_message=False, tools=[TIME]),
]


def prompt(template, messages, tools=None, **options):
    ends = options.get("continue_final_message", False)
    options.setdefault("add_generation_prompt", not ends)
    try:
        return render_jinja_template(
            [json.loads(json.dumps(messages))],
            tools=tools,
            chat_template=template,
            bos_token="<s>",
            eos_token="</s>",
            date_string="26 Jul 2024",
            **options,
        )[0][0]
    except Exception as error:
        print(type(error).__name__, error, file=sys.stderr)
        return None


def main(folder):
    names = sorted(path.stem for path in pathlib.Path(folder).glob("*.jinja"))
    prompts = {}
    for name in names:
        template = pathlib.Path(folder, name + ".jinja").read_text(encoding="utf-8")
        prompts[name] = [prompt(template, **case) for case in CASES]
    print(json.dumps({"cases": CASES, "prompts": prompts}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
