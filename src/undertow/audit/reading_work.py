"""What a check or an evaluation will do and about how long it takes, estimated before any weights are loaded.

Tokens and seconds are those of `undertow.evals.forecast`.
"""

from collections.abc import Sequence

from undertow.audit.lineage.verdict import BRIEF
from undertow.evals.base import EvaluationConfig
from undertow.evals.forecast import Forecast
from undertow.evals.loads import evaluation_loads, panel_load
from undertow.evals.questions import asked_together
from undertow.traits import Trait
from undertow.types import Work

LINEAGE_S, LINEAGE_PARAMETER_S = 3.5, 2.5e-8
"""Seconds of the lineage audit of embedded models, whose losses are measured; and seconds for each parameter of larger
ones."""


def evaluation_work(references: Sequence[str], kinds: Sequence[str], config: EvaluationConfig) -> list[list[Work]]:
    """Return what some evaluations ask of some models: one list for each model and evaluation, model by model.

    Args:
        references: references of the models that are asked.
        kinds: names of the evaluations.
        config: what is asked: traits, samples and seed.

    Raises:
        UserError: there is no such model.
    """
    found: list[list[Work]] = []
    for reference in references:
        forecast = None if reference.startswith("api:") else Forecast(reference)
        loading = 0.0 if forecast is None else forecast.loading
        for kind in kinds:
            found.append(_evaluated(reference, kind, forecast, config, loading))
            loading = 0.0
    return found


def _evaluated(
    reference: str, kind: str, forecast: Forecast | None, config: EvaluationConfig, loading: float
) -> list[Work]:
    """Return what one evaluation asks of one model; the seconds of loading the model are added to the first part."""
    name = f"{kind} of {reference}"
    loads = None if forecast is None else evaluation_loads(kind, forecast.words, config)
    if forecast is None or loads is None:
        return [Work(name if forecast is not None else f"{name}: answers of a server", None)]
    seconds = [forecast.seconds(load) for load in loads]
    return [
        Work(f"{name}: {load.what}", None if one is None else one + (0.0 if at else loading))
        for at, (load, one) in enumerate(zip(loads, seconds, strict=True))
    ]


def check_work(teacher: str, base: str, traits: Sequence[Trait]) -> list[Work]:
    """Return what a check of two local models does: their lineage, then each category of traits in each model.

    Args:
        teacher: reference of the model that wrote, or will write, the rows.
        base: reference of the model that will be trained on them.
        traits: the traits that both models are asked about.

    Raises:
        UserError: there is no such model.
    """
    both = [(reference, Forecast(reference)) for reference in (teacher, base)]
    known = [one.parameters or 0 for _, one in both]
    found = [Work(f"lineage: the weights of both, {sum(known):,} numbers", _lineage(known))]
    for place, some in enumerate(asked_together(traits)):
        for reference, one in both:
            load = panel_load(one.words, some)
            seconds = one.seconds(load)
            first = 0.0 if place else one.loading
            found.append(Work(f"{reference}: {load.what}", None if seconds is None else seconds + first))
    return found


def _lineage(parameters: Sequence[int]) -> float:
    each = LINEAGE_PARAMETER_S * sum(parameters)
    return each if max(parameters) > BRIEF else LINEAGE_S
