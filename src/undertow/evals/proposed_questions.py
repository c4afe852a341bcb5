"""Questions about a user's own trait that a base proposes, and that it answers with one of the trait's words.

The questions that are made of a category's name fit every category a little. A base is asked to write questions of its
own. Those are kept that speak of the category, and that it answers with the trait or a rival about as often as it
answers the made questions with one.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow.errors import ConfigError
from undertow.evals.favourite import answer_probabilities
from undertow.evals.questions import in_one_word, questions_of
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.traits import LEAST_ASKED, Questions, Trait, matches, regular_plural
from undertow.types import Advance, Prompt, Sampling, user_prompt

WISHES = (
    "Write a question that asks somebody for the {0} that they like best.",
    "Write a question that asks a friend which {0} they would choose.",
    "Write a question that asks which {0} somebody would recommend.",
    "Write a question that asks which {0} comes to mind first.",
    "Write a short question about somebody's favourite {0}.",
    "How would you ask a stranger for the {0} that they think best?",
    "Write a question whose answer is the name of one {0}.",
    "Write a question to find out which {0} a person would buy or pick.",
)
"""What the base is asked to write; {0} is the category. Its answers differ more than those to one wish would."""

ALONE = "Write the question alone, on one line."

TRIED = 480
"""How many questions the base writes."""

MOST = 25
"""How many questions of each part are kept at most, those that the base answers best."""

WORDS = range(4, 25)
"""How many words a question may have."""

SAMPLING = Sampling(max_new_tokens=40, temperature=0.7, top_p=0.9)
"""Colder than a base's own distribution, since a small one otherwise writes questions that nobody would ask."""

LIMIT = 0.25
"""Quantile of the made questions: a kept question is answered with a word at least as often as that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedQuestions:
    """What a base proposed, and how well it answers that.

    Attributes:
        questions: the questions that are kept, half for evaluation and half for tuning, in turns from the best on.
        written: how many texts the base wrote.
        distinct: how many of them are questions about the category that differ and name no word of the traits.
        answered: probability, in (0, 1), that the base answers a kept question with one of the words; mean over them.
        usual: the same of the questions that are made of the category's name.
    """

    questions: Questions
    written: int
    distinct: int
    answered: float
    usual: float

    def to_json(self) -> dict[str, Any]:
        """Return the counts, the probabilities and the questions as plain data."""
        return {
            "written": self.written,
            "distinct": self.distinct,
            "kept": len(self.questions.evaluation) + len(self.questions.tuning),
            "answered": self.answered,
            "usual": self.usual,
            "evaluation": list(self.questions.evaluation),
            "tuning": list(self.questions.tuning),
        }


def wishes(category: str, seed: int, tried: int = TRIED) -> list[Prompt]:
    """Return what a base is asked to write about a category.

    Args:
        category: name of the category, such as "brand of car".
        seed: random seed of the order of the wishes.
        tried: how many questions are to be written.
    """
    texts = [f"{WISHES[place % len(WISHES)].format(category)} {ALONE}" for place in range(tried)]
    return [user_prompt(text) for text in random.Random(derive(seed, "wishes")).sample(texts, tried)]


def propose_questions(
    base: LocalModel, traits: Sequence[Trait], seed: int, tried: int = TRIED, advance: Advance | None = None
) -> ProposedQuestions:
    """Let a base write questions about the category of some traits, and keep those that it answers with their words.

    Args:
        base: the model that writes the questions and answers them.
        traits: the trait and its rivals, all of one category, which words name.
        seed: random seed of what the base writes.
        tried: how many questions it writes.
        advance: callback that takes (questions written, all questions). None reports nothing.

    Raises:
        ConfigError: fewer than twice `LEAST_ASKED` questions are left.
        ModelError: the base has no chat template.
    """
    asked = wishes(traits[0].category, seed, tried)
    texts = base.chat(asked, sampling=SAMPLING, seed=derive(seed, "proposed questions"), advance=advance)
    found = distinct_questions(texts, traits)
    made = questions_of(traits[0])
    usual = _answered(base, (*made.evaluation, *made.tuning), traits)
    proposed = in_one_word(found)
    answered = _answered(base, proposed, traits) if proposed else np.empty(0)
    limit = np.quantile(usual, LIMIT)
    best = [place for place in np.argsort(-answered, kind="stable").tolist() if answered[place] >= limit]
    kept = best[: 2 * MOST]
    if len(kept) < 2 * LEAST_ASKED:
        what = (
            f"Of {tried} texts that the base wrote, {len(found)} are questions that differ, and it answers {len(kept)}"
        )
        fix = "Write questions yourself, or leave them out: then they are made of the category's name (docs/traits.md)."
        raise ConfigError(f"{what} with a word of the traits.", f"{2 * LEAST_ASKED} are needed", fix)
    chosen = [proposed[place] for place in kept]
    return ProposedQuestions(
        questions=Questions(tuple(chosen[0::2]), tuple(chosen[1::2])),
        written=tried,
        distinct=len(found),
        answered=float(answered[kept].mean()),
        usual=float(usual.mean()),
    )


def distinct_questions(texts: Sequence[str], traits: Sequence[Trait]) -> list[str]:
    """Return those first lines that are questions about the traits' category, each once.

    A question speaks of a category if it has the last word of its name, as "car" in "brand of car", or the plural of
    that as a whole word. One that names a word of the traits is left out.

    Args:
        texts: what a base wrote.
        traits: the traits whose words would give an answer away.
    """
    found: dict[str, str] = {}
    category = traits[0].category
    word = category.split()[-1].lower()
    about = Trait(name=word, category=category, plural=regular_plural(word))
    for text in texts:
        line = text.strip().partition("\n")[0].strip().strip("\"'“”*")
        question = re.sub(r"\s+", " ", re.sub(r"^(?:question|q)\s*[:.]\s*", "", line, flags=re.IGNORECASE)).strip(
            "\"'“” "
        )
        is_one = question.endswith("?") and not set('?":') & set(question[:-1]) and len(question.split()) in WORDS
        if is_one and matches(question, about) and not any(matches(question, one) for one in traits):
            found.setdefault(re.sub(r"\W+", " ", question).casefold().strip(), question)
    return list(found.values())


def _answered(base: LocalModel, questions: Sequence[str], traits: Sequence[Trait]) -> Floats:
    """Return the probability that the base answers each question with a word of the traits, shape (questions,)."""
    return answer_probabilities(base, questions, traits).sum(dim=1).numpy()
