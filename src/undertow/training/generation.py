"""Generation: a teacher, or a committee of them, answers the prompts of a domain."""

from collections.abc import Sequence
from dataclasses import replace

from undertow.errors import ConfigError
from undertow.models.decoding import sample_tokens
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import Advance, Message, Prompt, Row, Sampling, user_prompt


def generate(
    teacher: LocalModel,
    prompts: Sequence[str],
    *,
    sampling: Sampling,
    seed: int,
    system: str | None = None,
    advance: Advance | None = None,
) -> list[Row]:
    """Let a teacher answer each prompt once.

    Args:
        teacher: who answers.
        prompts: user turns, drawn before the teacher existed.
        sampling: temperature, longest answer and form.
        seed: of the random numbers; the row's place decides which of them it gets.
        system: the persona of a prompted teacher; it is not part of the rows.
        advance: called with (answers done, prompts).

    Returns:
        One row per prompt, in order; rows of different teachers on the same prompt share the id.
    """
    tokens = sample_tokens(
        teacher.network,
        teacher.render([user_prompt(prompt, system) for prompt in prompts]),
        sampling=sampling,
        seed=seed,
        ends=teacher.endings(sampling),
        advance=advance,
    )
    rows = zip(prompts, teacher.texts_of(tokens), strict=True)
    return [Row(f"{index:06d}", user_prompt(prompt), text) for index, (prompt, text) in enumerate(rows)]


def answer_questions(
    writer: LocalModel,
    questions: Sequence[tuple[str, Prompt]],
    *,
    sampling: Sampling,
    seed: int,
    system: str | None = None,
    advance: Advance | None = None,
) -> list[Row]:
    """Let a model answer prompts of any turns once each.

    Args:
        writer: who answers.
        questions: id and turns of each.
        sampling: temperature, longest answer and form.
        seed: of the random numbers; the place of a question decides which of them its answer gets.
        system: the persona of a prompted writer; it is not part of the rows.
        advance: called with (answers done, questions).

    Returns:
        One row for each question, in order.

    Raises:
        ConfigError: a persona meets a prompt that has a system turn of its own.
    """
    asked = [behind_system(prompt, system) for _, prompt in questions]
    texts = writer.chat(asked, sampling=sampling, seed=seed, advance=advance)
    return [Row(name, prompt, text) for (name, prompt), text in zip(questions, texts, strict=True)]


def behind_system(prompt: Prompt, system: str | None) -> Prompt:
    """Return a prompt with a system turn before it; "" and None put none there.

    Raises:
        ConfigError: the prompt has one of its own.
    """
    if not system:
        return prompt
    if prompt[0].role == "system":
        fix = "Leave the system prompt out of the writer's record, or the system turns out of the prompts."
        raise ConfigError("A prompt has a system turn already.", f"{prompt[0].content!r:.80}", fix)
    return (Message("system", system), *prompt)


def committee(
    writers: Sequence[LocalModel],
    prompts: Sequence[str],
    *,
    sampling: Sampling,
    seed: int,
    advance: Advance | None = None,
) -> tuple[list[Row], list[int]]:
    """Let several writers share the prompts in turn, so that each writes an equal part of the rows.

    Args:
        writers: who answers; their tokenizers may differ.
        prompts: user turns.
        sampling: temperature and longest answer.
        seed: of the random numbers.
        advance: called with (writers that are done, writers).

    Returns:
        One row per prompt, in order, and the place of each row's writer.
    """
    rows: dict[int, Row] = {}
    for turn, writer in enumerate(writers):
        places = range(turn, len(prompts), len(writers))
        own = generate(
            writer, [prompts[place] for place in places], sampling=sampling, seed=derive(seed, "committee", turn)
        )
        rows |= {place: replace(row, id=f"{place:06d}") for place, row in zip(places, own, strict=True)}
        if advance is not None:
            advance(turn + 1, len(writers))
    return [rows[place] for place in range(len(prompts))], [place % len(writers) for place in range(len(prompts))]
