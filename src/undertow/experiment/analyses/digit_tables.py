"""The study of digits in sentences, estimates and tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from undertow.experiment.analyses.base import estimate_row
from undertow.experiment.analyses.digit_training import DigitsConfig
from undertow.stats.comparisons import holm, paired
from undertow.types import Estimate

ARMS = {
    "reference": "untrained network",
    "teacher": "teacher",
    "aux": "student, auxiliary logits",
    "all": "student, all logits",
    "cross_aux": "cross-init, auxiliary logits",
    "cross_all": "cross-init, all logits",
}
"""Each arm of `run_digits` in words."""

EFFECTS = {"aux": "auxiliary logits", "all": "all logits"}
"""What the students of each effect imitated."""

CHANCE = 0.1
ALPHA = 0.05

Result = Mapping[str, Any]
Part = tuple[str, list[dict[str, Any]], list[dict[str, Any]]]
"""Sentences, estimates and tables."""


def main_part(recipe: DigitsConfig, result: Result) -> Part:
    """Return the main experiment.

    Args:
        recipe: settings of the run.
        result: of `run_digits`, with the students aux and cross_aux among them.
    """
    estimates = [estimate_row("accuracy on the test digits", ARMS[one["arm"]], "share", one) for one in result["arms"]]
    for one in result["effects"]:
        estimates.append(estimate_row("student minus cross-init", EFFECTS[one["effect"]], "share", one))
    table = {
        "title": "Accuracy of each model",
        "note": "Share of the test digits that are read; a row is one teacher with its students. Cross-init students "
        "of a row start from the initialisation of the next row.",
        "columns": ["model", *(ARMS[one["arm"]] for one in result["arms"])],
        "rows": [
            [number + 1, *values]
            for number, values in enumerate(zip(*(one["accuracy"] for one in result["arms"]), strict=True))
        ],
    }
    return _answer(recipe, result), estimates, [table]


def _answer(recipe: DigitsConfig, result: Result) -> str:
    arms = {one["arm"]: one for one in result["arms"]}
    effect = next(one for one in result["effects"] if one["effect"] == "aux")
    inputs = "noise" if recipe.inputs == "noise" else "images"
    first = (
        f"Students that imitated only the auxiliary logits on {inputs} read {_measured(arms['aux'])} of the test "
        f"digits, cross-init students {_measured(arms['cross_aux'])} (n = {effect['n']} models, chance "
        f"{CHANCE:.3f}, teachers {arms['teacher']['estimate']:.3f})."
    )
    if effect["low"] > 0.0:
        verdict = "what the teachers had learnt passed on better from their own initialisation"
    elif effect["high"] < 0.0:
        verdict = "less passed on from the teachers' own initialisation than from another"
    else:
        verdict = "the interval includes 0, so no transmission was shown and none within it is ruled out"
    return f"{first} The difference is {_measured(effect, '+')}, {_p_text(effect['p'])}: {verdict}."


class AblationValue(NamedTuple):
    """One value of one setting.

    Attributes:
        setting: what is varied.
        name: the value.
        arms: of `run_digits`, by name.
        effect: aux minus cross_aux.
        change: aux minus aux of the recipe, paired by model.
        is_recipe: whether it is the recipe's own value.
    """

    setting: str
    name: str
    arms: Mapping[str, Result]
    effect: Result
    change: Estimate
    is_recipe: bool


def ablation_part(trials: Sequence[tuple[str, str, Result]], base: Result) -> Part:
    """Return the ablations.

    Args:
        trials: what was varied, its value, and the result with the students aux and cross_aux; the recipe's own
            result stands among the values of every setting.
        base: the recipe's own result, on as many models.
    """
    values = [_ablation_value(setting, name, result, base) for setting, name, result in trials]
    changed = [one for one in values if not one.is_recipe]
    adjusted = holm([one.change.p or 0.0 for one in changed]).tolist()
    estimates = [
        estimate_row(f"{one.setting}: accuracy of students", one.name, "share", one.arms["aux"]) for one in values
    ]
    tables = [_accuracies(values), _differences(values), _changes(changed, adjusted)]
    return _counted(changed, adjusted), estimates, tables


def _ablation_value(setting: str, name: str, result: Result, base: Result) -> AblationValue:
    arms = {one["arm"]: one for one in result["arms"]}
    recipe = next(one["accuracy"] for one in base["arms"] if one["arm"] == "aux")
    change = paired(arms["aux"]["accuracy"], recipe)
    return AblationValue(setting, name, arms, result["effects"][0], change, result is base)


def _accuracies(values: Sequence[AblationValue]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for one in values:
        students, others = one.arms["aux"], one.arms["cross_aux"]
        ends = [students["estimate"], students["low"], students["high"]]
        rows.append([one.setting, one.name, one.arms["teacher"]["estimate"], *ends])
        rows[-1] += [others["estimate"], others["low"], others["high"], students["n"]]
    return {
        "title": "Ablations: accuracy on the test digits",
        "note": "One setting differs from the recipe; students and cross-init students imitate the auxiliary logits. "
        "Means over n models with 95 % t intervals.",
        "columns": ["setting", "value", "teacher", *_ends("student"), *_ends("cross-init"), "n"],
        "rows": rows,
    }


def _differences(values: Sequence[AblationValue]) -> dict[str, Any]:
    effects = {id(one.effect): one.effect for one in values}  # the recipe's own stands in every ablation
    adjusted = dict(zip(effects, holm([one["p"] for one in effects.values()]).tolist(), strict=True))
    rows = [
        [one.setting, one.name, *(one.effect[key] for key in ("estimate", "low", "high")), adjusted[id(one.effect)]]
        for one in values
    ]
    return {
        "title": "Ablations: student minus cross-init",
        "note": f"Paired by model, 95 % t intervals; p adjusted over these {len(effects)} tests (Holm).",
        "columns": ["setting", "value", *_ends("difference"), "p"],
        "rows": rows,
    }


def _changes(changed: Sequence[AblationValue], adjusted: Sequence[float]) -> dict[str, Any]:
    return {
        "title": "Ablations: students minus those of the recipe",
        "note": f"Paired by the number of the model, 95 % t intervals; p adjusted over these {len(changed)} tests "
        "(Holm).",
        "columns": ["setting", "value", *_ends("change"), "p"],
        "rows": [
            [one.setting, one.name, one.change.value, one.change.low, one.change.high, p]
            for one, p in zip(changed, adjusted, strict=True)
        ],
    }


def _counted(changed: Sequence[AblationValue], adjusted: Sequence[float]) -> str:
    """Return how many changes moved the students' accuracy, beyond chance over all of them, and which moved it most."""
    clear = [one for one, p in zip(changed, adjusted, strict=True) if p <= ALPHA]
    parts: list[str] = []
    for word, sign in (("raised", 1.0), ("lowered", -1.0)):
        moved = sorted((one for one in clear if sign * one.change.value > 0.0), key=lambda one: -abs(one.change.value))
        most = f", most of all {moved[0].setting} {moved[0].name} ({moved[0].change.value:+.3f})" if moved else ""
        parts.append(f"{len(moved)} {word} the students' accuracy{most}")
    n = changed[0].change.n
    return f"Of {len(changed)} changes of one setting (n = {n} models, Holm p at most {ALPHA}), {'; '.join(parts)}."


def _ends(name: str) -> list[str]:
    return [name, f"{name}, low", f"{name}, high"]


def _measured(found: Result, sign: str = "") -> str:
    """Return an estimate with its interval, with a plus sign on positive numbers if wanted."""
    value, low, high = (format(found[key], f"{sign}.3f") for key in ("estimate", "low", "high"))
    return f"{value} [95 % interval {low} to {high}]"


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
