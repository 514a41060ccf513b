#!/usr/bin/env python3
"""Writes what Jinja2 makes of small templates, in the environment of `transformers`.

    pip install transformers==4.56.2 jinja2==3.1.6
    tools/make_template_cases.py > crates/selfextend/tests/templates.json

Each case is [template, expected]; expected is null where Jinja2 raises an error. Templates hold
their own data. `tests/templates.rs` renders all of them. With file names as arguments it renders
those templates with a few conversations instead: [source, messages, expected].
"""
import json
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

DATA = """{%- set s = '  Hello, Wörld!  ' -%}
{%- set xs = [3, 1, 2] -%}
{%- set d = {'b': 1, 'a': [1, 2.5, none, true], 'é"<&>': 'x'} -%}
{%- set ms = [{'role': 'system', 'content': 'S'}, {'role': 'user', 'content': 'U1', 'n': 2}, {'role': 'assistant', 'content': none}, {'role': 'user', 'content': 'U2', 'n': 1}] -%}
"""

# Expressions over DATA.
EXPRESSIONS = """
s.strip()
s.strip(' !H')
s.lstrip()
s.rstrip()
'xxabcxx'.strip('x')
'xyabcyx'.lstrip('xy')
'xyabcyx'.rstrip('xy')
'\\x1c\\x1f a \\x85\\u2003'.strip() | tojson
s.upper()
s.lower()
'straße'.upper()
'straße'.casefold()
"they're BILL's friends".title()
"they're BILL's friends" | title
'hELLO wORLD'.capitalize()
'hELLO wORLD' | capitalize
'Hello'.swapcase()
'a,b,c'.split(',')
'a,b,c'.split(',', 1)
'a,b,c'.split(',', maxsplit=1)
'a,b,c'.split(sep=',')
'a,b,c'.rsplit(',', 1)
'a,b,c'.rsplit(',')
' a  b c '.split()
' a  b c '.split(none, 1)
' a  b c '.rsplit(none, 1)
' a  b c '.rsplit()
''.split()
''.split(',')
'a</think>b</think>c'.split('</think>')[-1]
'a</think>b</think>c'.split('</think>')[0].split('<think>')[-1]
'a</think>b'.partition('</think>')
'a</think>b</think>c'.rpartition('</think>')
'abc'.partition('x')
'abc'.rpartition('x')
'a\\nb\\r\\nc\\x0bd\\x0ce\\x1cf\\x85g\\u2028h\\ri'.splitlines() | tojson
'a\\nb\\r\\nc\\n'.splitlines(true) | tojson
'a\\nb\\r\\nc\\n'.splitlines(keepends=true) | tojson
'prefix-body'.removeprefix('prefix-')
'prefix-body'.removeprefix('x')
'body.py'.removesuffix('.py')
'body.py'.removesuffix('')
'7'.zfill(3)
'-7'.zfill(4)
'+7'.zfill(4)
'1234'.zfill(3)
'é'.zfill(3)
'a'.ljust(3) + '|'
'a'.rjust(3) + '|'
'a'.center(4) + '|'
'ab'.center(5) + '|'
'a'.center(4, '*')
'a'.ljust(3, '.')
'a'.rjust(3, '.')
'banana'.count('an')
'banana'.count('an', 2)
'banana'.count('')
'banana'.find('na')
'banana'.find('na', 3)
'banana'.find('na', 3, 5)
'banana'.rfind('na')
'banana'.find('x')
'banana'.index('na')
'banana'.rindex('na')
'banana'.index('x')
'äb'.find('b')
'banana'.startswith('ban')
'banana'.startswith(('x', 'ban'))
'banana'.startswith('na', 2)
'banana'.endswith('ana')
'banana'.endswith(('x', 'na'))
'banana'.replace('an', 'x')
'banana'.replace('an', 'x', 1)
'banana'.replace('', '-')
'banana' | replace('an', 'x')
'banana' | replace('an', 'x', 1)
'banana' | replace('an', 'x', count=1)
'a\\tb'.expandtabs(4)
'12'.isdigit()
'²'.isdigit()
'½'.isdigit()
'①٣'.isdigit()
'x'.isdigit()
'五'.isnumeric()
'--5'.zfill(5)
'Ab cd'.istitle()
'1A'.istitle()
'a\\tb\\n\\tc'.expandtabs()
dict({'a': 1}, b=2)
'½'.isnumeric()
'½'.isdecimal()
'٣'.isdecimal()
'aé'.isalpha()
'aé1'.isalnum()
' \\n'.isspace()
'\\x1c'.isspace()
'abc'.islower()
'ab1'.islower()
'ABC'.isupper()
'Ab Cd'.istitle()
'ab_1'.isidentifier()
'abc'.isascii()
''.isdigit()
', '.join(['a', 'b'])
','.join('abc')
','.join([1, 2])
'%s is %d' % ('a', 3)
'%5.2f|' % 3.14159
'%s' % 'a'
'{} is {}'.format('a', 3)
'{0} {1} {0}'.format('a', 'b')
'{x}'.format(x=3)
'{:>5}|{:<5}|{:^5}|{:05.1f}'.format('a', 'b', 'c', 3.14159)
'{{}}'.format()
'%s-%s' | format('a', 'b')
'abc'[0]
'abc'[-1]
'abc'[::-1]
'abcdef'[1:4]
'abcdef'[:-1]
'abcdef'[-3:]
'abcdef'[::2]
'abcdef'[4:1:-1]
'äöü'[1:]
'abc'[5:]
xs[::-1]
xs[::-2]
xs[-1:]
xs[1:][0]
xs[-2]
ms[1:]|length
ms[::-1][0].content
ms[-1]['role']
(1, 2, 3)
(1, 2, 3)[::-1]
(1,)
()
[1, 'a', none, true, 2.5, [1], {'a': 1}]
['it\\'s', "a\\"b", 'a\\nb', 'é', '\\x00', 'a\\\\b']
{'a': none, 1: true}
none
true
false
1.0
2.50
1e20
1e16
1e15
1e-5
1e-4
0.1 + 0.2
-0.0
7 / 2
6 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
2 ** 10
2 ** -1
2 ** 0.5
7.5 // 2
1 == 1.0
1 ~ 'a' ~ none ~ true
'a' * 3
'a' ~ 3
[1] + [2]
[1] * 2
not none
none or 'x'
'' or 'x'
0 and 1
xs and 'yes'
'a' if false
('a' if false) is undefined
'a' if xs else 'b'
1 < 2 < 3
3 in xs
4 not in xs
'ell' in s
'a' in d
'b' in {'b': none}
undefined_name
undefined_name is defined
undefined_name is not defined
undefined_name.attribute
undefined_name or 'fallback'
d.missing
d.missing is defined
d.missing is none
d['missing'] | default('x')
ms[2].content is none
none | default('x')
none | default('x', true)
'' | default('x', true)
undefined_name | default('x')
undefined_name | d('x')
d.get('b')
d.get('missing')
d.get('missing', 'x')
d.items() | list
d.keys() | list
d.values() | list
d | items | list
d | list
d | dictsort
d | dictsort(reverse=true)
{'b': 2, 'a': 3, 'B': 1} | dictsort
{'b': 2, 'a': 3} | dictsort(by='value')
{'b': 2, 'a': 3} | dictsort(false, 'value')
d | length
d.copy() | length
d.copy()
dict(a=1, b=2)
dict([('a', 1)])
xs | sort
xs | sort(reverse=true)
['b', 'A', 'c'] | sort
['b', 'A', 'c'] | sort(case_sensitive=true)
ms | selectattr('n', 'defined') | sort(attribute='n') | map(attribute='content') | list
ms | map(attribute='role') | list
ms | map(attribute='n', default=0) | list
['a', 'b'] | map('upper') | list
['a', 'b'] | map('upper') | join(',')
[' a ', 'b '] | map('trim') | list
['aa', 'ba'] | map('replace', 'a', 'x') | list
ms | selectattr('role', 'equalto', 'user') | list | length
ms | selectattr('role', 'eq', 'user') | map(attribute='content') | join(' ')
ms | selectattr('role', '==', 'user') | list | length
ms | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list
ms | selectattr('role', 'in', ['user', 'system']) | list | length
ms | rejectattr('content') | list | length
ms | selectattr('content') | list | length
ms | selectattr('content', 'none') | list | length
ms | selectattr('content', 'string') | list | length
[1, 2, 3, 4] | select('even') | list
[1, 2, 3, 4] | reject('odd') | list
[0, 1, '', 'a'] | select | list
[1, 2, 3] | select('greaterthan', 1) | list
[1, 2, 3] | select('>', 1) | list
[1, 2, 3] | select('divisibleby', 3) | list
xs | first
xs | last
[] | first
'abc' | first
'abc' | last
xs | max
xs | min
xs | sum
ms | selectattr('n', 'defined') | sum(attribute='n')
ms | groupby('role') | list | length
ms | groupby('role') | map(attribute='grouper') | list
[1, 1, 2] | unique | list
['a', 'A'] | unique | list
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, 'x') | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4, 5] | slice(3, 'x') | list
'abc' | list
'abc' | reverse
xs | reverse | list
'abc' | length
'äöü' | length
'äöü' | count
s | trim
'xxabx' | trim('x')
s | upper
s | lower
'<b>"&\\'' | e
'<b>"&\\'' | escape
'<b>' | safe
'<p>a</p>  b' | striptags
'a b  c' | wordcount
'a' | center(5) ~ '|'
'a\\nb\\n\\nc' | indent(2)
'a\\nb\\n\\nc' | indent(2, true)
'a\\nb\\n\\nc' | indent(2, first=true, blank=true)
'a\\nb' | indent('> ')
'a\\nb' | indent(width=4)
'the quick brown fox' | truncate(10)
'the quick brown fox' | truncate(10, true)
'the quick brown fox' | truncate(10, true, '…')
'the quick brown fox jumps' | wordwrap(10)
'a b&c/é' | urlencode
3.7 | int
'12' | int
'x' | int
'x' | int(5)
'0x1f' | int(0, 16)
'3.5' | float
'x' | float
3 | float
2.567 | round
2.567 | round(1)
2.5 | round
3.5 | round
2.567 | round(2, 'floor')
2.1 | round(method='ceil')
-3 | abs
1234567 | filesizeformat
1 | string
none | string
true | string
2.0 | string
[1, 'a'] | string
d | string
xs | string | length
(xs | string)[0]
1 | string | length
xs | join
xs | join(', ')
ms | join(', ', attribute='role')
d | tojson
d | tojson(indent=2)
d | tojson(2)
d | tojson(indent=0)
d | tojson(ensure_ascii=true)
d | tojson(ensure_ascii=false)
d | tojson(separators=(',', ':'))
d | tojson(separators=(', ', ': '), sort_keys=true)
{'b': {'d': 1, 'c': 2}, 'a': []} | tojson(sort_keys=true, indent=4)
{'b': {}, 'a': []} | tojson(indent=2)
[] | tojson(indent=2)
d | tojson(indent=2, separators=(',', ': '))
d | tojson(indent='\\t')
d | tojson(none)
d | tojson(true)
'😀é\\u2028\\x7f\\x00"\\\\/' | tojson
'😀é\\u2028\\x7f\\x00"\\\\/' | tojson(ensure_ascii=true)
1.0 | tojson
1e20 | tojson
1e-7 | tojson
0.1 | tojson
12345678901234567890 | tojson
true | tojson
none | tojson
(1, 2) | tojson
{1: 'a', true: 'b', none: 'c', 2.5: 'd'} | tojson
undefined_name | tojson
xs is sequence
d is mapping
s is string
1 is number
1.5 is float
1 is integer
true is integer
true is number
true is boolean
none is none
xs is iterable
s is iterable
d is iterable
s is sequence
d is sequence
1 is odd
2 is even
9 is divisibleby 3
9 is divisibleby(3)
'a' is in 'abc'
1 is in xs
1 is eq 1
1 is ne 2
1 is lt 2
2 is ge 2
1 is sameas 1
true is sameas true
true is true
false is false
1 is true
'abc' is lower
'ABC' is upper
'upper' is filter
'odd' is test
range is callable
s is callable
ms[0] | attr('role')
{'items': 3}.items is callable
range(3) | list
range(1, 7, 2) | list
range(3, 0, -1) | list
range(3)[1]
range(3) | length
[1, 2] is eq [1, 2]
{'a': 1} == {'a': 1}
'a' < 'b'
[1, 2] < [1, 3]
'1' == 1
none == false
xs.index(1)
xs.count(1)
xs.append(1)
d.update({'x': 1})
d.pop('a')
d.setdefault('a', 1)
namespace(a=1).a
namespace({'a': 2}).a
cycler('a', 'b').next()
1 / 0
s.nope()
s | nope
xs is nope
'a' + 1
none + 'a'
none.strip()
undefined_name.strip()
undefined_name + 'a'
undefined_name | length
undefined_name | list
undefined_name | upper
xs['a']
d.b.c
d.b.c.d
d['b']['c']
xs.0
xs[9]
xs[9] is defined
raise_exception('no')
'\\u00e9' == 'é'
'a\\qb'
0x1F
1_000
0b11
1.5e3
"a" "b"
'a'.__class__
""".strip("\n").split("\n")

