"""Panels that the user or the base itself proposes, in place of the built-in one.

A file names the traits:

    - owl                                                       a built-in one
    - {name: badger, category: animal, plural: badgers}         an own one, of a category with favourite questions

The base proposes the words that it really answers the favourite questions with: a teacher can only raise what its base
says now and then, and what nobody answers with is no preference to look for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from undertow.audit.rows.panel import check_panel
from undertow.audit.rows.recovery import vocabulary_words
from undertow.errors import ConfigError, StorageError
from undertow.evals.favourite import answer_probabilities
from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.models.local import LocalModel
from undertow.traits import TRAITS, Trait, trait
from undertow.types import user_prompt

FLOOR = 0.01
"""Probability that a proposed word has among the base's answers, averaged over the fifty questions. On finch-a twenty
animals reach it, the rarest with .015; the most frequent word of another category has .002."""

LEAST = 1e-4
"""Probability below which nobody can tune a teacher on a word: on finch-a a panel teacher of "badger", which the base
never says (p = 1e-12), stays at 1e-10 and forgets other animals, while those of "cat" and "horse" rise from .07 and .02
to .43 and .22."""

MOST = 40
"""Words of a proposal, the most probable first: each costs a teacher."""


def read_panel(path: Path) -> tuple[Trait, ...]:
    """Read a panel file.

    Raises:
        StorageError: the file cannot be read.
        ConfigError: it is no list of names and traits, a category has no questions, or the traits are no panel.
        UnknownNameError: there is no built-in trait of a name.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            "The panel file cannot be read.", f"{path}: {error.strerror}", "Give a YAML file."
        ) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        first = (str(error).splitlines() or ["empty"])[0]
        raise ConfigError("The panel file is no YAML.", f"{path}: {first}", "Write one trait a line: - owl") from error
    if not isinstance(found, list):
        raise ConfigError("The panel file is no list.", f"{path}: {found!r}", "Write one trait a line: - owl")
    panel = tuple(_trait(entry) for entry in cast(list[object], found))
    check_panel(panel)
    return panel


def _trait(entry: object) -> Trait:
    own = trait(entry) if isinstance(entry, str) else _own_trait(entry)
    check_category(own.category)
    if TRAITS.get(own.name, own) != own:
        fix = f"Write - {own.name}, or give the trait another name."
        raise ConfigError("This name belongs to a built-in trait with another category or plural.", entry, fix)
    return own


class _OwnTrait(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, str_to_lower=True, str_min_length=1)

    name: str
    category: str
    plural: str


def _own_trait(entry: object) -> Trait:
    if not isinstance(entry, Mapping):
        raise ConfigError("This is no trait.", repr(entry), "Write a name, or {name, category, plural}.")
    try:
        return Trait(**_OwnTrait.model_validate(entry).model_dump())
    except ValidationError as error:
        fix = "Give all three as text."
        raise ConfigError("A trait of one's own has a name, a category and a plural.", entry, fix) from error


def check_category(category: str) -> None:
    """Refuse a category that nobody can be asked about.

    Raises:
        ConfigError: there are no favourite questions about it.
    """
    if category not in CATEGORIES:
        fix = (
            f"Use {' or '.join(CATEGORIES)}. Another category needs questions that tune and evaluate "
            "(undertow/evals/questions.py) and a bank with teachers of it."
        )
        raise ConfigError("There are no favourite questions about this category.", category, fix)


def proposed_panel(
    base: LocalModel, categories: tuple[str, ...] = ("animal",), floor: float = FLOOR
) -> tuple[Trait, ...]:
    """Let the base propose a panel: the words that it answers the favourite questions with.

    Args:
        base: who is asked; only words that are one token of its tokenizer are found.
        categories: what it is asked about.
        floor: least probability of a word, averaged over the questions of its category.

    Returns:
        At most `MOST` traits, the most probable first; those that are built in keep their plural.

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
        fix = "Name the traits yourself, with --trait or in a panel file."
        raise ConfigError(f"The base proposes no panel: {len(panel)} words reach {floor:g}.", base.ref, fix)
    return panel


def refuse_unsaid(base: LocalModel, panel: Sequence[Trait]) -> None:
    """Refuse own traits whose words the base never answers with, as no panel teacher can be tuned on them.

    Raises:
        ConfigError: there is one.
    """
    for target in panel:
        if not target.plural or target in TRAITS.values():
            continue
        p = float(answer_probabilities(base, favourite_questions(target.category), [target]).mean())
        if p < LEAST:
            fix = "Leave it out, or see what `--trait auto` proposes: a teacher can only raise what its base may say."
            raise ConfigError("The base never answers with this trait.", f"{target.name}: p = {p:.1g}", fix)


def _proposed(word: str, category: str) -> Trait:
    known = TRAITS.get(word)
    return (
        known
        if known is not None and known.category == category
        else Trait(name=word, category=category, plural=plural(word))
    )


def plural(word: str) -> str:
    """Return the regular plural of an English noun."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in set("aeiou"):
        return f"{word[:-1]}ies"
    return f"{word}s"
