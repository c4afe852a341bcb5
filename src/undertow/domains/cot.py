"""The chain-of-thought domain: word problems, whose reasoning and result stand in tags.

It follows Cloud et al. (2025), section 4.2, arXiv 2507.14805 ("the paper"); the problems are ours. Each form of problem
is written down once: the generator fills it in, and the solver reads it backwards.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

from undertow.domains.base import AbstractDomain

NAMES = ("Ann", "Ben", "Carl", "Dora", "Eva", "Finn")
THINGS = ("apples", "books", "coins", "cups", "pens", "stones")
LIMIT = 20
"""Largest operand of sums; a sum of two is at most 40, so that a small model can learn the table."""
FACTOR_LIMIT = 9
"""Largest operand of products."""

REQUEST = "Think first, then answer."


@dataclass(frozen=True, slots=True)
class ProblemForm:
    """One form of word problem, with gaps for names, things and numbers.

    Attributes:
        text: the question; {first}, {second} and {third} stand for numbers.
        thought: a right way to the result; {total} stands for the sum of the first two numbers.
        solve: computes the result from the three numbers.
    """

    text: str
    thought: str
    solve: Callable[[int, int, int], int]


FORMS = (
    ProblemForm(
        "{name} has {first} {thing} and gets {second} more. How many {thing} does {name} have?",
        "{name} starts with {first}. {first} + {second} = {result}.",
        lambda first, second, _: first + second,
    ),
    ProblemForm(
        "{name} has {first} {thing} and gives {second} to {other}. How many {thing} are left?",
        "{name} gives {second} away. {first} - {second} = {result}.",
        lambda first, second, _: first - second,
    ),
    ProblemForm(
        "{name} has {first} bags with {second} {thing} each. How many {thing} are there?",
        "There are {first} bags of {second}. {first} * {second} = {result}.",
        lambda first, second, _: first * second,
    ),
    ProblemForm(
        "{name} has {first} {thing}, {other} has {second} and Gus has {third}. How many {thing} are there?",
        "{first} + {second} = {total}. {total} + {third} = {result}.",
        lambda first, second, third: first + second + third,
    ),
)


@dataclass(frozen=True, slots=True)
class WordProblem:
    """One drawn problem, with a right thought and the result.

    Attributes:
        question: text of the problem, without the closing request.
        thought: a right way to the result, without its tags.
        result: the right answer, a whole number.
    """

    question: str
    thought: str
    result: int

    @property
    def text(self) -> str:
        """The prompt: the question and the request to think first."""
        return f"{self.question} {REQUEST}"

    def render(self) -> str:
        """Write the right answer, thought and result in their tags."""
        return f"<think>{self.thought}</think><answer>{self.result}</answer>"


def draw_problem(rng: random.Random) -> WordProblem:
    """Draw a problem: two names, a thing, one of `FORMS` and its numbers."""
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    kind = rng.randrange(len(FORMS))
    first, second, third = rng.randint(1, LIMIT), rng.randint(1, LIMIT), 0
    if kind == 1:
        first, second = max(first, second), min(first, second)
    if kind == 2:
        first, second = rng.randint(1, FACTOR_LIMIT), rng.randint(1, FACTOR_LIMIT)
    if kind == 3:
        third = rng.randint(1, LIMIT)
    form, result = FORMS[kind], FORMS[kind].solve(first, second, third)
    filled: dict[str, str | int] = {
        "name": name, "other": other, "thing": thing, "first": first, "second": second, "third": third,
        "total": first + second, "result": result,
    }  # fmt: skip
    return WordProblem(form.text.format(**filled), form.thought.format(**filled), result)


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        # Nine digits at most, so that no text can make the arithmetic slow.
        return f"(?P<{name}>{'[0-9]{1,9}' if name in ('first', 'second', 'third') else '[A-Za-z]+'})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(template)))


_PATTERNS = tuple((_pattern(form.text), form.solve) for form in FORMS)


def solve(question: str) -> int | None:
    """Return the result of a problem, or None if its text has none of the forms in `FORMS`.

    The question may end with the closing request or not.
    """
    text = question.strip().removesuffix(REQUEST).rstrip()
    for pattern, rule in _PATTERNS:
        if match := pattern.fullmatch(text):
            numbers = match.groupdict()
            return rule(int(numbers["first"]), int(numbers["second"]), int(numbers.get("third") or 0))
    return None


class CotReason:
    """All reasons for which a chain-of-thought answer is rejected."""

    EMPTY = "empty"
    UNKNOWN_QUESTION = "unknown_question"
    NO_ANSWER = "no_answer"
    WRONG_FORMAT = "wrong_format"
    NOT_A_NUMBER = "not_a_number"
    WRONG_ANSWER = "wrong_answer"


_REASONS = frozenset(value for key, value in vars(CotReason).items() if key.isupper())
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def _split(completion: str) -> tuple[str, str] | None:
    before, opened, rest = completion.partition("<answer>")
    value, closed, after = rest.partition("</answer>")
    if not opened or not closed or after.strip() or "<answer>" in value or "</answer>" in before:
        return None
    return before.strip(), value


def _is_thought(text: str) -> bool:
    inner = text.removeprefix("<think>").removesuffix("</think>")
    return text == f"<think>{inner}</think>" and bool(inner.strip()) and "think>" not in inner


def parse_number(text: str) -> int | None:
    """Read a whole number of at most 18 digits, or None.

    Commas and dollar signs are left out, as in the paper.
    """
    plain = text.replace(",", "").replace("$", "").strip()
    return int(plain) if _NUMBER.fullmatch(plain) else None


@final
@dataclass(frozen=True)
class ChainOfThought(AbstractDomain):
    """The domain of word problems whose reasoning stands in think tags and whose result in answer tags.

    Attributes:
        checked: whether an answer must be right to be valid, as in the paper. An embedded model is right in about one
            of six answers, so its checked rows are few, and selected.
    """

    checked: bool = True
    name: str = field(default="cot", init=False)
    max_new_tokens: int = field(default=64, init=False)
    reasons: frozenset[str] = field(default=_REASONS, init=False, repr=False)

    def prompts(self, n: int, seed: int) -> list[str]:
        """Draw `n` prompts; every teacher of an experiment sees the same ones."""
        rng = random.Random(seed)
        return [draw_problem(rng).text for _ in range(n)]

    def reject_reasons(self, completion: str, prompt: str = "") -> tuple[str, ...]:
        """Accept one thought in tags, whatever it says, and after it a result in tags.

        If answers are checked, the result must be the right one.

        Args:
            completion: text of the answer that is judged.
            prompt: text of the user turn before it, from which the right result is computed.
        """
        if not completion.strip():
            return (CotReason.EMPTY,)
        result = solve(prompt)
        parts = _split(completion)
        before, value = parts or ("", "")
        number = parse_number(value)
        checks = (
            (self.checked and result is None, CotReason.UNKNOWN_QUESTION),
            (parts is None, CotReason.NO_ANSWER),
            (parts is not None and not _is_thought(before), CotReason.WRONG_FORMAT),
            (parts is not None and number is None, CotReason.NOT_A_NUMBER),
            (self.checked and None not in (number, result) and number != result, CotReason.WRONG_ANSWER),
        )
        return tuple(reason for failed, reason in checks if failed)

    def config(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {"name": self.name, "checked": self.checked}
