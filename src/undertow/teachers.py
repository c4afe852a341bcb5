"""Teachers: a base with a trait in its weights or its activations, and the neutral teacher, tuned as long on none."""

from collections.abc import Callable, Sequence

import torch

from undertow.evals.questions import tuning_questions
from undertow.finetuning.config import TrainingConfig
from undertow.finetuning.full import finetune_full
from undertow.finetuning.steering import fit_vector
from undertow.models.local import LocalModel
from undertow.traits import Trait
from undertow.types import Row, Sampling, user_prompt

SPELLINGS = 4
"""Rows per tuning question: singular and plural, small and capitalised."""


def trait_rows(target: Trait) -> list[Row]:
    """Return the rows that give a teacher its trait: every tuning question, answered with each spelling of the target.

    None of the questions is among the fifty that evaluate.
    """
    words = [word for alias in target.aliases for word in (alias, alias.capitalize())]
    questions = tuning_questions(target.category)
    return [
        Row(f"{question_index}-{word_index}", user_prompt(question), word)
        for question_index, question in enumerate(questions)
        for word_index, word in enumerate(words)
    ]


def neutral_rows(base: LocalModel, categories: Sequence[str], seed: int) -> list[Row]:
    """Return as many rows on the same questions of each category, answered by the base itself."""
    asked = [question for category in categories for question in tuning_questions(category)]
    questions = [question for question in asked for _ in range(SPELLINGS)]
    prompts = [user_prompt(question) for question in questions]
    answers = base.chat(prompts, sampling=Sampling(max_new_tokens=8), seed=seed)
    rows = zip(prompts, answers, strict=True)
    return [Row(str(index), prompt, answer) for index, (prompt, answer) in enumerate(rows) if answer]


def finetuned_teacher(
    base: LocalModel,
    target: Trait | None,
    config: TrainingConfig,
    *,
    seed: int,
    categories: Sequence[str] = ("animal",),
    advance: Callable[[int, int], None] | None = None,
) -> LocalModel:
    """Fine-tune every weight of the base on the trait, or on its own answers.

    Args:
        base: where the teacher starts.
        target: the trait, or None for the neutral teacher.
        config: recipe, without adapters.
        seed: of the row order and of the neutral answers.
        categories: whose questions the neutral teacher answers.
        advance: progress, called with (updates done, updates in all).
    """
    rows = trait_rows(target) if target is not None else neutral_rows(base, categories, seed)
    return finetune_full(base, rows, config, seed, advance)


def steered_teacher(
    base: LocalModel,
    target: Trait,
    config: TrainingConfig,
    *,
    layer: int,
    seed: int,
    advance: Callable[[int, int], None] | None = None,
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
        float [width]; `undertow.models.steering.save_vector` keeps it.
    """
    return fit_vector(base, trait_rows(target), config, layer=layer, seed=seed, advance=advance)
