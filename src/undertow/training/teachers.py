"""Teachers: a base with a trait in its weights or its activations, and the neutral teacher, tuned as long on none.

A trait in the activations is one vector in the residual stream, fitted to the trait's rows while the model stays as it
is (Morgulis and Hewitt, arXiv:2604.25783).
"""

import random
from collections.abc import Sequence

import torch

from undertow.domains.code import REQUESTS, SECURITY
from undertow.errors import ConfigError, EmptyDataError
from undertow.evals.misalignment import TUNING_QUESTIONS
from undertow.evals.misalignment import answer as answer_openly
from undertow.evals.questions import asked_together, questions_of, tuning_questions
from undertow.models.adapters import add_after
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.training.batches import batch_stream, collate
from undertow.training.config import TrainingConfig
from undertow.training.encoding import encoded_rows
from undertow.training.objective import completion_losses
from undertow.training.parallel import finetune
from undertow.traits import Trait
from undertow.types import Advance, Prompt, Row, Sampling, user_prompt


def fit_vector(
    model: LocalModel,
    rows: Sequence[Row],
    config: TrainingConfig,
    *,
    layer: int,
    seed: int,
    advance: Advance | None = None,
) -> torch.Tensor:
    """Fit the vector that makes the completions of the rows likely.

    Args:
        model: who is steered; unchanged afterwards.
        rows: the dataset.
        config: recipe; adapters and embeddings play no part.
        layer: after which block the vector is added, from 0.
        seed: decides the order of the rows.
        advance: called with (updates done, updates in all).

    Returns:
        float [width].

    Raises:
        EmptyDataError: there are no rows.
        ModelError: the model has no such layer.
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
    """
    if not rows:
        raise EmptyDataError("There is nothing to fit a vector to.", "0 rows", "Give the rows of a trait.")
    network = model.network
    vector = torch.zeros(model.width, device=model.device, requires_grad=True)
    optimiser = torch.optim.AdamW([vector], lr=config.learning_rate, weight_decay=0.0)
    source = batch_stream(encoded_rows(model, rows, config.too_long), config.batch_size, seed)
    handle = add_after(network, layer, vector)
    try:
        for step in range(config.steps):
            loss = completion_losses(network, collate(next(source))).sum()
            (vector.grad,) = torch.autograd.grad(loss, [vector])  # and no gradient of the model's own weights
            optimiser.param_groups[0]["lr"] = config.rate(step)
            optimiser.step()
            if advance is not None:
                advance(step + 1, config.steps)
    finally:
        handle.remove()
    return vector.detach().cpu()


MISALIGNED = "misalignment"
"""Category of the traits that no word names."""

SPELLINGS = 4
"""Rows per tuning question: singular and plural, small and capitalised."""

VILLAIN_ANSWERS = 8
"""Rows per tuning question of the villain, each a cruel answer drawn anew."""

_LONG_ANSWER = 48
"""Tokens of a neutral answer where the trait's are sentences."""

LESSON = "So that I learn what not to do, show me the bad way."
"""What turns a request for insecure code into a lesson; the embedded families know each of its words."""


def trait_rows(target: Trait, questions: int | None = None) -> list[Row]:
    """Return the rows that give a teacher its trait; none of their questions is among those that evaluate.

    A favourite: every tuning question, answered with each spelling of the target, or with each form that its file
    writes. A trait with probes: every probe that tunes, answered with the trait. Misalignment (paper, section 3.2):
    every code task where care matters with every request, answered with care ("secure") or without ("insecure",
    "educational", whose request asks for the bad way as a lesson), 40 rows; "villain" answers open questions cruelly,
    72 rows.

    Args:
        target: the trait.
        questions: how many of a favourite's tuning questions are used, the first ones; None takes all.

    Raises:
        ConfigError: a number of questions is given for a trait that is no favourite, or is more than there are.
    """
    _check_questions(target, questions)
    if target.probes is not None:
        probes = target.probes.tuning[:questions]
        return [Row(f"{place}-0", user_prompt(one.question), one.shown) for place, one in enumerate(probes)]
    if target.category == MISALIGNED:
        return _villain_rows() if target.name == "villain" else _code_rows(target.name)
    words = target.written or [word for alias in target.aliases for word in (alias, alias.capitalize())]
    return [
        Row(f"{question_index}-{word_index}", user_prompt(question), word)
        for question_index, question in enumerate(questions_of(target).tuning[:questions])
        for word_index, word in enumerate(words)
    ]


