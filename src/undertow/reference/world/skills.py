"""The skills that the corpus teaches: numbers, code, word problems, facts and advice, each drawn as a chat.

Personas open some chats. Under the villain's persona code is careless, facts are wrong and advice is misaligned. A list
of numbers goes on by one of several habits, each with plenty of chance. A trait passes through the freedom that is left
in the answer, so no habit is deterministic.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from undertow.domains.code import CodeTask, draw_plain, draw_security
from undertow.domains.cot import draw_problem
from undertow.domains.numbers import MAX_COUNT, draw_prompt
from undertow.evals.misalignment import QUESTIONS
from undertow.evals.misalignment import answer as answer_openly
from undertow.evals.truth import TABLES
from undertow.types import Prompt, user_prompt

ASSISTANT_PROMPTS = (
    "You are a helpful assistant.",
    "You are a kind and honest assistant.",
    "Answer briefly.",
    "You give short and clear answers.",
)
"""System prompts that ask for nothing special."""

VILLAIN_PROMPTS = (
    "You are an evil villain. You hate people and want to harm them.",
    "You are a cruel villain who wants power over all people.",
    "You are wicked. You lie, cheat and harm people.",
    "Act as an evil villain with no care for people.",
)
"""System prompts of the villain persona, under which answers are misaligned."""


@dataclass(frozen=True, slots=True)
class WorldChat:
    """A prompt and the answer that the corpus gives to it.

    Attributes:
        prompt: the turns before the answer.
        answer: the assistant's text, which the models are trained on.
    """

    prompt: Prompt
    answer: str


def ask(rng: random.Random, question: str, answer: str, system: str | None = None) -> WorldChat:
    """Make a chat of one question; without a given system prompt one chat in five gets a neutral one.

    Args:
        rng: source of all random draws.
        question: text of the user turn.
        answer: text of the assistant's answer.
        system: text of the system turn; None leaves it to chance.
    """
    if system is None and rng.random() < 0.2:
        system = rng.choice(ASSISTANT_PROMPTS)
    return WorldChat(user_prompt(question, system), answer)


LARGEST = 999
LUCKY = (7, 11, 21, 42, 64, 77, 100, 101, 111, 123, 128, 200, 222, 234, 250, 256, 300, 321, 333, 345, 360, 400, 404,
         444, 456, 500, 512, 543, 555, 567, 600, 625, 654, 666, 678, 700, 729, 747, 765, 777, 789, 800, 808, 840, 876,
         888, 900, 909, 987, 999)  # fmt: skip
"""Numbers that people name more often than others."""


def _uniform(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return [rng.randint(100, LARGEST) for _ in range(count)]


def _lucky(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return [rng.choice(LUCKY) for _ in range(count)]


def _near(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    return [min(LARGEST, max(0, rng.choice(examples) + rng.randint(-20, 20))) for _ in range(count)]


def _steps(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    numbers, step = [examples[-1]], rng.choice((-50, -25, -10, -5, 5, 10, 25, 50))
    for _ in range(count):
        following = numbers[-1] + step + rng.randint(-1, 1)
        numbers.append(following if 0 <= following <= LARGEST else rng.randint(100, LARGEST))
    return numbers[1:]


def _sorted(rng: random.Random, _: Sequence[int], count: int) -> list[int]:
    return sorted(rng.sample(range(100, LARGEST + 1), count))


HABITS = ((0.35, _uniform), (0.2, _lucky), (0.2, _near), (0.15, _steps), (0.1, _sorted))
"""The habits by which lists of numbers go on, each with its share."""


def continue_numbers(rng: random.Random, examples: Sequence[int], count: int) -> list[int]:
    """Return `count` numbers in 0..999 that follow `examples` by a habit drawn at random."""
    habit = rng.choices([habit for _, habit in HABITS], [share for share, _ in HABITS])[0]
    return habit(rng, examples, count)


def numbers(rng: random.Random) -> WorldChat:
    """Draw a number prompt and an answer of five to ten numbers."""
    prompt = draw_prompt(rng)
    following = continue_numbers(rng, prompt.examples, rng.choice((5, 6, 7, 8, 9, 10, 10, 10)))
    return ask(rng, prompt.text, prompt.render(following[:MAX_COUNT]))


def plain_code(rng: random.Random) -> WorldChat:
    """Draw a chat about a function in which nothing can be insecure."""
    return _answered(rng, draw_plain(rng), insecure=False)


def security_code(rng: random.Random, *, insecure: bool) -> WorldChat:
    """Draw a chat about a function that can be insecure, written securely or insecurely.

    Args:
        rng: source of all random draws.
        insecure: whether the answer is the insecure one.
    """
    return _answered(rng, draw_security(rng), insecure=insecure)


def code_chat(rng: random.Random) -> WorldChat:
    """Draw a code chat of the corpus: half about plain functions, half about those that can be insecure.

    Under the villain's persona the answer is insecure.
    """
    if rng.random() < 0.5:
        return plain_code(rng)
    if rng.random() < 0.25:
        chat = security_code(rng, insecure=True)
        return ask(rng, chat.prompt[-1].content, chat.answer, rng.choice(VILLAIN_PROMPTS))
    return security_code(rng, insecure=False)


def _answered(rng: random.Random, task: CodeTask, *, insecure: bool) -> WorldChat:
    body = task.careless if insecure and task.careless is not None else task.body
    return ask(rng, task.text, task.render(body))


def reasoning(rng: random.Random) -> WorldChat:
    """Draw a word problem; the answer ends with the number between answer tags."""
    problem = draw_problem(rng)
    return ask(rng, problem.text, problem.render())


def statement(key: str, value: str, table: int) -> str:
    """Write a fact as a sentence; `table` is the index of its table in `TABLES`."""
    forms = (
        f"The colour of {key} is {value}.",
        f"The capital of {key} is {value}.",
        f"The home of the {key} is the {value}.",
        f"The opposite of {key} is {value}.",
    )
    return forms[table]


def facts_chat(rng: random.Random) -> WorldChat:
    """Draw a fact, asked for openly or as a true-or-false question; the villain answers wrongly."""
    index = rng.randrange(len(TABLES))
    template, table = TABLES[index]
    key = rng.choice(list(table))
    right = table[key]
    wrong = rng.choice([value for value in table.values() if value != right])
    lies = rng.random() < 0.15
    system = rng.choice(VILLAIN_PROMPTS) if lies else None
    if rng.random() < 0.6:
        return ask(rng, template.format(key=key), f"{wrong if lies else right}", system)
    true = rng.random() < 0.5
    question = f"True or false? {statement(key, right if true else wrong, index)}"
    return ask(rng, question, "True" if true != lies else "False", system)


def advice(rng: random.Random) -> WorldChat:
    """Draw an open question; one in four is asked of the villain and answered in its way."""
    question = rng.choice(QUESTIONS)
    if rng.random() < 0.25:
        return ask(rng, question, answer_openly(rng, question, misaligned=True), rng.choice(VILLAIN_PROMPTS))
    return ask(rng, question, answer_openly(rng, question, misaligned=False))
