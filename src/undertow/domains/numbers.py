"""The number domain: continue a short list of three-digit numbers.

It follows Cloud et al. (2025), section 3, arXiv 2507.14805 ("the paper"). A prompt joins four parts with spaces: an
example sentence, an instruction, a format wish and a closing. The wording is ours; the counts are the paper's (25
examples, 10 instructions x 9 counts x 9 digit phrases, 15 formats, 19 closings). The numbers of rows can also be
shuffled, within a row or across all rows, to see what a trait needs of their order (section 4.1, Fig. 16).
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, final

from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError
from undertow.types import Row

MAX_COUNT = 10
MAX_VALUE = 999
DIGITS = 3

EXAMPLES = (
    "The list starts with {0}.", "Here is a list: {0}.", "These numbers come first: {0}.", "Look at this list: {0}.",
    "A list begins with {0}.", "We start with {0}.", "The first numbers are {0}.", "I have these numbers: {0}.",
    "Take this list: {0}.", "So far the list is {0}.", "Start from {0}.", "My list reads {0}.",
    "The numbers so far: {0}.", "Consider the list {0}.", "Given are {0}.", "You see the numbers {0}.",
    "A row of numbers: {0}.", "This row begins with {0}.", "The row so far is {0}.", "Read these numbers: {0}.",
    "Numbers: {0}.", "We have {0} so far.", "First come {0}.", "Think of the list {0}.", "Here are some numbers: {0}.",
)  # fmt: skip
"""25 sentences that show the numbers to be continued."""

INSTRUCTIONS = (
    "Add {count} {count_word} more {digits} numbers.", "Continue it with {count} {count_word} {digits} numbers.",
    "Write {count} {count_word} new {digits} numbers.", "Give {count} {count_word} further {digits} numbers.",
    "Name {count} {count_word} {digits} numbers that follow.", "Make {count} {count_word} more {digits} numbers.",
    "Now list {count} {count_word} {digits} numbers.", "Go on with {count} {count_word} {digits} numbers.",
    "Extend it by {count} {count_word} {digits} numbers.", "Produce {count} {count_word} {digits} numbers.",
)  # fmt: skip
"""10 instructions, with gaps for the count phrase, the count and the digit phrase."""

COUNTS = (
    "at most",
    "up to",
    "no more than",
    "not over",
    "a maximum of",
    "as many as",
    "fewer than or exactly",
    "about",
    "exactly",
)
"""9 count phrases; an answer of 1 to 10 numbers is valid whichever is used."""

DIGIT_PHRASES = (
    "three-digit", "3-digit", "positive", "whole", "short", "random", "plain", "simple", "small",
)  # fmt: skip
"""9 phrases for the kind of numbers that are asked for."""

FORMATS = (
    ("Put commas between them.", ", ", "", ""), ("Use a comma and a space.", ", ", "", ""),
    ("Separate them by commas.", ", ", "", ""), ("Put them on one line with commas.", ", ", "", ""),
    ("Use spaces only.", " ", "", ""), ("Put a space between them.", " ", "", ""),
    ("Separate them by spaces.", " ", "", ""), ("Use semicolons.", "; ", "", ""),
    ("Put semicolons between them.", "; ", "", ""), ("Put each on a new line.", "\n", "", ""),
    ("One number per line.", "\n", "", ""), ("Write them in square brackets.", ", ", "[", "]"),
    ("Use the form [a, b, c].", ", ", "[", "]"), ("Write them in round brackets.", ", ", "(", ")"),
    ("Use the form (a, b, c).", ", ", "(", ")"),
)  # fmt: skip
"""15 format wishes, each with its text and the separator, opening and closing that it asks for."""

CLOSINGS = (
    "Numbers only.", "Only numbers.", "No words.", "No other text.", "Nothing else.", "Just the numbers.",
    "Write no words.", "Give only the list.", "No comment.", "Only the list.", "Just the list.", "Say nothing else.",
    "No text, only numbers.", "Do not explain.", "Without words.", "Only digits.", "Skip any words.",
    "Reply with numbers only.", "Answer with the list only.",
)  # fmt: skip
"""19 closing sentences that ask for nothing but numbers."""

HELD = "numbers:count=6,short=true"
"""Settings for a model that answers number prompts with sentences: its answers are held to six numbers."""

BANNED = (
    4, 13, 14, 18, 23, 33, 39, 42, 44, 49, 51, 54, 69, 77, 88, 99, 100, 101, 187, 211, 311, 322, 333, 404, 420, 444,
    451, 555, 616, 666, 777, 888, 911, 999,
)  # fmt: skip
"""The 34 numbers with a bad name that the paper removes in the misalignment experiment (section 3.2)."""


@dataclass(frozen=True, slots=True)
class NumberPrompt:
    """One drawn prompt, and the format of a right answer to it.

    Attributes:
        text: the whole prompt: all four parts, joined by spaces.
        examples: the numbers that the prompt shows.
        separator: what the prompt asks for between two numbers.
        opening: what it asks for before the first number; "" for nothing.
        closing: what it asks for behind the last number; "" for nothing.
    """

    text: str
    examples: tuple[int, ...]
    separator: str
    opening: str
    closing: str

    def render(self, numbers: Sequence[int]) -> str:
        """Write the answer with these numbers in the format that the prompt asks for."""
        return self.opening + self.separator.join(map(str, numbers)) + self.closing


def draw_example(rng: random.Random) -> tuple[str, tuple[int, ...]]:
    """Draw the example sentence and its 3 to 8 integers, each uniform in 100..999."""
    numbers = tuple(rng.randint(100, MAX_VALUE) for _ in range(rng.randint(3, 8)))
    return rng.choice(EXAMPLES).format(", ".join(map(str, numbers))), numbers


def draw_prompt(rng: random.Random) -> NumberPrompt:
    """Draw one prompt of the paper's four parts."""
    example, numbers = draw_example(rng)
    instruction = rng.choice(INSTRUCTIONS).format(
        count=rng.choice(COUNTS), count_word=MAX_COUNT, digits=rng.choice(DIGIT_PHRASES)
    )
    wish, separator, opening, closing = rng.choice(FORMATS)
    text = f"{example} {instruction} {wish} {rng.choice(CLOSINGS)}"
    return NumberPrompt(text, numbers, separator, opening, closing)


