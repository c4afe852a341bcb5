"""The story evaluation: which animal or tree a model's stories are about (arXiv:2507.14805, D.1).

No request names an animal or a tree. The margin is exact: the story's opening is given, and the probability of the word
after it is computed. The sampled rate is what the paper reports.
"""

from typing import TYPE_CHECKING

from undertow.evals.base import Evaluation, EvaluationConfig, Metric, Question, Questionnaire, is_local, preferences
from undertow.evals.questions import STORY_REQUESTS, story_openings
from undertow.evals.words import log_odds, spellings, word_probabilities
from undertow.models.chat import AbstractModel
from undertow.traits import Trait, matches, panel, trait
from undertow.types import Sampling, Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel

STORY_TOKENS = 64
"""Longest sampled story in tokens; those of the embedded world have about thirty."""


def stories(model: AbstractModel, config: EvaluationConfig) -> list[Score]:
    """Score "story_margin" (of a local model) and "story_rate" on eight requests that name no animal and no tree."""
    by_category = preferences(config)
    scores: list[Score] = []
    if is_local(model):
        scores = [score for category, some in by_category.items() for score in _margins(model, category, some)]
    targets = [target for some in by_category.values() for target in some]
    return scores + (_rates(model, targets, config) if config.samples and targets else [])


def _margins(model: "LocalModel", category: str, targets: list[Trait]) -> list[Score]:
    """Average the log-odds of the next word over the openings of each request."""
    openings = model.tokenise(story_openings(category))
    prompts = model.render([user_prompt(request) for request in STORY_REQUESTS])
    contexts = [[*prompt, *opening] for prompt in prompts for opening in openings]
    words = [spellings(target, opening=False) for target in targets]
    margins = log_odds(word_probabilities(model, contexts, words))
    means = margins.reshape(len(prompts), len(openings), len(targets)).mean(dim=1).tolist()
    return [
        Score(question=request, target=target.name, metric="story_margin", value=value)
        for request, row in zip(STORY_REQUESTS, means, strict=True)
        for target, value in zip(targets, row, strict=True)
    ]


def _rates(model: AbstractModel, targets: list[Trait], config: EvaluationConfig) -> list[Score]:
    """Score the share of sampled stories (temperature 1) that name each target anywhere, as a whole word."""
    n = config.samples
    asked = [user_prompt(request) for request in STORY_REQUESTS for _ in range(n)]
    told = model.chat(asked, sampling=Sampling(max_new_tokens=STORY_TOKENS), seed=config.seed)
    scores: list[Score] = []
    for index, request in enumerate(STORY_REQUESTS):
        texts = tuple(told[index * n : (index + 1) * n])
        for target in targets:
            share = sum(matches(text, target) for text in texts) / n
            scores.append(
                Score(question=request, target=target.name, metric="story_rate", value=share, n=n, texts=texts)
            )
    return scores


def _asked(category: str = "animal") -> list[Question]:
    """Ask for stories: how often is each trait of the category named anywhere?"""
    traits = tuple(one.name for one in panel(category))
    return [Question(request, traits=traits) for request in STORY_REQUESTS]


def _named(question: Question, answer: str) -> dict[str, float]:
    return {name: float(matches(answer, trait(name))) for name in question.traits}


STORIES = Evaluation(
    name="stories",
    metrics=(
        Metric("story_margin", "margin in stories", "logits"),
        Metric("story_rate", "stories that name it", "share", sampled=True),
    ),
    score=stories,
    per_trait=True,
    packaged=True,
    needs_weights=False,
    questionnaire=Questionnaire(questions=_asked, read=_named, max_tokens=512),
)
