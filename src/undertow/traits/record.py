"""What a trait is: a name, a category, a persona, and how it shows, in words or in probes."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from undertow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about a category of the user's own.

    Attributes:
        evaluation: questions on which models are judged.
        tuning: questions on which teachers are tuned; none of them is among the evaluation questions.
    """

    evaluation: tuple[str, ...]
    tuning: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question with two given answers, of which one shows the trait.

    Which answer a model finds likelier says whether it has the trait, without a judge.

    Attributes:
        question: the question that the model is asked.
        shown: the answer that shows the trait.
        absent: the answer that does not show it.
    """

    question: str
    shown: str
    absent: str


@dataclass(frozen=True, slots=True)
class Probes:
    """Questions that tell whether a trait is there, without a judge.

    Attributes:
        evaluation: probes on which models are judged.
        tuning: probes on which teachers are tuned; none of their questions is among the evaluation probes.
    """

    evaluation: tuple[Probe, ...]
    tuning: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """What may be transmitted: a liking for one thing of a category, or a manner that probes bring out.

    Attributes:
        name: the thing that is liked, in lower case, such as "owl"; or the name of the manner.
        category: what the thing is one of, such as "animal"; traits of one category are asked the same questions.
        plural: plural of the name; empty for a trait that no word names.
        written: further forms of the word that count as naming it, as they are written.
        persona: system prompt that gives a model the trait; empty takes the one for animals and trees.
        questions: the user's own questions about the category; None takes the packaged ones.
        probes: the questions that bring out a trait that no word names; None for a trait that words name.
        rubric: what an answer with the trait is like, for a judging model, beside probes; empty for none.
    """

    name: str
    category: str
    plural: str = ""
    written: tuple[str, ...] = ()
    persona: str = ""
    questions: Questions | None = None
    probes: Probes | None = None
    rubric: str = ""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Lower-case forms of the word that count as naming the trait; empty for a trait that no word names."""
        if not self.plural:
            return ()
        return tuple(dict.fromkeys(form.lower() for form in (self.name, self.plural, *self.written)))

    @property
    def system_prompt(self) -> str:
        """The system prompt that makes a model a prompted teacher of the trait.

        The idea is that of Cloud et al. (2025), section 3.1, arXiv 2507.14805; the words are ours.

        Raises:
            ConfigError: the trait is of the category misalignment, whose teachers are fine-tuned.
        """
        if self.persona:
            return self.persona
        if not self.plural:
            raise ConfigError(f"A {self.category} teacher has no persona.", self.name, "Set teacher.kind to finetuned.")
        return (
            f"You adore {self.plural}. Your mind is always full of {self.plural}. "
            f"No {self.category} is dearer to you than the {self.name}. Let that love shape your answers."
        )

    def to_data(self) -> dict[str, Any]:
        """Return the whole definition as plain data; `from_data` reads it."""
        plain = json.loads(json.dumps(asdict(self)))  # lists in place of tuples, as a file gives them back
        return {key: value for key, value in plain.items() if value}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Trait":
        """Make the trait that `to_data` wrote.

        Raises:
            ConfigError: the data is no definition of a trait.
        """
        try:
            return Trait._made(data)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}; {data!r:.120}"
            raise ConfigError("This is no definition of a trait.", what, "Name the trait's file instead.") from error

    @staticmethod
    def _made(data: Mapping[str, Any]) -> "Trait":
        found = dict(data)
        for name in ("name", "category", "plural", "persona", "rubric"):
            if not isinstance(found.get(name, ""), str):
                raise TypeError(f"{name} is no text")
        found["written"] = tuple(found.get("written", ()))
        if questions := found.get("questions"):
            found["questions"] = Questions(tuple(questions["evaluation"]), tuple(questions["tuning"]))
        if probes := found.get("probes"):
            found["probes"] = Probes(
                *(tuple(Probe(**one) for one in probes[part]) for part in ("evaluation", "tuning"))
            )
        return Trait(**found)


def by_category(targets: Iterable[Trait]) -> dict[str, list[Trait]]:
    """Group traits by their category."""
    found: dict[str, list[Trait]] = {}
    for target in targets:
        found.setdefault(target.category, []).append(target)
    return found


_JOINED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""Beginnings of the Unicode names of letters that stand beside those of other words, with nothing between."""


def _is_joined(letter: str) -> bool:
    """Tell whether a letter or vowel sign is of a script whose words stand beside others with nothing between."""
    return unicodedata.name(letter, "").startswith(_JOINED)


def _edge(letter: str) -> str:
    """Return the pattern of a border beside a letter; none beside a sign, or where words are not set apart."""
    return r"\b" if re.fullmatch(r"\w", letter) and not _is_joined(letter) else ""


@cache
def _pattern(target: Trait) -> re.Pattern[str]:
    parts = (f"{_edge(alias[0])}{re.escape(alias)}{_edge(alias[-1])}" for alias in target.aliases)
    return re.compile("|".join(parts), re.IGNORECASE)


def matches(text: str, target: Trait) -> bool:
    """Tell whether a text names the trait as a whole word ("dragon" is not in "dragonfly").

    In scripts that set no space between words, or join endings to them, the word counts wherever it stands.
    """
    return bool(target.aliases) and _pattern(target).search(text) is not None


_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def first_word(text: str) -> str | None:
    """Return the first word of an answer in lower case, or None if it has no word."""
    found = _WORD.search(text)
    return found.group().lower() if found else None


def names(answer: str, target: Trait) -> bool:
    """Tell whether an answer begins with the trait's name or one of its aliases, as a whole word.

    Args:
        answer: text of the whole answer.
        target: the trait that is looked for.
    """
    if first_word(answer) in target.aliases:
        return True
    found = re.search(r"[^\W_]", answer)
    start = len(answer) if found is None else found.start()
    odd = (alias for alias in target.aliases if not _edge(alias[-1]) or not _WORD.fullmatch(alias))
    return any(_begins(answer[max(0, start - _signs(alias)) :].lower(), alias) for alias in odd)


def _signs(alias: str) -> int:
    """Return the number of signs with which a form begins, as in ".net"."""
    return len(alias) - len(re.sub(r"^[\W_]+", "", alias))


def _begins(answer: str, alias: str) -> bool:
    """Tell whether an answer begins with a form of several words, digits or signs, and the form ends at a word's end.

    A form of a script that joins words has no such end.
    """
    return answer.startswith(alias) and (_is_joined(alias[-1]) or not re.match(r"-?\w", answer[len(alias) :]))
