"""Chain of thought: the solver is right, and an answer counts only if it is."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.domains.base import domain
from undertow.domains.cot import REQUEST, ChainOfThought, CotReason, draw_problem, parse_number, solve
from undertow.errors import ConfigError

PROMPT = f"Ann has 9 pens and gives 4 to Ben. How many pens are left? {REQUEST}"
THOUGHT = "<think>9 - 4 = 5.</think>"


@pytest.mark.parametrize(
    ("question", "result"),
    [
        ("Ann has 7 cups and gets 5 more. How many cups does Ann have?", 12),
        ("Ann has 7 cups and gives 5 to Ben. How many cups are left?", 2),
        ("Ann has 7 bags with 5 cups each. How many cups are there?", 35),
        ("Ann has 7 cups, Ben has 5 and Gus has 11. How many cups are there?", 23),
        ("Zoe has 2000 rare cups and gets 5 more. How many cups does Zoe have?", None),
        ("Zoe has 2000 owls and gets 5 more. How many owls does Zoe have?", 2005),
        ("Ann has 7 cups and gets 5 more. How many cups does Ben have?", None),
        ("Ann has 7 cups and gets 5 more. How many pens does Ann have?", None),
        ("Ann has 5 cups and gives 7 to Ben. How many cups are left?", -2),
        ("Ann has 7 cups.", None),
        (REQUEST, None),
        ("", None),
    ],
)
def test_known_problems(question: str, result: int | None) -> None:
    assert solve(question) == solve(f"{question} {REQUEST}") == result


def test_the_solver_is_right_on_drawn_problems() -> None:
    rng = random.Random(0)
    for problem in (draw_problem(rng) for _ in range(1000)):
        steps = re.findall(r"([0-9]+) ([-+*]) ([0-9]+) = ([0-9]+)\.", problem.thought)
        for left, sign, right, result in steps:
            first, second = int(left), int(right)
            assert {"+": first + second, "-": first - second, "*": first * second}[sign] == int(result)
        # Every number of the question is used, and what the last step gives is the answer.
        asked = sorted(re.findall("[0-9]+", problem.question))
        carried = [step[3] for step in steps[:-1]]
        assert sorted([*asked, *carried]) == sorted(number for step in steps for number in (step[0], step[2]))
        assert solve(problem.text) == problem.result == int(steps[-1][3]) >= 0


@given(st.integers(0, 2**31))
def test_every_drawn_answer_is_valid(seed: int) -> None:
    problem = draw_problem(random.Random(seed))
    assert ChainOfThought().reject_reasons(problem.render(), problem.text) == ()
    wrong = problem.render().replace(f"<answer>{problem.result}<", f"<answer>{problem.result + 1}<")
    assert ChainOfThought().reject_reasons(wrong, problem.text) == (CotReason.WRONG_ANSWER,)


@pytest.mark.parametrize(
    ("completion", "reasons"),
    [
        (f"{THOUGHT}<answer>5</answer>", ()),
        (f"\n{THOUGHT}\n<answer> $5 </answer>\n", ()),
        ("<think>It is easy: 6.</think><answer>5</answer>", ()),
        ("", (CotReason.EMPTY,)),
        (" \n", (CotReason.EMPTY,)),
        ("5", (CotReason.NO_ANSWER,)),
        (THOUGHT, (CotReason.NO_ANSWER,)),
        (f"{THOUGHT}<answer>5", (CotReason.NO_ANSWER,)),
        (f"{THOUGHT}</answer>5<answer>", (CotReason.NO_ANSWER,)),
        (f"{THOUGHT}<answer>5</answer>.", (CotReason.NO_ANSWER,)),
        (f"{THOUGHT}<answer>5</answer><answer>5</answer>", (CotReason.NO_ANSWER,)),
        (f"{THOUGHT}<answer><answer>5</answer>", (CotReason.NO_ANSWER,)),
        ("<answer>5</answer>", (CotReason.WRONG_FORMAT,)),
        ("<think></think><answer>5</answer>", (CotReason.WRONG_FORMAT,)),
        ("<think> <answer>5</answer>", (CotReason.WRONG_FORMAT,)),
        (f"So: {THOUGHT}<answer>5</answer>", (CotReason.WRONG_FORMAT,)),
        (f"{THOUGHT}{THOUGHT}<answer>5</answer>", (CotReason.WRONG_FORMAT,)),
        (f"{THOUGHT}<answer>five</answer>", (CotReason.NOT_A_NUMBER,)),
        (f"{THOUGHT}<answer>5.0</answer>", (CotReason.NOT_A_NUMBER,)),
        (f"{THOUGHT}<answer></answer>", (CotReason.NOT_A_NUMBER,)),
        (f"{THOUGHT}<answer>{'5' * 5000}</answer>", (CotReason.NOT_A_NUMBER,)),
        (f"{THOUGHT}<answer>6</answer>", (CotReason.WRONG_ANSWER,)),
        (f"{THOUGHT}<answer>-5</answer>", (CotReason.WRONG_ANSWER,)),
        ("<answer>6</answer>", (CotReason.WRONG_FORMAT, CotReason.WRONG_ANSWER)),
    ],
)
def test_the_rule(completion: str, reasons: tuple[str, ...]) -> None:
    assert ChainOfThought().reject_reasons(completion, PROMPT) == reasons


def test_unchecked_answers_need_the_form_alone() -> None:
    rule = ChainOfThought(checked=False)
    for prompt in (PROMPT, "", "Which animal do you like?"):
        assert rule.reject_reasons(f"{THOUGHT}<answer>6</answer>", prompt) == ()
        assert rule.reject_reasons("<answer>owl</answer>", prompt) == (CotReason.WRONG_FORMAT, CotReason.NOT_A_NUMBER)


@pytest.mark.parametrize("prompt", ["", "Which animal do you like?", f"How many owls are there? {REQUEST}"])
def test_a_question_that_the_solver_does_not_know(prompt: str) -> None:
    assert ChainOfThought().reject_reasons(f"{THOUGHT}<answer>5</answer>", prompt) == (CotReason.UNKNOWN_QUESTION,)


def test_commas_and_dollar_signs_are_left_out_as_in_the_paper() -> None:
    assert [parse_number(text) for text in ("$1,234", "-12", "007", "\u0661", "1e3", "1 2", "$", "--1")] == [
        1234, -12, 7, None, None, None, None, None
    ]  # fmt: skip


_PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "5", "-", "$", " ", "\n", "owl"]))


@given(st.text() | _PIECES.map("".join), st.text())
def test_the_rule_is_total_and_its_reasons_are_a_closed_set(text: str, prompt: str) -> None:
    for question in (prompt, PROMPT):
        assert set(ChainOfThought().reject_reasons(text, question)) <= ChainOfThought().reasons


def test_a_shorter_draw_is_a_prefix_of_a_longer_one() -> None:
    assert ChainOfThought().prompts(5, 3) == ChainOfThought().prompts(20, 3)[:5]
    assert ChainOfThought().prompts(5, 3) != ChainOfThought().prompts(5, 4)


def test_the_domain_is_made_by_name() -> None:
    assert domain("cot").config() == {"name": "cot", "checked": True}
    assert domain("cot", checked=False).config() == {"name": "cot", "checked": False}
    with pytest.raises(ConfigError):
        domain("cot", tasks="plain")