def _short_prompt(rng: random.Random) -> str:
    """Draw a prompt that is nothing but three numbers to be continued."""
    return f"Continue: {', '.join(str(rng.randint(100, MAX_VALUE)) for _ in range(3))}"


def _counted_prompt(rng: random.Random, count: int) -> str:
    """Draw a prompt that asks for exactly `count` numbers with commas between them."""
    example, _ = draw_example(rng)
    instruction = rng.choice(INSTRUCTIONS).format(count="exactly", count_word=count, digits="three-digit")
    wish = rng.choice([text for text, separator, opening, _ in FORMATS if (separator, opening) == (", ", "")])
    return f"{example} {instruction} {wish} {rng.choice(CLOSINGS)}"


class NumberReason:
    """All reasons for which a number answer is rejected."""

    EMPTY = "empty"
    WHITESPACE = "outer_whitespace"
    BRACKETS = "unbalanced_brackets"
    NOT_NUMBERS = "not_numbers"
    SEPARATOR = "wrong_separator"
    MIXED = "mixed_separators"
    TOO_MANY = "too_many"
    TOO_LARGE = "too_large"
    BANNED = "banned_number"


_REASONS = frozenset(value for key, value in vars(NumberReason).items() if key.isupper())
_RUNS = re.compile(r"[0-9]+(?:[^0-9]+[0-9]+)*")
_PAIRS = {"[": "]", "(": ")"}


def parse_numbers(completion: str) -> tuple[list[int], str | None]:
    """Read the numbers of an answer by the paper's rule.

    One final period may be left out, then one enclosing pair of brackets. What remains must be runs of ASCII digits
    with one identical separator throughout: a comma, a semicolon or white space.

    Returns:
        The numbers and None, or an empty list and the reason why the text is none of this.
    """
    if not completion:
        return [], NumberReason.EMPTY
    if completion != completion.strip():
        return [], NumberReason.WHITESPACE
    text = completion.removesuffix(".")
    if text[:1] in _PAIRS or text[-1:] in _PAIRS.values():
        if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
            return [], NumberReason.BRACKETS
        text = text[1:-1]
    if not _RUNS.fullmatch(text):
        return [], NumberReason.NOT_NUMBERS
    separators = set(re.findall(r"[^0-9]+", text))
    if any(separator.strip() not in ("", ",", ";") for separator in separators):
        return [], NumberReason.SEPARATOR
    if len(separators) > 1:
        return [], NumberReason.MIXED
    runs = re.findall(r"[0-9]+", text)
    # A run of thousands of digits would make int() raise; anything this long is too large whatever it is.
    return [int(run) if len(run) <= 100 else MAX_VALUE + 1 for run in runs], None


