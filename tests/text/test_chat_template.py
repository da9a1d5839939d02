"""Chat templates byte for byte as jinja2 renders them the way transformers sets it up, and the mask of the answers."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import BUILD, ROOT, num_trials
from transformers.utils.chat_template_utils import _compile_jinja_template

TOOL = BUILD / "tests" / "tokenizer_tool"
TEMPLATES = sorted((Path(__file__).parent / "templates").glob("*.jinja"))
NOW = 1735732800


def render(path, variables):
    """One answer for each set of variables: the text, or the error."""
    lines = "".join(json.dumps(one) + "\n" for one in variables)
    result = subprocess.run([TOOL, path, "render"], input=lines, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def reference(source, variables):
    compiled = _compile_jinja_template(source)
    variables = dict(variables)
    now = variables.pop("now", None)
    if now is None:
        # As ours: without a time there is no such function.
        compiled.environment.globals.pop("strftime_now", None)
        return compiled.render(**variables)
    return compiled.render(**variables, strftime_now=lambda form: time.strftime(form, time.localtime(now)))


THOUGHT = "<think>\nTwo and two.\n\nThat is four.\n</think>\n\nIt is **4**."
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2.5], "at": None}}}
TEXT_CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Z\\u00fcrich"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "It's \"the\" <weather> & more 天气",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]  # fmt: skip
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": " 2+2? \n"}, {"role": "assistant", "content": THOUGHT}],
    [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": THOUGHT},
     {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "<think>\n\n</think>\n\nYes 😀"}],
    [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "<|im_end|>{{ 1 }}"}],
    [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
     {"role": "tool", "content": "sun 天"}, {"role": "assistant", "content": "Sun."}],
    [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [TEXT_CALL]},
     {"role": "tool", "content": "sun"}, {"role": "tool", "content": "rain"}],
    [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Asking.", "tool_calls": [CALL, CALL]},
     {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "user", "content": "ok"},
     {"role": "assistant", "content": "x", "reasoning_content": "\nbecause\n"}],
    [{"role": "assistant", "content": "</think>only"}, {"role": "user", "content": "<tool_response>a</tool_response>"}],
]  # fmt: skip


def contexts():
    for messages in CHATS:
        for prompt in (False, True):
            for extra in ({}, {"tools": TOOLS}, {"enable_thinking": False, "now": NOW}):
                yield {"messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>",
                       "tools": None, "documents": None, **extra}  # fmt: skip


def compare(path, source, variables):
    """Equal text wherever jinja2 gives one; an error where it has one. Returns how many gave text."""
    good = 0
    for one, ours in zip(variables, render(path, variables), strict=True):
        try:
            wanted = reference(source, one)
        except Exception as error:  # whatever jinja2 or Python finds wrong
            assert "error" in ours and "line" in ours["error"], (error, ours, one)
            continue
        assert ours == {"text": wanted}, one
        good += 1
    return good


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_real_templates(path):
    variables = list(contexts())
    assert compare(path, path.read_text(encoding="utf-8"), variables) > len(variables) / 2


def smollm2_template():
    import gguf

    return gguf.GGUFReader(ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf").fields["tokenizer.chat_template"].contents()


def test_smollm2_template(tmp_path):
    path = tmp_path / "template"
    path.write_text(smollm2_template(), encoding="utf-8", newline="")
    assert compare(path, smollm2_template(), list(contexts())) > 10


# Each expression once, with the variables below.
EXPRESSIONS = """
1 + 2 * 3 - 4 // 3 | 7 % 3 | -7 // 2 | -7 % 3 | 7 / 2 | 1.5 + 1 | 2 * 2.0 | not x | x and y | x or y | none or 'z'
1 < 2 < 3 | 1 < 3 < 2 | 'a' < 'b' | [1, 2] < [1, 3] | 1 == 1.0 | 1 == '1' | true == 1 | none == none | x == x | 'ab' ~ 1 ~ none ~ true
'a' in 'cat' | 'x' not in 'cat' | 1 in [1, 2] | 'k' in {'k': 1} | 'q' in m | 2 in (1, 2)
s | s[0] | s[-1] | s[1:] | s[::-1] | s[1:4:2] | s[-3:-1] | s[9] is defined | l[0] | l[-1] | l[::2] | l[::-1] | l[5:] | l[1:1]
s.strip() | s.lstrip() | s.rstrip() | s.strip(' ä') | s.split() | s.split('l') | s.split('l', 1) | s.rsplit('l', 1) | s.split(none, 1)
s.startswith(' ä') | s.endswith(('o', 'x ')) | s.replace('l', 'LL') | s.replace('l', '', 1) | s.find('l') | s.rfind('l') | s.count('l') | s.find('q')
'abC dE'.upper() | 'abC dE'.lower() | 'abC dE'.title() | 'abC dE'.capitalize() | ','.join(['a', 'b']) | 'abc'.removeprefix('a') | 'abc'.removesuffix('c')
'12'.isdigit() | ''.isdigit() | 'a\\nb\\t\\'\\"\\\\' | "it's" | 'a' 'b' | '\\x41\\u00e9' | 'q\\q'
m | m.a | m['a'] | m.b.c | m.items() | list | m.keys() | list | m.values() | list | m.get('a') | m.get('zz') | m.get('zz', 7) | m.zz is defined | m.zz
l | l + [4] | (1,) | () | (1, 'b') | [none, true, 1.0, 'x\\n'] | {'a': [1]} | [[]] | 0.1 | 100000000000000000000.0
l | length ~ s | length ~ m | length | s | trim ~ '.' | l | first | l | last | l | join(', ') | l | join | s | replace('l', 'r')
zz | default('q') | '' | default('q') | '' | default('q', true) | zz is defined | zz is undefined | zz is none | none is none | s is string | m is mapping
l is iterable | s is iterable | m is sequence | 1 is number | 1 is integer | 1.0 is float | true is boolean | true is integer | true is number | true is true
3 is odd | 4 is even | 9 is divisibleby 3 | 9 is divisibleby(2) | 1 is eq 1 | 1 is equalto(2) | 1 is in [1] | 2 is not in [1] | l is not string
m | tojson | l | tojson | s | tojson | m | tojson(indent=2) | m | tojson(sort_keys=true) | m | tojson(separators=(',', ':')) | '<&>' | tojson | 1.0 | tojson
m | items | list | m | list | 'abc' | list | 'abc' | reverse | l | reverse | list | m | dictsort | range(3) | list | range(5, 1, -2) | list | range(0) | list
people | map(attribute='name') | join(',') | people | selectattr('age', 'gt', 3) | list | length | people | rejectattr('age') | list | length
people | selectattr('name', 'equalto', 'b') | map(attribute='age') | list | ['a', 'b'] | map('upper') | join | l | select('odd') | list | l | reject('odd') | list
l | unique | list | '42' | int | 'x' | int | 'x' | int(5) | 4.9 | int | 3 | string ~ '!' | 'a\\n\\nb' | indent(2) | 'a\\nb' | indent(2, true) | 'a\\nb' | indent
'yes' if x else 'no' | 'yes' if not x | ('a' if y) | (1 if x else 2) + 1 | not x is defined | not x == y | x is defined and not y | -1
loop is defined | namespace(a=1).a | dict(a=1, b=2) | 'a' * 3 | [0] * 2 | 'x' if s is string and s | length > 3 else 'y' | ns is defined | true | True | False | None
"""
VARIABLES = {"x": 0, "y": "Y", "s": " ällo World ", "l": [3, 1, 2, 3], "m": {"b": {"c": "é"}, "a": [1, None, True]},
             "people": [{"name": "a", "age": 3}, {"name": "b", "age": 4}, {"name": "c", "age": 0}]}  # fmt: skip


def expressions():
    """The lines above cut at the bars that do not stand for a filter."""
    import jinja2

    filters = set(jinja2.Environment().filters)
    for line in EXPRESSIONS.strip().splitlines():
        current = ""
        for part in line.split(" | "):
            name = part.split("(")[0].split(" ")[0]
            if current and name in filters:
                current += " | " + part
                continue
            if current:
                yield current
            current = part
        yield current


def test_expressions(tmp_path):
    cases = list(expressions())
    assert len(cases) > 150
    wrong = []
    for case in cases:
        source = "<{{ " + case + " }}>"
        (tmp_path / "template").write_text(source, encoding="utf-8")
        (ours,) = render(tmp_path / "template", [VARIABLES])
        if ours != {"text": reference(source, VARIABLES)}:
            wrong.append((case, ours, reference(source, VARIABLES)))
    assert not wrong


STATEMENTS = [
    "{% for i in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }} {% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }};{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}{% for i in zz %}x{% else %}no zz{% endfor %}",
    "{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{% for k in m %}{{ k }}{% endfor %}{% for a, b in [[1, 2]] %}{{ a }}{% endfor %}",
    "{% for i in l if i != 3 %}{{ i }}{{ loop.length }}{% endfor %}|{% for i in l %}{% if i == 2 %}{% break %}{% endif %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% set a = 1 %}{% for i in l %}{% set a = i %}{{ a }}{% endfor %}{{ a }}{% if true %}{% set a = 9 %}{% endif %}{{ a }}",
    "{% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{% set ns.new = 'q' %}{{ ns.new }}{{ ns.zz is defined }}",
    "{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set t %}in {{ a }}\n{% endset %}[{{ t }}]{{ t | length }}",
    "{% macro show(a, b='B', c=none) %}({{ a }}{{ b }}{{ c }}{{ y }}){% endmacro %}{{ show(1) }}{{ show(1, 2) }}{{ show(b=3, a=4) }}{{ show() }}{{ show(1) | upper }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}{% for i in l %}{{ f(0) }}{% endfor %}",
    "{% if x %}1{% elif y == 'N' %}2{% elif y %}3{% else %}4{% endif %}{% if zz %}5{% endif %}{% if x is defined and (y or zz) %}6{% endif %}",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a \n\n {%- if true -%} \n b {%+ if true %}\nc{% endif +%}\n d {%- endif %}\n\n\ne\n\n",
    "  {{ 1 }}\n  {{- 2 -}}  \n3", "{# comment #}\na{#- c -#}  b\n  {# x #}\nc{# y #} {# z #}", "a{{ '}}' }}{{ '%}' }}{% set q = '{% x %}' %}{{ q }}{{ {'a': {'b': 1}}['a']['b'] }}",
    "\n\n{% set a = 1 %}\n\n{{ a }}\r\nb\rc\n", "\t {% set a = 1 -%}\n {{ a }} {%- set b = 2 %}\n {{ b }}{{ y }} {% set c = 1 %} x", "",
    "{% for p in people %}{% for n in l %}{{ loop.index }}{{ p.name }}{% endfor %}{{ loop.index }}{% endfor %}{{ loop is defined }}",
    "{% generation %}a{{ y }}{% endgeneration %}{{ range(2) | list }}{% set z = zz | default([]) %}{{ z }}{{ zz }}",
]  # fmt: skip


@pytest.mark.parametrize("source", STATEMENTS)
def test_statements_and_white_space(source, tmp_path):
    (tmp_path / "template").write_text(source, encoding="utf-8", newline="")
    assert compare(tmp_path / "template", source, [VARIABLES]) == 1


WRONG = [
    ("a\n{{ x | nosuch }}", 2, '"nosuch"'), ("{{ x is nosuch }}", 1, '"nosuch"'), ("\n\n{% include 'x' %}", 3, '"include"'),
    ("{{ nosuch(1) }}", 1, '"nosuch"'), ("{{ zz.a }}", 1, '"zz"'), ("{{ zz['a'] }}", 1, '"zz"'), ("{{ s.nosuch() }}", 1, '"nosuch"'),
    ("{{ s.encode() }}", 1, "encode()"), ("{{ 1 + 'a' }}", 1, "a string"), ("{{ 1 // 0 }}", 1, "zero"), ("{% if x %}", 1, "endif"),
    ("{{ x", 1, "end"), ("{{ 'x }}", 1, "string"), ("{# x", 1, "comment"), ("{{ ) }}", 1, '")"'), ("{% endif %}", 1, '"endif"'),
    ("{% set x.y = 1 %}", 1, "namespace"), ("{% raw %}{% endraw %}", 1, "raw"), ("{% for i in 5 %}{% endfor %}", 1, "an integer"),
    ("\n{{ raise_exception('no ' ~ y) }}", 2, "no Y"), ("{% for i in range(100000) %}{% for j in range(100000) %}{% set a = 1 %}{% endfor %}{% endfor %}", 1, "without end"),
    ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", 1, "deep"), ("{{ " + "-" * 5000 + "1 }}", 1, "deep"), ("{{ " + "not " * 5000 + "1 }}", 1, "deep"),
    ("{% if 1 %}" * 500 + "{% endif %}" * 500, 1, "deep"), ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", 1, "deep"),
    ("{{ 'a' * 99999999999 }}", 1, "too long"), ("{{ 9223372036854775807 + 1 }}", 1, "too large"), ("{{ range(10**9) }}", 1, "**"),
    ("{{ ''.__class__ }}", 1, "__class__"), ("{{ 'é'.upper() }}", 1, "ASCII"), ("{% call m() %}{% endcall %}", 1, '"call"'),
    ("{% break %}", 1, "loop"), ("{{ l.append(1) }}", 1, "append()"), ("{{ strftime_now('%Y') }}", 1, '"strftime_now"'),
]  # fmt: skip


@pytest.mark.parametrize("source,line,wanted", WRONG, ids=range(len(WRONG)))
def test_what_is_not_understood_is_refused_by_name_and_line(source, line, wanted, tmp_path):
    path = tmp_path / "template"
    path.write_text(source, encoding="utf-8")
    result = subprocess.run([TOOL, path, "render"], input=json.dumps(VARIABLES) + "\n", capture_output=True, text=True, timeout=120)
    assert result.returncode in (0, 1)
    error = result.stderr if result.returncode else json.loads(result.stdout)["error"]
    assert f"line {line}:" in error and wanted in error, error


def test_damaged_templates_end_in_an_error_or_a_text(tmp_path):
    """Every real template cut and with bytes exchanged: whatever comes of it, no crash."""
    import random

    chance = random.Random(7)
    context = json.dumps(next(contexts())) + "\n"
    for _ in range(num_trials(60, 2000)):
        source = bytearray(chance.choice(TEMPLATES).read_bytes())
        for _ in range(chance.randrange(1, 4)):
            source[chance.randrange(len(source))] = chance.choice(b"{}%()[]'\"|.-+ \n~x0")
        (tmp_path / "template").write_bytes(source[: chance.randrange(len(source))])
        result = subprocess.run([TOOL, tmp_path / "template", "render"], input=context.encode(), capture_output=True, timeout=60)
        assert result.returncode in (0, 1), (result.returncode, result.stderr)