# Whole templates, DATA before each.
TEMPLATES = [
    "{% for m in ms %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for m in ms %}{{ loop.previtem.role if loop.previtem is defined }}<{{ m.role }}>{{ loop.nextitem.role if not loop.last }};{% endfor %}",
    "{% for m in ms %}{{ loop.previtem is undefined }},{{ loop.nextitem is defined }};{% endfor %}",
    "{% for m in ms %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for m in ms if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}:{{ m.content }};{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}",
    "{% for c in 'abc' %}{{ c }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in undefined_name %}x{% else %}nothing{% endfor %}",
    "{% for x in none %}x{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}",
    "{% for x in xs recursive %}{{ x }}{% if x == 3 %}({{ loop([8, 9]) }}){% endif %}{% endfor %}",
    "{% set ns = namespace(n=0, found=false) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set n = 0 %}{% for x in xs %}{% set n = n + x %}{% endfor %}{{ n }}",
    "{% set a, b = (1, 2) %}{{ a }}{{ b }}",
    "{% set block %} text {{ s }} {% endset %}[{{ block }}]",
    "{% set block | upper | trim %} text {% endset %}[{{ block }}]",
    "{% macro f(a, b='x', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, 2) }}|{{ f(1, c=3) }}|{{ f() }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, a=3) }}",
    "{% macro f(a) %}{{ caller() }}{{ a }}{% endmacro %}{% call f('x') %}in{% endcall %}",
    "{% macro f(a) %}{{ caller(a) }}{% endmacro %}{% call(v) f('x') %}[{{ v }}]{% endcall %}",
    "{% macro f(a) -%}\n  {{ a }}\n{%- endmacro %}[{{ f('x') }}]{{ f('y') | length }}",
    "{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f.name }}{{ f.arguments }}",
    "{% macro f(a) %}{% for x in a %}{{ x }}{% endfor %}{% endmacro %}{% set r = f(xs) %}{{ r | upper }}{{ r is string }}",
    "{% filter upper %}text {{ 'a' }}{% endfilter %}",
    "{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% with a = 1, b = 'a' %}{{ a }}{{ b }}{% endwith %}",
    "{% with a = 1, b = d['a'], c = \"it's a\" %}{{ a }}{{ b }}{{ c }}{% endwith %}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}",
    "{% raw %}{{ not }} {% this %}{% endraw %}",
    "{# a comment {{ x }} #}text",
    "  {% if true %}\n  a\n  {% endif %}\n  b\n",
    "  {%- if true %}\n  a\n  {%- endif %}\n  b\n\n",
    "  {%+ if true %}\n  a\n  {%+ endif %}\n  b",
    "a {{- ' b ' -}} c",
    "a\n{{ 'b' }}\nc",
    "{{ 'a' }}\n\n",
    "\n\n{{ 'a' }}",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc",
    "{% if xs | length > 2 and 'a' in d %}yes{% elif false %}no{% else %}else{% endif %}",
    "{% if not (ms[0].role == 'user' or ms[0]['role'] == 'tool') %}ok{% endif %}",
    "{%- for message in ms %}\n    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n        {{- message['role'] }}\n    {%- endif %}\n{%- endfor %}",
    "{% generation %}a{% set x = 1 %}{% endgeneration %}{{ x is defined }}",
    "{%- generation -%} a {%- endgeneration -%} b",
    "{% if 'generation' in 'generation' %}the generation{% endif %}",
    "{% set loop_messages = ms[1:] %}{% for m in loop_messages %}{% if loop.index0 == loop_messages | length - 1 %}{{ m.content }}{% endif %}{% endfor %}",
    "{% set ns = namespace(i=-1) %}{% for m in ms[::-1] %}{% if ns.i < 0 and m.role == 'assistant' %}{% set ns.i = ms | length - 1 - loop.index0 %}{% endif %}{% endfor %}{{ ns.i }}",
    "{% for m in ms %}{{ '<|' + m['role'] + '|>\\n' + (m['content'] or '') | trim + '\\n' }}{% endfor %}",
    "{{ '<think>' in 'a<think>b' and ('a<think>b'.split('<think>') | last).lstrip('\\n') }}",
    "{% set x = ms | selectattr('role', 'equalto', 'system') | list %}{% if x %}{{ x[0].content }}{% endif %}",
    "{% set f = dict(a=[1]) %}{% for k, v in f.items() | list %}{{ k }}{{ v[0] }}{% endfor %}",
    "{% do xs.append(4) %}",
    "{{ xs | tojson if xs is not string and xs is iterable else xs }}",
    "{% set j = joiner(', ') %}{% for x in xs %}{{ j() }}{{ x }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}",
    "{% include 'other' %}",
    "{% if %}",
    "{{ 'a' ",
    "{% endfor %}",
    "{% block b %}text{% endblock %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% for x in xs %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor -%}\n",
    "{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | map('string') | join('+') }}",
    "{{ ms | map('tojson') | join('\\n') }}",
    "{{ (ms | first)['role'] }}{{ (ms | last).content }}",
    "{% set text = 'a' %}{% if true %}{% set text = 'b' %}{% endif %}{{ text }}",
    "{% for x in [1, 2] %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{{ {'a': {'b': [10, 20]}}.a.b[1] }}{{ {'items': 3}['items'] }}",
    "{%- set t = {'function': {'name': 'f', 'parameters': {'properties': {'x': {'type': 'string'}}, 'required': ['x']}}} -%}\n{{- t | tojson(indent=4) }}{% for n, p in t.function.parameters.properties | items %}{{ n }}: {{ p.type }}{% if n in t.function.parameters.required %} *{% endif %}{% endfor %}",
]


def render(source, **variables):
    try:
        return _compile_jinja_template(source).render(**variables)
    except Exception:
        return None


def whole_templates(files):
    """What published templates make of a few conversations."""
    user = {"role": "user", "content": "  Hi <b>\n"}
    answer = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes  "}
    system = {"role": "system", "content": "Be brief. /no_think"}
    conversations = [
        [user],
        [system, user],
        [user, answer, user],
        [system, user, answer, user],
        [user, user],
        [system],
        [],
        [answer, user],
    ]
    for file in files:
        source = open(file, encoding="utf-8").read()
        for messages in conversations:
            expected = render(
                source,
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                bos_token="<s>",
                eos_token="</s>",
            )
            print(json.dumps([file, messages, expected], ensure_ascii=False))


def main():
    if len(sys.argv) > 1:
        return whole_templates(sys.argv[1:])
    cases = ["{{ " + expression + " }}" for expression in EXPRESSIONS] + TEMPLATES
    print("[" + json.dumps(DATA, ensure_ascii=False) + ",")
    lines = [json.dumps([case, render(DATA + case)], ensure_ascii=False) for case in cases]
    print(",\n".join(lines) + "]")


if __name__ == "__main__":
    main()
