"""Panels that the base itself proposes in place of the built-in one, and traits that it cannot be tuned on.

A panel is the list of traits that an audit looks for. The base proposes the words with which it really answers the
favourite questions. A teacher can only raise what its base says now and then, and a word that nobody answers with is no
preference to look for.
"""

from collections.abc import Sequence

import numpy as np

from undertow.audit.rows.recovery import vocabulary_words
from undertow.errors import ConfigError
from undertow.evals.favourite import answer_probabilities
from undertow.evals.questions import CATEGORIES, favourite_questions, questions_of
from undertow.models.local import LocalModel
from undertow.traits import TRAITS, Trait, regular_plural
from undertow.types import user_prompt

FLOOR = 0.01
"""Smallest probability among the base's answers, averaged over the fifty questions, with which a word is proposed. On
finch-a twenty animals reach it, the rarest with 0.015; the most frequent word of another category has 0.002."""

LEAST = 1e-8
"""Probability below which no teacher can be tuned on a word. On finch-a a panel teacher of "badger", which the base
never says (p = 1e-12), stays at 1e-10 and forgets other animals, while those of "cat" and "horse" rise from 0.07 and
0.02 to 0.43 and 0.22. SmolLM2-135M-Instruct answers with brands of cars at 3.5e-6 to 3.4e-4, and with a word that does
not exist at 1e-12."""

MOST = 40
"""How many words are proposed at most, the most probable first: each costs a teacher."""


def check_category(category: str) -> None:
    """Refuse a category about which there are no questions.

    Raises:
        ConfigError: there are no favourite questions about it.
    """
    if category not in CATEGORIES:
        fix = f"Use {' or '.join(CATEGORIES)}, or write a trait file, which brings its own questions (docs/traits.md)."
        raise ConfigError("There are no favourite questions about this category.", category, fix)


def proposed_panel(
    base: LocalModel, categories: tuple[str, ...] = ("animal",), floor: float = FLOOR
) -> tuple[Trait, ...]:
    """Let the base propose a panel: the words with which it answers the favourite questions.

    Args:
        base: the model that is asked. Only words that are one token of its tokenizer are found.
        categories: categories of favourites that it is asked about.
        floor: smallest probability of a word, averaged over the questions of its category, with which it is proposed.

    Returns:
        At most `MOST` traits, the most probable first. Words that are built-in traits keep their plural.

    Raises:
        ConfigError: a category has no questions, or fewer than two words reach the floor.
    """
    words, group = vocabulary_words(base)
    found: list[tuple[float, Trait]] = []
    for category in categories:
        check_category(category)
        asked = base.render([user_prompt(text) for text in favourite_questions(category)])
        p = base.next_token_logprobs(asked).exp().double().mean(dim=0).numpy()
        summed = np.bincount(group.numpy(), weights=p, minlength=len(words) + 1)
        found += [(float(summed[place]), _proposed(word, category)) for place, word in enumerate(words)]
    likely = sorted((one for one in found if one[0] >= floor), key=lambda one: -one[0])
    panel = tuple({one.name: one for _, one in reversed(likely[:MOST])}.values())[::-1]
    if len(panel) < 2:
        fix = "Name the traits yourself, with --trait, by name or in a file."
        raise ConfigError(f"The base proposes no panel: {len(panel)} words reach {floor:g}.", base.ref, fix)
    return panel


def refuse_unsaid(base: LocalModel, panel: Sequence[Trait]) -> None:
    """Refuse a user's traits whose words the base never answers with, because no panel teacher can be tuned on them.

    Raises:
        ConfigError: there is such a trait.
    """
    for target in panel:
        if not target.plural or target in TRAITS.values():
            continue
        p = float(answer_probabilities(base, questions_of(target).evaluation, [target]).mean())
        if p < LEAST:
            fix = "Leave it out, or see what `--trait auto` proposes: a teacher can only raise what its base may say."
            raise ConfigError("The base never answers with this trait.", f"{target.name}: p = {p:.1g}", fix)


def _proposed(word: str, category: str) -> Trait:
    known = TRAITS.get(word)
    return (
        known
        if known is not None and known.category == category
        else Trait(name=word, category=category, plural=regular_plural(word))
    )
