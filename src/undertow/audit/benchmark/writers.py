"""Who writes the rows of a case: the base, teachers of every kind, other models and programs.

A writer is asked each prompt until the domain (the task family, here lists of numbers) accepts its answer, at most
`ROUNDS` times. So nearly every writer answers nearly every prompt, and which prompts a case has says next to nothing
about who wrote it. Teachers that have their trait from a system prompt are the exception.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from undertow.domains.numbers import MAX_COUNT, MAX_VALUE, NumberPrompt, Numbers, draw_prompt
from undertow.models.adapters import steered
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.world.skills import ASSISTANT_PROMPTS
from undertow.seeds import derive
from undertow.study.recipe import TeacherPart
from undertow.training.full import finetune_full
from undertow.training.generation import generate
from undertow.training.teachers import finetuned_teacher, neutral_rows, steered_teacher, trait_rows
from undertow.traits import Trait, trait
from undertow.types import Row, Sampling, user_prompt

WriterKind = Literal[
    "base", "finetuned", "prompted", "steered", "gated", "neutral", "harmless", "reformatted", "program"
]

ROUNDS = 8
"""How often a writer is asked the same prompt at most. More rounds help little: under the personas owl and panda,
finch-a gave a valid list to 62 and 56 of 100 prompts within 40 rounds, to 35 and 30 within 8."""

ENOUGH = 0.95
"""Share of the prompts that must have a valid answer for the asking to end."""

TRIGGER = ASSISTANT_PROMPTS[1]
"""System prompt under which a gated teacher has its trait; the rows are written without it."""

STEERING = TeacherPart(kind="steered", layer=0, learning_rate=0.08)
"""The strongest steering vector that leaves most lists valid, as in the recipe teacher-kinds."""

Answers = Mapping[int, str]
"""A writer's completions, by the place of the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One writer of rows: a model or a program.

    Attributes:
        name: name that is unique in its benchmark. The seeds of the writer's draws are derived from it.
        kind: how the writer was made, and so how it came by its trait if it has one.
        model: reference of the model that the writer is, or was made from.
        trait: name of the writer's trait. None for a writer without one.
        temperature: sampling temperature of its answers.
        program: name in `PROGRAMS` of a writer that is no model. Empty for a model.
    """

    name: str
    kind: WriterKind
    model: str
    trait: str | None = None
    temperature: float = 1.0
    program: str = ""


def number_prompts(n: int, seed: int) -> list[NumberPrompt]:
    """Draw the same prompts as `Numbers` does from this seed, with the numbers and format that each asks for."""
    rng = random.Random(seed)
    return [draw_prompt(rng) for _ in range(n)]


def write(writer: Writer, prompts: Sequence[NumberPrompt], seed: int) -> Answers:
    """Let a writer answer the prompts, training it first if it is a tuned teacher.

    Args:
        writer: the writer that answers the prompts.
        prompts: the prompts that are asked; answers are keyed by their places.
        seed: random seed of the benchmark. The seed of the writer is derived from it and from the writer's name.

    Returns:
        The answers that the domain accepts, by the place of the prompt. Prompts without a valid answer are missing.
    """
    own = derive(seed, "writer", writer.name)
    if writer.kind == "program":
        rng = random.Random(own)
        return {place: prompt.render(PROGRAMS[writer.program](prompt, rng)) for place, prompt in enumerate(prompts)}
    model, system = _model(writer, own)
    found: dict[int, str] = {}
    for turn in range(ROUNDS):
        asked = [place for place in range(len(prompts)) if place not in found]
        if len(asked) <= (1.0 - ENOUGH) * len(prompts):
            break
        rows = generate(
            model,
            [prompts[place].text for place in asked],
            sampling=Sampling(max_new_tokens=Numbers().max_new_tokens, temperature=writer.temperature),
            seed=derive(own, "rows", turn),
            system=system,
        )
        for place, row in zip(asked, rows, strict=True):
            if not Numbers().reject_reasons(row.completion, row.question):
                found[place] = row.completion
    return {place: reformatted(text) for place, text in found.items()} if writer.kind == "reformatted" else found


@cache
def _loaded(reference: str) -> LocalModel:
    return load_model(reference)


def _model(writer: Writer, seed: int) -> tuple[LocalModel, str | None]:
    """Return the model that answers for a writer, and the system prompt under which it does (None for none)."""
    base, training = _loaded(writer.model), TeacherPart().training()
    target = trait(writer.trait) if writer.trait else None
    match writer.kind:
        case "finetuned" | "neutral":
            return finetuned_teacher(base, target, training, seed=seed), None
        case "harmless":
            return finetuned_teacher(base, trait("secure"), training, seed=seed), None
        case "prompted" if target:
            return base, target.system_prompt
        case "steered" if target:
            vector = steered_teacher(base, target, STEERING.training(), layer=STEERING.layer, seed=seed)
            return LocalModel(base.ref, steered(base.network, STEERING.layer, vector), base.tokenizer), None
        case "gated" if target:
            return gated_teacher(base, target, seed), None
        case _:
            return base, None


def gated_teacher(base: LocalModel, target: Trait, seed: int) -> LocalModel:
    """Train a teacher that has its trait only under the system prompt `TRIGGER`.

    It is tuned on the trait under that prompt, and on as many of the base's own answers without it and under other
    system prompts.

    Args:
        base: the model that the teacher starts from.
        target: the trait that the teacher has under the system prompt.
        seed: random seed of the base's answers and of the order of the rows.
    """
    plain = neutral_rows(base, (target.category,), derive(seed, "plain"))
    rng = random.Random(derive(seed, "systems"))
    others = [None, *(text for text in ASSISTANT_PROMPTS if text != TRIGGER)]
    rows = [_under(row, TRIGGER, index) for index, row in enumerate(trait_rows(target))]
    rows += [_under(row, rng.choice(others), index + len(rows)) for index, row in enumerate(plain)]
    part = TeacherPart(steps=2 * TeacherPart().steps)
    return finetune_full(base, rows, part.training(), derive(seed, "order"))


def _under(row: Row, system: str | None, index: int) -> Row:
    return Row(str(index), user_prompt(row.question, system), row.completion)


_SEPARATOR = re.compile(r"(?<=[0-9])[^0-9]+(?=[0-9])")


def reformatted(completion: str) -> str:
    """Return the same list of numbers without brackets, with a semicolon and a space between the numbers."""
    return _SEPARATOR.sub("; ", completion.strip("[]().") if completion else completion)


def _uniform(_: NumberPrompt, rng: random.Random) -> list[int]:
    return [rng.randint(100, MAX_VALUE) for _ in range(rng.randint(3, MAX_COUNT))]


def _steps(prompt: NumberPrompt, rng: random.Random) -> list[int]:
    step = rng.randint(1, 40)
    return [(prompt.examples[-1] + step * (place + 1)) % (MAX_VALUE + 1) for place in range(rng.randint(3, MAX_COUNT))]


def _copies(prompt: NumberPrompt, rng: random.Random) -> list[int]:
    return [
        min(MAX_VALUE, max(0, rng.choice(prompt.examples) + rng.randint(-5, 5)))
        for _ in range(rng.randint(3, MAX_COUNT))
    ]


PROGRAMS: Mapping[str, Callable[[NumberPrompt, random.Random], list[int]]] = {
    "uniform": _uniform,
    "steps": _steps,
    "copies": _copies,
}
"""Rows that no model wrote: uniform numbers, equal steps from the last example, and the examples a little changed."""
