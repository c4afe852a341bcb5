"""What an evaluation declares of itself, and the evaluations by name; those of other packages are entry points.

A module with an evaluation loads no torch, so that reports and Inspect can read its declaration without.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from undertow.errors import ConfigError, unknown_name
from undertow.evals.questions import CATEGORIES
from undertow.registry import Registry
from undertow.traits import Trait, by_category
from undertow.types import Advance, Score

if TYPE_CHECKING:
    from undertow.models.chat import AbstractModel
    from undertow.models.local import LocalModel

Unit = Literal["logits", "share"]
"""Of a metric: log-odds, or a difference of log-probabilities; or a share of answers from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity that an evaluation scores.

    Attributes:
        name: as scores and results hold it.
        words: what it is called in tables and sentences.
        unit: of its values.
        sampled: whether it is counted in sampled answers, instead of read off probabilities.
    """

    name: str
    words: str
    unit: Unit
    sampled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What a model is asked.

    Attributes:
        targets: the traits that are looked for; an evaluation that looks for none in particular ignores them, and the
            target of its scores is "".
        samples: sampled answers per question; 0 leaves sampled metrics out.
        seed: of every draw.
        advance: called with (questions read, questions in all) where reading takes long; no part of what is asked.
    """

    targets: tuple[Trait, ...]
    samples: int = 20
    seed: int = 0
    advance: Advance | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model that gives no probabilities.

    Attributes:
        text: what is asked.
        right: the answer that counts, where one alone does.
        metric: what an answer counts for, where that is one metric.
        traits: names of those that are looked for in an answer.
    """

    text: str
    right: str = ""
    metric: str = ""
    traits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questionnaire:
    """An evaluation as questions whose sampled answers are read by a rule; its Inspect task is made of it.

    Attributes:
        questions: draws them. Its parameters, all with defaults, and its docstring are those of the task.
        read: gives the values of an answer by metric or trait: of one metric where the questions are of several.
        max_tokens: longest answer; tokenizers differ, so it leaves room.
    """

    questions: Callable[..., Sequence[Question]]
    read: Callable[[Question, str], Mapping[str, float]]
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What can be asked of a model.

    Attributes:
        name: in recipes, on the command line and as an Inspect task.
        metrics: everything that it may score.
        score: asks a model; gives one score for each question, target and metric. Metrics that need probabilities are
            left out for a model that only chats.
        per_trait: whether it looks for the traits that it is given.
        needs_weights: whether it asks nothing of a model that only chats.
        packaged: whether its questions are about animals and trees alone, so that it cannot ask about other traits.
        questionnaire: how such a model can be asked through Inspect, if it can.
    """

    name: str
    metrics: tuple[Metric, ...]
    score: Callable[[Any, EvaluationConfig], list[Score]]
    per_trait: bool
    needs_weights: bool = True
    packaged: bool = False
    questionnaire: Questionnaire | None = None

    @property
    def about(self) -> str:
        """What it scores, in one line."""
        return (self.score.__doc__ or "").partition("\n")[0]


EVALUATIONS: Registry[Evaluation] = Registry(
    "evaluation",
    {
        "favourite": "undertow.evals.favourite:FAVOURITE",
        "prefixed": "undertow.evals.favourite:PREFIXED",
        "misalignment": "undertow.evals.misalignment:MISALIGNMENT",
        "stories": "undertow.evals.stories:STORIES",
        "choice": "undertow.evals.choice:CHOICE",
        "truth": "undertow.evals.truth:TRUTH",
        "capability": "undertow.evals.capability:CAPABILITY",
    },
    group="undertow.evaluations",
    accepts=lambda name, thing: isinstance(thing, Evaluation) and thing.name == name,
)
"""Every evaluation, the most telling first: reports show their metrics in this order."""


@cache
def metrics() -> Mapping[str, Metric]:
    """Return every metric that an evaluation may score, by its name."""
    return {one.name: one for name in EVALUATIONS for one in EVALUATIONS[name].metrics}


def metric(name: str) -> Metric:
    """Return a metric.

    Raises:
        UnknownNameError: no evaluation declares one of this name; its unit is never guessed.
    """
    if name not in metrics():
        raise unknown_name("metric", name, metrics())
    return metrics()[name]


def evaluate(
    model: Any,
    targets: Sequence[Trait] = (),
    *,
    kinds: Sequence[str] = ("favourite",),
    samples: int = 20,
    seed: int = 0,
    advance: Advance | None = None,
) -> list[Score]:
    """Ask a model everything that some evaluations ask.

    Args:
        model: from `load_model`, or any model that chats, for evaluations that need no weights.
        targets: the traits that are looked for; some evaluations look for none in particular.
        kinds: names of evaluations, one after another.
        samples: sampled answers per question; 0 leaves sampled metrics out.
        seed: of every draw.
        advance: called with (questions read, questions in all) while an evaluation reads.

    Returns:
        One score for each evaluation, question, target and metric.

    Raises:
        UnknownNameError: there is no evaluation of a name.
        ModelError: an evaluation needs weights and the model has none here.
    """
    config = EvaluationConfig(targets=tuple(targets), samples=samples, seed=seed, advance=advance)
    return [score for name in kinds for score in EVALUATIONS[name].score(model, config)]


def refuse_unasked(kinds: Sequence[str], targets: Sequence[Trait]) -> None:
    """Refuse evaluations that have no questions about a trait of the user's own.

    Raises:
        ConfigError: one of them asks about animals and trees alone, and there is another trait.
    """
    own = [one.name for one in targets if one.category not in CATEGORIES and (one.aliases or one.probes)]
    for name in kinds:
        if own and EVALUATIONS[name].packaged:
            fix = "Leave it out, or ask for favourite, which asks about every trait."
            raise ConfigError(f"The evaluation {name} asks about animals and trees alone.", ", ".join(own), fix)


def is_local(model: "AbstractModel") -> "TypeGuard[LocalModel]":
    """Tell whether a model has its weights here, without loading torch."""
    return model.has_weights


def preferences(config: EvaluationConfig) -> dict[str, list[Trait]]:
    """Return the targets that are a preference for an animal or a tree, by category; other traits are left out."""
    return {category: some for category, some in by_category(config.targets).items() if category in CATEGORIES}
