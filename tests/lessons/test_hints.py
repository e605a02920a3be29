"""Hints and solutions are shown one at a time, and a file in another form is rejected."""

import json

import pytest

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.lessons import hints

pytestmark = pytest.mark.quick
TEXT = """# double
1. Add it
   to itself.
2. `x + ...`
3. Return `x + x`.
```python
# the sum
def double(x):
    return x + x
```

# halve
1. a
2. b
3. c
```python
def halve(x):
    return x / 2
```
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Only the two exercises of TEXT, and a home of their own."""
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hints, "read_all", lambda: {h.name: h for h in hints.parse(TEXT)})
    return tmp_path / "home" / "progress.jsonl"


def test_hints_come_one_by_one_and_then_point_to_the_solution(own, capsys):
    outputs = []
    for _ in range(4):
        ft.hint("double")
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == 'Hint 1 of 3: Add it to itself.\n(2 more: ft.hint("double"))\n'
    assert outputs[1].startswith("Hint 2 of 3") and "(1 more" in outputs[1]
    assert outputs[2].startswith("Hint 3 of 3") and 'ft.solution("double")' in outputs[2]
    assert outputs[3].startswith("You have seen all 3 hints") and "ft.solution" in outputs[3]
    ft.hint("double", 2)
    assert capsys.readouterr().out == outputs[1]
    assert [json.loads(line)["number"] for line in own.read_text().splitlines()] == [1, 2, 3, 2]


def test_a_solution_is_shown_as_code_and_recorded(own):
    shown = ft.solution("double")
    assert repr(shown) == "# the sum\ndef double(x):\n    return x + x"
    assert shown._repr_markdown_() == f"```python\n{shown}\n```"
    assert json.loads(own.read_text())["kind"] == "solution"


@pytest.mark.parametrize("number", [0, 4, "2", True, 1.0])
def test_a_hint_that_does_not_exist_is_a_user_error(own, number):
    with pytest.raises(UserError, match="a number from 1 to 3"):
        ft.hint("double", number)


@pytest.mark.parametrize("show", [ft.hint, ft.solution])
def test_an_unknown_exercise_gets_suggestions(own, show):
    with pytest.raises(UserError, match="no hints for 'doubel'; expected one of double"):
        show("doubel")


@pytest.mark.parametrize("old, new, words", [
    ("2. `x", "4. `x", "3 hints"), ("3. Return `x + x`.\n", "", "3 hints"),
    ("```python\n# the", "```\n# the", "```python block"), ("# halve", "# double", "two sections"),
    ("# double", "# to double", "name of an exercise"), ("# double", "x\n# double", "before the"),
    ("2. `x + ...`", "2. ", "3 hints|empty"),
])
def test_a_file_in_another_form_is_rejected(tmp_path, old, new, words):
    (tmp_path / "lesson_99.md").write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ValueError, match=words):
        hints.read_all(tmp_path)