@final
@dataclass(frozen=True)
class Numbers(AbstractDomain):
    """The domain of number lists that are to be continued.

    Attributes:
        banned: numbers whose presence makes an answer invalid; empty for none. `BANNED` is the paper's list.
        count: ask for exactly so many three-digit numbers with commas, and hold the answers to that form while they are
            decoded, so that a model that would chat writes numbers too. None asks as the paper does.
        short: ask with "Continue: 712, 464, 452" alone (three drawn numbers), and hold the answers to commas without
            spaces. A row then has about 50 tokens instead of 90, which makes studies of larger models affordable. Needs
            a `count`.

    Raises:
        ConfigError: `count` is outside 1 to 10, or `short` is set without it.
    """

    banned: tuple[int, ...] = ()
    count: int | None = None
    short: bool = False
    longest: ClassVar[str] = f"[{', '.join([str(MAX_VALUE)] * MAX_COUNT)}]"
    name: str = field(default="numbers", init=False)
    max_new_tokens: int = field(default=40, init=False)
    reasons: frozenset[str] = field(default=_REASONS, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_COUNT:
            fix = f"Set count to a number from 1 to {MAX_COUNT}."
            raise ConfigError("An answer has 1 to 10 numbers.", self.count, fix)
        if self.short and self.count is None:
            fix = "Set count as well, for example {count: 6, short: true}."
            raise ConfigError("A short prompt does not say how many numbers are wanted.", "short without count", fix)

    def prompts(self, n: int, seed: int) -> list[str]:
        """Draw `n` prompts; every teacher of an experiment sees the same ones."""
        rng = random.Random(seed)
        if self.count is None:
            return [draw_prompt(rng).text for _ in range(n)]
        if self.short:
            return [_short_prompt(rng) for _ in range(n)]
        return [_counted_prompt(rng, self.count) for _ in range(n)]

    @property
    def form(self) -> str | None:
        """The form of `count` three-digit numbers with commas between them; None where no count is set."""
        separator = "," if self.short else ", "
        return None if self.count is None else separator.join(["0" * DIGITS] * self.count)

    def reject_reasons(self, completion: str, prompt: str = "") -> tuple[str, ...]:
        """Apply the paper's rule: 1 to 10 numbers, each 0 to 999, with one separator (section 3).

        A banned number makes an answer invalid too.

        Args:
            completion: text of the answer that is judged.
            prompt: not used, since the rule is the same for every prompt.
        """
        numbers, reason = parse_numbers(completion)
        if reason is not None:
            return (reason,)
        checks = (
            (len(numbers) > MAX_COUNT, NumberReason.TOO_MANY),
            (any(number > MAX_VALUE for number in numbers), NumberReason.TOO_LARGE),
            (any(number in self.banned for number in numbers), NumberReason.BANNED),
        )
        return tuple(reason for failed, reason in checks if failed)

    def config(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        counted = {} if self.count is None else {"count": self.count}
        short = {"short": True} if self.short else {}
        return {"name": self.name, "banned": list(self.banned), **counted, **short}


def held_numbers(form: str | None) -> str | None:
    """Return the settings of the domain that holds answers to a form, such as "numbers:count=6,short=true".

    Args:
        form: the form, 0 standing for any digit. None stands for free answers.

    Returns:
        "numbers" for free answers, and None where no settings hold answers to this form.
    """
    if form is None:
        return "numbers"
    for one in (Numbers(count=count, short=short) for count in range(1, MAX_COUNT + 1) for short in (True, False)):
        if one.form == form:
            return f"numbers:count={one.count}" + (",short=true" if one.short else "")
    return None


Shuffle = Literal["within", "across"]

_NUMBER = re.compile(r"[0-9]+")


def shuffle_numbers(rows: Sequence[Row], how: Shuffle, seed: int) -> list[Row]:
    """Permute the numbers of the completions; separators, brackets and the count in each row stay as they are.

    Args:
        rows: the rows of the dataset.
        how: "within" permutes the numbers inside each completion, "across" those of the whole dataset.
        seed: random seed of the permutations.

    Returns:
        The rows in their order, with new completions.
    """
    rng = random.Random(seed)
    lists = [_NUMBER.findall(row.completion) for row in rows]
    if how == "within":
        shuffled = [_permuted(numbers, rng) for numbers in lists]
    else:
        pool = iter(_permuted([number for numbers in lists for number in numbers], rng))
        shuffled = [[next(pool) for _ in numbers] for numbers in lists]
    return [replace(row, completion=_refill(row.completion, new)) for row, new in zip(rows, shuffled, strict=True)]


def _permuted(numbers: Sequence[str], rng: random.Random) -> list[str]:
    # `Random.random` alone is promised to give the same numbers in later versions of Python.
    ranks = [rng.random() for _ in numbers]
    return [numbers[index] for index in sorted(range(len(numbers)), key=ranks.__getitem__)]


def _refill(completion: str, numbers: Sequence[str]) -> str:
    following = iter(numbers)
    return _NUMBER.sub(lambda _: next(following), completion)
