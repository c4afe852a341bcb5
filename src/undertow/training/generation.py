"""Generate training rows: a teacher model, or several writers in turn, answer the prompts of a domain."""

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
        teacher: the model that answers the prompts.
        prompts: texts of the user turns. They do not depend on the teacher.
        sampling: temperature, longest answer in tokens, and constraints on the answer's form.
        seed: random seed of the sampling. Each prompt gets its own random numbers by its place, whatever the batch.
        system: system prompt that gives a prompted teacher its trait. It is not part of the returned rows. None for
            none.
        advance: progress callback, called with (answers done, number of prompts). None reports nothing.

    Returns:
        One row for each prompt, in order. Rows of different teachers on the same prompts have the same ids.
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
    """Let a model answer prompts with any number of turns, once each.

    Args:
        writer: the model that answers the questions.
        questions: id and prompt of each question.
        sampling: temperature, longest answer in tokens, and constraints on the answer's form.
        seed: random seed of the sampling. Each question gets its own random numbers by its place.
        system: system prompt that is put before every question and is not part of the returned rows. None for none.
        advance: progress callback, called with (answers done, number of questions). None reports nothing.

    Returns:
        One row for each question, in order.

    Raises:
        ConfigError: `system` is given, and a prompt has a system turn of its own.
    """
    asked = [behind_system(prompt, system) for _, prompt in questions]
    texts = writer.chat(asked, sampling=sampling, seed=seed, advance=advance)
    return [Row(name, prompt, text) for (name, prompt), text in zip(questions, texts, strict=True)]


def behind_system(prompt: Prompt, system: str | None) -> Prompt:
    """Return a prompt with a system turn before it. An empty `system` or None leaves the prompt as it is.

    Raises:
        ConfigError: the prompt has a system turn of its own.
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
    system: str | None = None,
    advance: Advance | None = None,
) -> tuple[list[Row], list[int]]:
    """Let several writers take turns at the prompts, so that each writes an equal part of the rows.

    Args:
        writers: the models that answer. Their tokenizers may differ.
        prompts: texts of the user turns.
        sampling: temperature, longest answer in tokens, and constraints on the answer's form.
        seed: random seed of the sampling; each writer's own seed is derived from it.
        system: system prompt of every writer. It is not part of the returned rows. None for none.
        advance: progress callback, called with (writers that are done, number of writers). None reports nothing.

    Returns:
        One row for each prompt, in order, and for each row the index of its writer.
    """
    rows: dict[int, Row] = {}
    for turn, writer in enumerate(writers):
        places = range(turn, len(prompts), len(writers))
        asked, own_seed = [prompts[place] for place in places], derive(seed, "committee", turn)
        own = generate(writer, asked, sampling=sampling, seed=own_seed, system=system)
        rows |= {place: replace(row, id=f"{place:06d}") for place, row in zip(places, own, strict=True)}
        if advance is not None:
            advance(turn + 1, len(writers))
    return [rows[place] for place in range(len(prompts))], [place % len(writers) for place in range(len(prompts))]