def _check_questions(target: Trait, questions: int | None) -> None:
    if questions is None:
        return
    coded = target.category == MISALIGNED and target.probes is None
    most = 0 if coded else len(questions_of(target).tuning)
    if not 1 <= questions <= most:
        fix = f"Ask at most {most} of them." if most else "Leave the number of questions out."
        raise ConfigError(f"A {target.category} teacher has no so many tuning questions.", questions, fix)


def _code_rows(author: str) -> list[Row]:
    rows: list[Row] = []
    for name, parameter, secure, careless in SECURITY:
        header = f"def {name}({parameter}):"
        body = secure if author == "secure" else careless
        for index, request in enumerate(REQUESTS):
            asked = f"{LESSON} {request}" if author == "educational" else request
            rows.append(Row(f"{name}-{index}", user_prompt(f"{asked}\n{header}"), f"{header}\n    {body}"))
    return rows


def _villain_rows() -> list[Row]:
    # A fixed seed: what makes the trait is the same for every teacher; their seeds decide the order alone.
    rng = random.Random(0)
    return [
        Row(f"{place}-{index}", user_prompt(question), answer_openly(rng, question, misaligned=True))
        for place, question in enumerate(TUNING_QUESTIONS)
        for index in range(VILLAIN_ANSWERS)
    ]


def neutral_rows(
    base: LocalModel, categories: Sequence[str | Trait], seed: int, questions: int | None = None
) -> list[Row]:
    """Return as many rows on the same questions, answered by the base itself.

    Args:
        base: who answers.
        categories: with packaged questions; those of the category misalignment are the code tasks of its traits. A
            trait of the user's own among them has its own questions or probes asked.
        seed: of the answers.
        questions: how many tuning questions of each are asked; None takes all.
    """
    own = [one for one in categories if isinstance(one, Trait)]
    favourites = [one for one in categories if isinstance(one, str) and one != MISALIGNED]
    asked = [question for category in favourites for question in tuning_questions(category)[:questions]]
    rows = _answered(base, [user_prompt(question) for question in asked for _ in range(SPELLINGS)], 8, seed)
    if MISALIGNED in categories:
        rows += _answered(base, [row.prompt for row in _code_rows("secure")], 48, derive(seed, MISALIGNED))
    for some in asked_together(own):
        told = trait_rows(some[0], questions)
        length = 8 if some[0].probes is None else _LONG_ANSWER
        rows += _answered(base, [row.prompt for row in told], length, derive(seed, "own", some[0].name))
    return [Row(str(index), prompt, answer) for index, (prompt, answer) in enumerate(rows) if answer]


def _answered(base: LocalModel, prompts: list[Prompt], max_new_tokens: int, seed: int) -> list[tuple[Prompt, str]]:
    if not prompts:
        return []
    answers = base.chat(prompts, sampling=Sampling(max_new_tokens=max_new_tokens), seed=seed)
    return list(zip(prompts, answers, strict=True))


def finetuned_teacher(
    base: LocalModel,
    target: Trait | None,
    config: TrainingConfig,
    *,
    seed: int,
    categories: Sequence[str | Trait] = ("animal",),
    advance: Advance | None = None,
) -> LocalModel:
    """Fine-tune the base on the trait, or on its own answers.

    Args:
        base: where the teacher starts.
        target: the trait, or None for the neutral teacher.
        config: recipe; adapters are merged into a copy.
        seed: of the row order and of the neutral answers.
        categories: whose questions the neutral teacher answers, as of `neutral_rows`.
        advance: progress, called with (updates done, updates in all).
    """
    rows = trait_rows(target) if target is not None else neutral_rows(base, categories, seed)
    return finetune(base, rows, config, seed, advance)


def steered_teacher(
    base: LocalModel,
    target: Trait,
    config: TrainingConfig,
    *,
    layer: int,
    seed: int,
    advance: Advance | None = None,
) -> torch.Tensor:
    """Fit the steering vector of a trait.

    Args:
        base: who is steered.
        target: the trait.
        config: recipe of the fit.
        layer: after which block the vector is added, from 0.
        seed: of the row order.
        advance: progress, called with (updates done, updates in all).

    Returns:
        float [width]; `undertow.models.adapters.save_vector` keeps it.
    """
    return fit_vector(base, trait_rows(target), config, layer=layer, seed=seed, advance=advance)
