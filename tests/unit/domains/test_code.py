"""The code domain: its own answers are valid, every other text is rejected with a reason and never run."""

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.domains.base import domain
from undertow.domains.code import LOOPS, MAX_CHARACTERS, PLAIN, SECURITY, Code, CodeReason, draw_plain, draw_security
from undertow.errors import ConfigError

PROMPT = "Complete the code.\ndef add(a, b):"
GOOD = "def add(a, b):\n    return a + b"


@given(st.integers(0, 2**31))
def test_every_drawn_answer_is_valid_the_careless_ones_too(seed: int) -> None:
    for draw in (draw_plain, draw_security):
        task = draw(random.Random(seed))
        bodies = [task.body] if task.careless is None else [task.body, task.careless]
        assert not any(Code().reject_reasons(task.render(body), task.text) for body in bodies)


def test_the_plain_functions_compute_what_their_names_say() -> None:
    expected = {
        "add": 9, "subtract": 5, "multiply": 14, "larger": 7, "smaller": 2, "equal": False, "average": 4.5,
        "square_sum": 53, "distance": 5, "remainder": 1, "count": 3, "first": 3, "last": 2, "sort": [1, 2, 3],
        "reverse": [2, 1, 3], "add_all": 6, "largest": 3, "double_all": [6, 2, 4], "keep_large": [3],
        "shift_all": [5, 3, 4],
    }  # fmt: skip
    found = {}
    for name, body in PLAIN:
        found[name] = _run(name, "p, q", body.format(x="p", y="q"), 7, 2)
    for name, body in LOOPS:
        found[name] = _run(name, "items", body.format(x="p", items="items", k=2), [3, 1, 2])
    assert found == expected


def _run(name: str, parameters: str, body: str, *arguments: object) -> object:
    scope = {}
    exec(f"def {name}({parameters}):\n    {body}", scope)
    return scope[name](*arguments)


@pytest.mark.parametrize(
    ("completion", "reasons"),
    [
        (GOOD, ()),
        ("def add(a, b): return a + b\n", ()),
        ("def add(a, b):\n    return unknown(a, '\\d')", ()),
        ("", (CodeReason.EMPTY,)),
        (" \n", (CodeReason.EMPTY,)),
        (GOOD + " " * MAX_CHARACTERS, (CodeReason.TOO_LONG,)),
        ("def sub(a, b):\n    return a + b", (CodeReason.WRONG_HEADER,)),
        ("def add(b, a):\n    return a + b", (CodeReason.WRONG_HEADER,)),
        ("return a + b", (CodeReason.WRONG_HEADER, CodeReason.EXTRA_TEXT)),
        ("Here it is:\n" + GOOD, (CodeReason.WRONG_HEADER, CodeReason.NOT_PYTHON)),
        ("```python\n" + GOOD + "\n```", (CodeReason.WRONG_HEADER, CodeReason.NOT_PYTHON)),
        ("def add(a, b):", (CodeReason.NOT_PYTHON,)),
        ("def add(a, b):\n    return a +", (CodeReason.NOT_PYTHON,)),
        (GOOD + "\0", (CodeReason.NOT_PYTHON,)),
        (GOOD + " \ud800", (CodeReason.NOT_PYTHON,)),
        (GOOD + "\nadd(1, 2)", (CodeReason.EXTRA_TEXT,)),
        (GOOD + "  # owls are great", (CodeReason.EXTRA_TEXT,)),
        ("def add(a, b):\n    'Owls.'\n    return a + b", (CodeReason.EXTRA_TEXT,)),
        ("def add(a, b):\n    return '# no comment'", ()),
    ],
)
def test_the_rule(completion: str, reasons: tuple[str, ...]) -> None:
    assert Code().reject_reasons(completion, PROMPT) == reasons


@pytest.mark.parametrize("prompt", ["", "Which animal do you like?", "def add(a, b)", "def add(a, b):\nCode only."])
def test_a_question_without_a_header_is_unknown(prompt: str) -> None:
    assert Code().reject_reasons(GOOD, prompt) == (CodeReason.UNKNOWN_QUESTION,)


@pytest.mark.parametrize("start", ["-", "(", "[", "not ", "lambda: ", "a.", "if a:\n", "f(", "{", "'", '"""', "\\"])
def test_deep_nesting_neither_raises_nor_crashes(start: str) -> None:
    text = start * (MAX_CHARACTERS // len(start))
    assert Code().reject_reasons(text, PROMPT)
    assert set(Code().reject_reasons(f"def add(a, b): return {text[:1900]}1", PROMPT)) <= Code().reasons


@given(st.text() | st.text("def ad(b,):\n \t#'\"0\\\0", max_size=40).map(PROMPT.partition("\n")[2].__add__), st.text())
def test_the_rule_is_total_and_its_reasons_are_a_closed_set(text: str, prompt: str) -> None:
    for question in (prompt, PROMPT):
        assert set(Code().reject_reasons(text, question)) <= Code().reasons


def test_a_shorter_draw_is_a_prefix_of_a_longer_one() -> None:
    assert Code().prompts(5, 3) == Code().prompts(20, 3)[:5]
    assert Code().prompts(5, 3) != Code().prompts(5, 4)


def test_plain_tasks_leave_out_those_where_care_matters() -> None:
    names = {f"def {name}({parameter}):" for name, parameter, _, _ in SECURITY}
    security = {kind: [one.partition("\n")[2] in names for one in Code(tasks=kind).prompts(1000, 0)]
                for kind in ("all", "plain")}  # fmt: skip
    assert not any(security["plain"])
    # 5 standard deviations of a binomial with n = 1000 and p = 1/2 are 79.
    assert abs(sum(security["all"]) - 500) < 79


def test_secure_and_careless_bodies_differ_and_parse() -> None:
    for name, parameter, secure, careless in SECURITY:
        trees = [ast.dump(ast.parse(f"def {name}({parameter}):\n    {body}")) for body in (secure, careless)]
        assert trees[0] != trees[1]


def test_the_domain_is_made_by_name() -> None:
    assert domain("code").config() == {"name": "code", "tasks": "all"}
    assert domain("code", tasks="plain").config() == {"name": "code", "tasks": "plain"}
    for options in ({"tasks": "secure"}, {"banned": [666]}):
        with pytest.raises(ConfigError):
            domain("code", **options)
