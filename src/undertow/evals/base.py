"""What an evaluation declares of itself, and the registry of evaluations by name.

Evaluations of other packages are found by the entry-point group `undertow.evaluations`. A module with an evaluation
does not import torch, so that reports and Inspect can read its declaration without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from undertow.errors import ConfigError, unknown_name
from undertow.evals.judges import Generate
from undertow.evals.questions import CATEGORIES
from undertow.registry import Registry
from undertow.traits import Trait, by_category
from undertow.types import Advance, Score

if TYPE_CHECKING:
    from undertow.models.chat import AbstractModel
    from undertow.models.local import LocalModel

Unit = Literal["logits", "share"]
"""Unit of a metric: "logits" for log-odds or a difference of log-probabilities, "share" for a share of answers between
0 and 1."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity that an evaluation scores.

    Attributes:
        name: name of the metric in scores and results.
        words: name of the metric in tables and sentences.
        unit: unit of its values, "logits" or "share".
        sampled: whether it is counted in sampled answers, instead of being read off probabilities.
    """

    name: str
    words: str
    unit: Unit
    sampled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What a model is asked by an evaluation.

    Attributes:
        targets: the traits that are looked for. An evaluation that looks for none in particular ignores them, and the
            target of its scores is "".
        samples: how many answers are sampled for each question. 0 leaves sampled metrics out.
        seed: random seed of every draw.
        judge: a chat model that judges sampled answers, as a function from prompts to replies. None for none. It is
            called by evaluations that say so (`Evaluation.judge`).
        judge_reads: whether the judge was found to read the rubrics of the traits. If not, it is asked about their own
            answers first.
        advance: callback that takes (questions read, all questions) where reading takes long. It is no part of what is
            asked. None reports nothing.
    """

    targets: tuple[Trait, ...]
    samples: int = 20
    seed: int = 0
    judge: Generate | None = field(default=None, compare=False)
    judge_reads: bool = False
    advance: Advance | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model that gives no probabilities.

    Attributes:
        text: text of the question, as a user's turn.
        right: the answer that counts, where only one does. Empty for other questions.
        metric: name of the metric that an answer counts for, where that is one metric. Empty for other questions.
        traits: names of the traits that are looked for in an answer. Empty for none.
    """

    text: str
    right: str = ""
    metric: str = ""
    traits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questionnaire:
    """An evaluation as questions whose sampled answers are read by a rule; its Inspect task is made of it.

    Attributes:
        questions: draws the questions. Its parameters, all with defaults, and its docstring become those of the Inspect
            task.
        read: gives the values of an answer by metric or by trait. Where the questions are of several metrics it gives
            one value, that of the question's metric.
        max_tokens: longest answer in tokens. It leaves room, because tokenizers differ.
    """

    questions: Callable[..., Sequence[Question]]
    read: Callable[[Question, str], Mapping[str, float]]
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What can be asked of a model: a named set of questions with its metrics and its scoring function.

    Attributes:
        name: name of the evaluation in recipes, on the command line and as an Inspect task.
        metrics: every metric that it may score.
        score: asks a model and returns one score for each question, target and metric. For a model without weights here
            it leaves out metrics that need probabilities.
        per_trait: whether it looks for the traits that it is given.
        needs_weights: whether it can only ask a model that has its weights here.
        judge: whether a chat model can judge its sampled answers ("optional") or has to ("needed"), or "none".
        packaged: whether its questions are about animals and trees alone, so that it cannot ask about other traits.
        questionnaire: how a model can be asked through Inspect. None if it cannot.
    """

    name: str
    metrics: tuple[Metric, ...]
    score: Callable[[Any, EvaluationConfig], list[Score]]
    per_trait: bool
    needs_weights: bool = True
    judge: Literal["none", "optional", "needed"] = "none"
    packaged: bool = False
    questionnaire: Questionnaire | None = None

    @property
    def about(self) -> str:
        """What the evaluation scores, in one line: the first line of its scoring function's docstring."""
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
        "rubric": "undertow.evals.rubric:RUBRIC",
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
    """Return the metric of a name.

    Raises:
        UnknownNameError: no evaluation declares a metric of this name; its unit is never guessed.
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
    judge: Generate | None = None,
) -> list[Score]:
    """Ask a model everything that some evaluations ask, and return the scores.

    Args:
        model: a model from `load_model`. Evaluations that need no weights also take any other model that chats.
        targets: the traits that are looked for. Some evaluations look for none in particular and ignore them.
        kinds: names of the evaluations, which are asked one after another.
        samples: how many answers are sampled for each question. 0 leaves sampled metrics out.
        seed: random seed of every draw.
        judge: a chat model that judges sampled answers (`undertow.evals.judges.judging_model`). None for none.

    Returns:
        One score for each evaluation, question, target and metric, in the unit that the metric declares.

    Raises:
        UnknownNameError: there is no evaluation of one of the names.
        ModelError: an evaluation needs weights and the model has none here.
        ConfigError: an evaluation needs a judge and there is none, or the judge does not read a trait's rubric.
    """
    config = EvaluationConfig(targets=tuple(targets), samples=samples, seed=seed, judge=judge)
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


def refuse_unjudged(kinds: Sequence[str], targets: Sequence[Trait], samples: int, judge: str | None) -> None:
    """Refuse evaluations of sampled answers that no judge would read, and a judge that no evaluation would ask.

    Args:
        kinds: names of the evaluations.
        targets: the traits that are looked for.
        samples: how many answers are sampled for each question.
        judge: name of the judging model. None for none.

    Raises:
        ConfigError: a judge, a rubric or samples are missing, or the judge has nothing to do.
    """
    needed = [name for name in kinds if EVALUATIONS[name].judge == "needed"]
    if needed and judge is None:
        fix = "Name one as Inspect does, such as openai/gpt-4.1-mini: --judge, or evaluation.judge in a recipe."
        raise ConfigError(f"The evaluation {needed[0]} needs a judging model.", "no judge", fix)
    if needed and not any(one.rubric for one in targets):
        names = ", ".join(one.name for one in targets)
        fix = "Write rubric: into a trait file with probes (docs/traits.md), or ask another evaluation."
        raise ConfigError(f"No trait has a rubric, which the evaluation {needed[0]} asks about.", names, fix)
    if judge is None or (samples and any(EVALUATIONS[name].judge != "none" for name in kinds)):
        return
    judged = ", ".join(name for name in EVALUATIONS if EVALUATIONS[name].judge != "none")
    what = f"{samples} samples of {', '.join(kinds)}"
    raise ConfigError("The judge has nothing to judge.", what, f"Leave it out, or sample answers to one of {judged}.")


def is_local(model: "AbstractModel") -> "TypeGuard[LocalModel]":
    """Tell whether a model has its weights on this machine, without importing torch."""
    return model.has_weights


def preferences(config: EvaluationConfig) -> dict[str, list[Trait]]:
    """Return the targets that are a preference for an animal or a tree, by category; other traits are left out."""
    return {category: some for category, some in by_category(config.targets).items() if category in CATEGORIES}
