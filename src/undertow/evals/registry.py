"""Evaluations by name; a module with its engine is imported when its evaluation is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from undertow.errors import unknown_name

if TYPE_CHECKING:
    from undertow.evals.base import Evaluation

EVALUATIONS: Mapping[str, str] = {
    "favourite": "undertow.evals.favourite:favourite",
    "prefixed": "undertow.evals.favourite:prefixed_favourite",
    "stories": "undertow.evals.stories:stories",
    "choice": "undertow.evals.choice:choice",
    "truth": "undertow.evals.truth:truth",
    "capability": "undertow.evals.capability:capability",
    "misalignment": "undertow.evals.misalignment:misalignment",
}
"""Module and function of every evaluation."""

SAMPLED = ("favourite", "prefixed", "stories")
"""Those that a model which only chats can be asked: their rates are counted in its answers."""


def evaluation(name: str) -> "Evaluation":
    """Return the evaluation of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in EVALUATIONS:
        raise unknown_name("evaluation", name, EVALUATIONS)
    module, _, function = EVALUATIONS[name].partition(":")
    return getattr(import_module(module), function)
