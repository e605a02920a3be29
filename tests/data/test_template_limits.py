"""A chat template that would run for hours or fill the memory is stopped, at any record."""

import random

import pytest
from test_encoding import CHATML_MARKED, TALK, byte_tokenizer

from ftkit.base.errors import UserError
from ftkit.data import encoding, template_limits

pytestmark = pytest.mark.heavy
GROW = "{% set n = namespace(x='x', l=[1]) %}{% for i in range(60) %}{% set "
A = "{% set a = 'a' * 99999 %}"
HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "{% set r = range(99999) | list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(9) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% set r = range(99999) | list %}{% for a in r recursive %}{{ loop(r) }}{% endfor %}",
    "{% set r = range(99999) | list %}{% for a in r %}{% if r == r[:] %}{% endif %}{% endfor %}",
    GROW + "n.x = n.x ~ n.x %}{% endfor %}", GROW + "n.x = n.x + n.x %}{% endfor %}",
    GROW + "n.l = n.l + n.l %}{% endfor %}", GROW + "n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
    "{% set x %}x{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "{% for a in range(99999) %}{% for b in range(99) %}" + "x" * 1000 + "{% endfor %}{% endfor %}",
    A + "{{ " + "~".join(["a"] * 999) + " }}", A + "{{ [a] * 99999 }}", A + "{{ ([a]*999)*999 }}",
    *(A + f"{{{{ {text} }}}}" for text in (
        "'x' * 10**9", "10**9 * 'x'", "9**9**9", "99999**99999", "'x' | center(10**9)",
        "'%*d' % (10**9, 1)", "'x'.center(10**9)", "'1'.zfill(10**9)", "'\t'.expandtabs(10**9)",
        "'%999999999d' % 1", "'%999999999d' | format(1)", "'{:>999999999}'.format(1)",
        "a | replace('a', a)", "a.replace('a', a)", "range(99999) | join(a)",
        "a.join([a] * 9999)", "'x' | indent(10**9)", "messages | tojson(indent=10**9)",
        "messages | batch(10**9, 'x') | list", "([a] * 9999) | tojson", "lipsum(n=99999)",
        "_budget._spend(-10**12)", "[[1]] | sum(start=[])", "('x' * 10**7) | wordwrap(1)",
        "[] | sum(start=[1])", "raise_exception('no')")),
]


@pytest.mark.parametrize("template", HOSTILE)
def test_a_template_without_end_is_refused_at_the_record_that_meets_it(template, monkeypatch):
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    tokenizer = byte_tokenizer("{% if '2' in messages[0].content %}" + template + "{% endif %}"
                               + CHATML_MARKED)
    records = [{"instruction": f"say {i}", "output": "x"} for i in range(4)]
    with pytest.raises(UserError, match=r"record 3: .*rejects this conversation \(.+\)"):
        encoding.encode_all(records, tokenizer)


REAL = [  # idioms of published templates: text is that of transformers' own rendering
    "{{ messages | length }}{{ messages[0]['content'].split('i')[-1] | trim }}",
    "{% for m in messages[::-1] if m.role == 'user' %}{{ loop.index0 % 2 }}{{ loop.last }}"
    "{% if loop.first %}{% continue %}{% endif %}{{ m.content | upper }}{% endfor %}",
    "{% macro show(m, n=1) %}{{ m.content * n }}{{ caller() if caller }}{% endmacro %}"
    "{% call show(messages[0], 3) %}!{% endcall %}{{ messages | tojson(indent=2) }}",
    "{% set ns = namespace(i=-1, s='') %}{% for m in messages %}{% set ns.i = ns.i + 1 %}"
    "{% set ns.s = ns.s ~ m.content ~ '\\n' %}{% endfor %}{{ ns.i }}{{ ns.s.strip() }}",
    "{% for m in messages recursive %}{{ m.content }}{% if loop.depth < 2 %}{{ loop(messages) }}"
    "{% endif %}{{ loop.length }}{{ loop.previtem.role if loop.previtem }}{% endfor %}",
    "{{ '%s: %s' % (messages[0].role, 2) }}{{ '{}-{:>4}'.format(1, 2) }}{{ '%5d' | format(3) }}",
    "{{ messages | map(attribute='role') | unique | join(', ') }}{{ range(3) | sum }}"
    "{{ (messages | selectattr('role', 'equalto', 'user') | list | last).content }}{{ 2 ** 3 }}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }}{% endfor %}"
    "{{ dict(a=1) }}{{ x is defined }}",
    "{%- set x -%} {{ messages[0].content }} {%- endset -%}{{ x | indent(4, first=true) }}"
    "{{ eos_token }}",
    CHATML_MARKED,
]


@pytest.mark.parametrize("template", REAL)
def test_a_template_within_the_limits_writes_what_it_writes_in_transformers(template):
    tokenizer, rng = byte_tokenizer(template), random.Random(0)
    for ask in (False, True):
        chat = TALK["messages"][: rng.randint(1, 4)]
        assert template_limits.compiled(template).render(
            tokenizer.special_tokens_map, messages=chat, tools=None, documents=None,
            add_generation_prompt=ask, _budget=template_limits.Budget(),
        ) == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)
