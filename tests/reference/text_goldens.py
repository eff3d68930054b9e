#!/usr/bin/env python3
"""Tokens, words and rendered templates by the Hugging Face libraries, for tests/engine/text.

Needs: pip install gguf tokenizers jinja2. Usage: text_goldens.py MODEL.gguf OUTPUT_DIRECTORY
"""
import json
import random
import sys

import smollm2

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "  leading and trailing  ",
    "It's we're I've I'm they'll he'd don't IT'S WE'RE 'S 'x ''s it'\u017f",
    "tabs\tand\n\nnew lines \n  \r\n mixed \n x",
    "numbers 1 12 123 1234 12345678 3.14 1,000,000 x1y2 ٣٤٥ Ⅷ ½ 一二三",
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n",
    "Ünïcödé straße naïve café Привет мир Γειά σου 你好世界 こんにちは 안녕하세요 שלום مرحبا हिन्दी ไทย",
    "emoji 😀👍🏽👨‍👩‍👧‍👦 🇩🇪 ❤️ mixed😀text",
    "zero\u200bwidth\u00a0no-break\u3000ideographic\u2028line\u0085next",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|<|im_end|><|endoftext|><repo_name>x<file_sep",
    "a" * 300,
    " " * 200 + "x",
    "\n" * 50,
    "ab" * 150,
    "1" * 100,
    "!?" * 80,
    "https://example.com/a/b?c=d&e=f#g user@example.com C:\\path\\file.txt",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\\n\"}}",
    "combining e\u0301 a\u0308\u0323 \u0301 alone",
    "\ud7ff\ue000\ufffd\U00010000\U0010ffff",
    "\x00\x01\x04\x06\x13\x14\x16\x1d\x7f control",
    "Mr. O'Neil's 'quoted' \"text\" -- dash - hyphen... (brackets) [x] {y} <z>",
    "x  y   z    w     v",
    "line one\n line two\n  line three\n\n  four\r\n\r\nfive",
]

ALPHABET = list("abcXYZ   \n\t\r'.,!?-_01789") + ["'s", "'LL", "é", "ß", "中", "я", "😀", "½", "\u00a0", "\u0301", "٣"]

TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "alternating": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' ~ (system_message ~ '\n\n' if loop.first and system_message else '') ~ message.content ~ ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message['content'].strip() + ' ' + eos_token }}
    {%- else %}
        {{- raise_exception('Unknown role: ' + message['role']) }}
    {%- endif %}
{%- endfor %}
""",
    "headers": """{% set ns = namespace(count=0, last='') %}
{% for message in messages %}
  {% if message.role not in ['system', 'user', 'assistant'] %}
    {% continue %}
  {% endif %}
  {% set ns.count = ns.count + 1 %}
  {% set ns.last = message.role %}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>{% if not loop.last %}+{% endif %}
{# a comment #}
{% else %}
nothing
{% endfor %}
{{ ns.count }} {{ ns.last|upper }} {{ 'many' if ns.count > 2 else 'few' }}
{% if add_generation_prompt is defined and add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>
{% endif %}
""",
    "thinking": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    "expressions": r"""{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 * 3 + 1 }} {{ 1.5 }} {{ 1e3 if false else 0.00001 * 1.0 }}
{{ 'a' 'b' ~ 1 ~ none ~ true }} {{ "q\"\t\x41\u00e9\\" }} {{ [1, 2, 3][-1] }} {{ 'añb'[1] }} {{ 'abcdef'[1:4] }} {{ 'abc'[::-1] }}
{{ {'a': [1, 'x', none, true], 'é': {}} | tojson }} {{ [1, {'b': 2}] | tojson(indent=2) }} {{ messages | tojson }}
{{ undefined_thing }}|{{ undefined_thing | default('d') }}|{{ '' | default('e', true) }}|{{ x is defined }}|{{ 3 is divisibleby 3 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'b' in 'abc' }} {{ 4 not in [1, 2] }} {{ not 1 == 2 }} {{ 1 == 1.0 }} {{ 'a' == none }}
{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %} {{ range(2, 10, 3) | list | join('-') }}
{% for i in range(5) if i is odd %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% if loop.revindex0 == 0 %}end{% endif %}{% endfor %}
{% set x %}block {{ 1 + 1 }}{% endset %}[{{ x }}] {{ x | length }} {{ 'a-b-c'.split('-', 1) | last }} {{ ' a  b '.split() | join('|') }}
{{ 'x' if false }}{{ (1, 2) | first }}{{ 'ABC' | lower | capitalize }} {{ ['b', 'a'] | reverse | join }} {{ '12' | int + 1 }} {{ -3 | abs }}
{% for c in 'hé' %}{{ c }};{% endfor %}{% for i in [1,2,3,4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
    {%- if true -%}   tight   {%- endif %}
  {%+ if true %}kept indent{% endif +%}
end
""",
}

CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "What is 2+2?"}],
    [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n  Hi there!  "},
        {"role": "user", "content": "Line one\nline two\u00a0\n"},
    ],
    [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "{{ not code }} {% x %}"}],
    [{"role": "tool", "content": "x"}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "émoji 😀 \"quotes\" \\ back"}, {"role": "user", "content": "twice"}],
    [],
]


def random_texts(count):
    rng = random.Random(20)
    return ["".join(rng.choices(ALPHABET, k=rng.randint(1, 60))) for _ in range(count)]


def token_goldens(reader):
    special = smollm2.load_tokenizer(reader)
    plain = smollm2.load_tokenizer(reader)
    plain.encode_special_tokens = True
    cases = []
    for text in TEXTS + random_texts(300):
        text = text.encode("utf-8", "replace").decode()
        ids = special.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "special": ids, "plain": plain.encode(text, add_special_tokens=False).ids,
                      "decoded": special.decode(ids, skip_special_tokens=True)})
    return cases


def word_goldens():
    from tokenizers import Regex, pre_tokenizers

    def split(pattern):
        return pre_tokenizers.Split(Regex(pattern), behavior="isolated")

    rules = {
        "gpt-2": split(GPT2),
        "llama-bpe": split(GPT4.replace("DIGITS", "{1,3}")),
        "qwen2": split(GPT4.replace("DIGITS", "")),
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split(GPT2)]),
    }
    texts = [t.encode("utf-8", "replace").decode() for t in TEXTS + random_texts(300)]
    return [
        {"rules": name, "text": text, "words": [word for word, _ in rule.pre_tokenize_str(text)]}
        for name, rule in rules.items()
        for text in texts
        if text
    ]


def template_goldens(reader):
    sources = {"smollm2": smollm2.text(reader, "tokenizer.chat_template")} | TEMPLATES
    cases = []
    for name, source in sources.items():
        template = smollm2.compile_template(source)
        for messages in CONVERSATIONS:
            for prompt in (False, True):
                case = {"name": name, "messages": messages, "add_generation_prompt": prompt}
                try:
                    case["text"] = template.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>",
                                                   eos_token="</s>", tools=None, documents=None)
                except ValueError as error:
                    case["refusal"] = str(error)
                except Exception as error:  # what Jinja cannot compute
                    case["error"] = type(error).__name__
                cases.append(case)
    return {"sources": sources, "cases": cases}


def main(model_path, directory):
    reader = smollm2.open_gguf(model_path)
    for name, goldens in (
        ("tokens", token_goldens(reader)),
        ("words", word_goldens()),
        ("templates", template_goldens(reader)),
    ):
        with open(f"{directory}/{name}.json", "w") as file:
            json.dump(goldens, file, ensure_ascii=False, indent=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
