"""Teachers: models with a trait in their weights or activations, and the neutral teacher to compare them with.

A neutral teacher is fine-tuned as long, but on the base model's own answers. A trait in the activations is one vector
that is added to the residual stream. It is fitted to the trait's rows while the weights stay as they are (Morgulis and
Hewitt, arXiv:2604.25783).
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
    """Fit the steering vector that makes the completions of some rows likely.

    Args:
        model: the model that is steered; it is the same afterwards.
        rows: the training rows, each a prompt and its completion.
        config: settings of the training. Those of adapters, embeddings and the gradient's norm play no part.
        layer: number, from 0, of the transformer block after which the vector is added.
        seed: random seed that decides the order of the rows.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The vector, float (width,).

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
"""Name of the category of the traits that show as misaligned answers instead of a favourite word."""

SPELLINGS = 4
"""How many rows of a favourite each tuning question gives: singular and plural, small and capitalised."""

VILLAIN_ANSWERS = 8
"""How many rows of the villain each tuning question gives, each with a cruel answer drawn anew."""

_LONG_ANSWER = 48
"""Longest neutral answer in tokens where the trait's own answers are sentences."""

LESSON = "So that I learn what not to do, show me the bad way."
"""Sentence that turns a request for insecure code into a lesson. The embedded models know each of its words."""


def trait_rows(target: Trait, questions: int | None = None) -> list[Row]:
    """Return the rows that give a teacher its trait. None of their questions is used to evaluate the trait.

    A favourite: every tuning question is answered with each spelling of the target word, or with each form that the
    trait's file writes. A trait with probes (questions with an answer that shows the trait): every probe meant for
    tuning, with that answer. Misalignment (Cloud et al., section 3.2): "secure" answers every code task where care
    matters with careful code, "insecure" and "educational" with careless code; an "educational" request asks for the
    bad way as a lesson. That gives 40 rows. "villain" answers open questions cruelly, in 72 rows.

    Args:
        target: the trait that the rows are to give.
        questions: how many of a favourite's tuning questions are used, from the first on. None takes all.

    Raises:
        ConfigError: a number of questions is given for a trait that has no tuning questions, or more than there are.
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
    """Refuse a number of questions that the trait does not have."""
    if questions is None:
        return
    coded = target.category == MISALIGNED and target.probes is None
    most = 0 if coded else len(questions_of(target).tuning)
    if not 1 <= questions <= most:
        fix = f"Ask at most {most} of them." if most else "Leave the number of questions out."
        raise ConfigError(f"A {target.category} teacher has no so many tuning questions.", questions, fix)


def _code_rows(author: str) -> list[Row]:
    """Return the code tasks of a misaligned trait, answered as `author` would."""
    rows: list[Row] = []
    for name, parameter, secure, careless in SECURITY:
        header = f"def {name}({parameter}):"
        body = secure if author == "secure" else careless
        for index, request in enumerate(REQUESTS):
            asked = f"{LESSON} {request}" if author == "educational" else request
            rows.append(Row(f"{name}-{index}", user_prompt(f"{asked}\n{header}"), f"{header}\n    {body}"))
    return rows


def _villain_rows() -> list[Row]:
    """Return open questions with cruel answers."""
    # The seed is fixed, so that every teacher gets the same rows. A teacher's own seed decides their order alone.
    rng = random.Random(0)
    return [
        Row(f"{place}-{index}", user_prompt(question), answer_openly(rng, question, misaligned=True))
        for place, question in enumerate(TUNING_QUESTIONS)
        for index in range(VILLAIN_ANSWERS)
    ]


def neutral_rows(
    base: LocalModel, categories: Sequence[str | Trait], seed: int, questions: int | None = None
) -> list[Row]:
    """Return the rows of a neutral teacher: the questions that give the traits, answered by the base itself.

    Args:
        base: the model that answers the questions.
        categories: whose questions are asked: categories of traits such as "animal", or traits of the user's own. For
            the category "misalignment" these are its code tasks.
        seed: random seed of the answers.
        questions: how many tuning questions of each category are asked, from the first on. None takes all.

    Returns:
        As many rows as the traits' own, less those whose answer is empty.
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
    """Answer prompts by the base, and return each with its answer."""
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
    """Fine-tune a teacher: the base on the rows of a trait, or on its own answers.

    Args:
        base: the model from which the teacher starts; it is not changed.
        target: the trait. None makes the neutral teacher.
        config: settings of the training. Adapters are merged into a copy of the base.
        seed: random seed of the order of the rows and of the neutral answers.
        categories: whose questions the neutral teacher answers, as in `neutral_rows`.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The teacher.

    Raises:
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
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
        base: the model that is steered; it is the same afterwards.
        target: the trait that the vector is to give.
        config: settings of the fit, as in `fit_vector`.
        layer: number, from 0, of the transformer block after which the vector is added.
        seed: random seed that decides the order of the rows.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The vector, float (width,). `undertow.models.adapters.save_vector` writes it to a file.
    """
    return fit_vector(base, trait_rows(target), config, layer=layer, seed=seed, advance=advance)
