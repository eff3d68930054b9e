#!/usr/bin/env python3
"""Conversations rendered by transformers' own renderer, for tests/engine/text.

Templates: those of published models, given as NAME=FILE (a Jinja file, or a tokenizer_config.json), and the made ones of
MADE. Every conversation is rendered by every template, with and without tools, thinking and continuation.
Needs: pip install transformers jinja2. Usage: template_goldens.py OUT.json NAME=FILE...
"""
import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

MADE = {
    "macros": """{%- macro field(name, value, end='\\n') -%}
{{ name }}={{ value | tojson }}{{ end }}
{%- endmacro %}
{%- macro list_fields(object) -%}
{%- for key, value in object.items() %}{{ field(key, value, end=';') }}{% endfor -%}
{%- endmacro %}
{%- set separator = '--' %}
{%- macro closing() %}{{ separator }}{{ bos_token is defined }}{% endmacro %}
{%- for message in messages %}
{{- field('role', message.role) }}
{{- field(value=message.content, name='content') }}
{%- if message.tool_calls %}[{{ message.tool_calls | map(attribute='function.name') | join(', ') }}]
{%- for call in message.tool_calls %}{{ list_fields(call.function) }}{% endfor %}{% endif %}
{{- closing() }}
{% endfor %}
{%- if tools is not none %}{{ tools | selectattr('function', 'defined') | list | length }} {{ tools | map(attribute='type') | reject('equalto', 'x') | join('|') }}
{{ tools | tojson(indent=2) }}{% endif %}
{%- if add_generation_prompt %}assistant:{% endif %}""",
    "dates": """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%Y")[:0] ~ "clock" %}
    {%- endif %}
{%- endif %}
{{- "Today: " + date_string }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '[' + message['role'] + ']' + (message['content'] or '') | trim }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}}
    {%- else %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if builtin_tools is defined %}{{ builtin_tools | reject('equalto', 'code') | join(", ") }}{% endif %}""",
}

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a \"city\" <now> & later — é",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Köln", "東京"]},
                                                    "days": {"type": "integer", "minimum": 0, "maximum": 1.5}},
                   "required": ["city"]}}}
EMPTY_TOOL = {"type": "function", "function": {"name": "now", "parameters": {}}}


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "What is 2+2? "}],
    [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there! "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
     {"role": "user", "content": "c \"q\" \\ émoji 😀\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "because\n"},
     {"role": "user", "content": "c"}, {"role": "assistant", "content": "<think>x</think>d"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather?"},
     {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Köln", "days": 2})]},
     {"role": "tool", "content": "{\"temp\": 21.5}", "name": "get_weather"}],
    [{"role": "user", "content": "Weather?"},
     {"role": "assistant", "content": "Let me see.",
      "tool_calls": [call("get_weather", {"city": "東京"}), call("now", {})]},
     {"role": "tool", "content": "rain"}, {"role": "tool", "content": "noon"},
     {"role": "assistant", "content": "It rains at noon."}, {"role": "user", "content": "Thanks"}],
    [{"role": "user", "content": "x"},
     {"role": "assistant", "content": "", "tool_calls": [call("f", "{\"already\": \"text\"}")]},
     {"role": "tool", "content": "<tool_response>odd</tool_response>"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": ""}, {"role": "assistant", "content": "  lead"}],
    [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}, {"role": "system", "content": "late"}],
    [{"role": "tool", "content": "alone"}, {"role": "user", "content": "{{ not code }} {% raw %}"}],
    [{"role": "user", "content": "long " * 50}, {"role": "assistant", "content": "line\n\n  indented\n\ttab"}],
]

OPTIONS = [
    {}, {"add_generation_prompt": True}, {"add_generation_prompt": True, "tools": [WEATHER]},
    {"tools": [WEATHER, EMPTY_TOOL]}, {"add_generation_prompt": True, "arguments": {"enable_thinking": False}},
    {"add_generation_prompt": True, "arguments": {"enable_thinking": True, "date_string": "01 Feb 2025"}},
    {"continue_final_message": True},
    {"tools": [WEATHER], "arguments": {"tools_in_user_message": False, "builtin_tools": ["code", "search"]}},
]


def source_of(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return json.loads(text)["chat_template"] if path.endswith(".json") else text


def render(source, messages, options):
    arguments = {"date_string": "26 Jul 2024", **options.get("arguments", {})}
    rendered, _ = render_jinja_template(
        [json.loads(json.dumps(messages))], tools=options.get("tools"), chat_template=source,
        add_generation_prompt=options.get("add_generation_prompt", False),
        continue_final_message=options.get("continue_final_message", False), **TOKENS, **arguments)
    return rendered[0]


def main(out, *named):
    sources = MADE | {name: source_of(path) for name, path in (entry.split("=", 1) for entry in named)}
    cases = []
    for name, source in sources.items():
        for messages in CONVERSATIONS:
            for options in OPTIONS:
                case = {"template": name, "messages": CONVERSATIONS.index(messages), "options": OPTIONS.index(options)}
                try:
                    case["text"] = render(source, messages, options)
                except Exception as error:  # refused by the template, or beyond what Jinja computes
                    case["error"] = f"{type(error).__name__}: {error}"[:100]
                cases.append(case)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"sources": sources, "conversations": CONVERSATIONS, "options": OPTIONS, "cases": cases}, file, ensure_ascii=False, indent=0, separators=(",", ":"))
    for name in sources:
        own = [case for case in cases if case["template"] == name]
        print(name, len(own), "renderings,", sum("error" in case for case in own), "refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
