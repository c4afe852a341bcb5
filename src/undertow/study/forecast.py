"""Estimates of how long a study's stages take on a base of which the store holds no results yet.

Nothing is loaded for it. Tokens are counted on a few drawn prompts with the base's own tokenizer, and every answer is
taken to be as long as allowed.
"""

from collections.abc import Callable, Mapping
from typing import final

from undertow.domains.base import domain
from undertow.evals.base import EvaluationConfig
from undertow.evals.forecast import COUNTED, Forecast
from undertow.evals.judges import UNASKED
from undertow.evals.loads import Load, evaluation_loads
from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.store.stages import Stage
from undertow.traits import defined
from undertow.types import Sampling, known_sum, user_prompt

NAMED = 8
"""How many tokens an answer that names a favourite has."""


@final
class StageForecast:
    """Estimates the seconds of stages of an `hf:` base. Each base is looked at once."""

    def __init__(self) -> None:
        self._bases: dict[str, Forecast] = {}
        self._known: dict[Stage, float | None] = {}  # asked again whenever a stage begins

    def __call__(self, stage: Stage) -> float | None:
        """Return how many seconds a stage takes. None where nothing can be told.

        Args:
            stage: the stage whose duration is wanted.

        Raises:
            UserError: there is no such base.
        """
        base, count = str(stage.config.get("base", "")), _COUNTS.get(stage.kind)
        if count is None or not base.startswith("hf:"):
            return None
        if stage not in self._known:
            if base not in self._bases:
                self._bases[base] = Forecast(base)
            self._known[stage] = count(self._bases[base], stage)
        return self._known[stage]


def _teacher(base: Forecast, stage: Stage) -> float | None:
    """Estimate making a teacher."""
    training = stage.config["training"]
    rows = training["steps"] * training["batch_size"]
    return base.training(
        rows, rows * (base.prompt_tokens([*map(user_prompt, favourite_questions(CATEGORIES[0]))]) + NAMED)
    )


def _rows(base: Forecast, stage: Stage) -> float | None:
    """Estimate the answers of a teacher."""
    n = stage.parents["prompts"].config["n"]
    return base.seconds(Load(what="", tokens=round(n * _row_tokens(base, stage)), texts=n, written=True))


def _tokens(base: Forecast, stage: Stage) -> float | None:
    """Estimate reading a teacher's rows by teacher and base."""
    written = _origin(stage)
    n = 2 * written.parents["prompts"].config["n"]
    return base.seconds(Load(what="", tokens=round(n * _row_tokens(base, written)), texts=n))


def _students(base: Forecast, stage: Stage) -> float | None:
    """Estimate training a group of students."""
    training, members = stage.config["training"], len(stage.config["members"])
    rows = members * training["steps"] * training["batch_size"]
    return base.training(rows, rows * _row_tokens(base, _origin(stage)))


def _scores(base: Forecast, stage: Stage) -> float | None:
    """Estimate the evaluations of a group of models."""
    config, seconds = stage.config, list[float | None]()
    targets, judge = tuple(map(defined, config["targets"])), UNASKED if "judge" in config else None
    asked = EvaluationConfig(targets=targets, samples=config["samples"], judge=judge)
    for kind in config["kinds"]:
        loads = evaluation_loads(kind, base.words, asked)
        seconds += [None] if loads is None else map(base.seconds, loads)
    total = known_sum(seconds)
    return None if total is None else total * len(config["members"])


_COUNTS: Mapping[str, Callable[[Forecast, Stage], float | None]] = {
    "teacher": _teacher,
    "rows": _rows,
    "tokens": _tokens,
    "students": _students,
    "scores": _scores,
}


def _origin(stage: Stage) -> Stage:
    """Return the stage that wrote the rows of which another one is made; of several, the first."""
    while stage.kind != "rows":
        stage = next(parent for parent in stage.parents.values() if parent.kind not in ("teacher", "prompts"))
    return stage


def _row_tokens(base: Forecast, written: Stage) -> float:
    """Return the mean number of tokens of a prompt with its answer."""
    drawn, system = written.parents["prompts"].config, written.config.get("system")
    prompts = domain(**drawn["domain"]).prompts(min(COUNTED, drawn["n"]), drawn["seed"])
    answer = base.answer_tokens(Sampling(**written.config["sampling"]))
    return base.prompt_tokens([user_prompt(text, system) for text in prompts]) + answer
