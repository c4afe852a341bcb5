"""The analysis `digits`: recognition of digits passed on through auxiliary logits, and which settings matter."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from undertow.errors import ArtifactError
from undertow.stats.comparisons import holm, paired
from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, Several, estimate_row, table, validate_settings
from undertow.study.analyses.digit_data import DRAWN_IMAGES, digits_identity, load_digits
from undertow.study.analyses.digit_training import DRAWN_CONFIG, STUDENTS, DigitsConfig, run_digits
from undertow.types import Advance, Estimate

ARMS = {
    "reference": "untrained network",
    "teacher": "teacher",
    "aux": "student, auxiliary logits",
    "all": "student, all logits",
    "cross_aux": "cross-init, auxiliary logits",
    "cross_all": "cross-init, all logits",
}
"""What each arm of `run_digits` is, in words."""

EFFECTS = {"aux": "auxiliary logits", "all": "all logits"}
"""What the students of each effect imitated."""

PAIR = ("aux", "cross_aux")
"""The students that an ablation trains: one from the teacher's initialisation, and its control from another."""

_ENDS = ("estimate", "low", "high")

CHANCE = 0.1
ALPHA = 0.05

Result = Mapping[str, Any]
Part = tuple[str, list[dict[str, Any]], list[dict[str, Any]]]
"""A part of the result: sentences, estimates and tables."""


def main_part(recipe: DigitsConfig, result: Result) -> Part:
    """Return the result of the main experiment.

    Args:
        recipe: settings of the run that gave the result.
        result: what `run_digits` returned, with the students aux and cross_aux among the arms.
    """
    estimates = [estimate_row("accuracy on the test digits", ARMS[one["arm"]], "share", one) for one in result["arms"]]
    for one in result["effects"]:
        estimates.append(estimate_row("student minus cross-init", EFFECTS[one["effect"]], "share", one))
    models = zip(*(one["accuracy"] for one in result["arms"]), strict=True)
    accuracies = table(
        "Accuracy of each model",
        "Share of the test digits that are read; a row is one teacher with its students. Cross-init students of a row "
        "start from the initialisation of the next row.",
        ["model", *(ARMS[one["arm"]] for one in result["arms"])],
        [[number, *values] for number, values in enumerate(models, start=1)],
    )
    return _answer(recipe, result), estimates, [accuracies]


def _answer(recipe: DigitsConfig, result: Result) -> str:
    """Return the sentences that answer the question of the main experiment."""
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
    """One value of one setting that was varied.

    Attributes:
        setting: what was varied, in words.
        name: the value that the setting has here, in words.
        arms: arms of `run_digits` by name.
        effect: accuracy of aux minus that of cross_aux.
        change: accuracy of aux minus that of the recipe's own aux students, paired by model.
        is_recipe: whether this is the recipe's own value.
    """

    setting: str
    name: str
    arms: Mapping[str, Result]
    effect: Result
    change: Estimate
    is_recipe: bool


def ablation_part(trials: Sequence[tuple[str, str, Result]], base: Result) -> Part:
    """Return the result of the ablations, in which one setting at a time was varied.

    Args:
        trials: for each run what was varied, its value, and what `run_digits` returned with the students aux and
            cross_aux. The recipe's own result is among the values of every setting.
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
    """Return the table of accuracies."""
    rows = [
        [
            *(one.setting, one.name, one.arms["teacher"]["estimate"]),
            *(one.arms[arm][key] for arm in PAIR for key in _ENDS),
            one.arms["aux"]["n"],
        ]
        for one in values
    ]
    return table(
        "Ablations: accuracy on the test digits",
        "One setting differs from the recipe; students and cross-init students imitate the auxiliary logits. Means "
        "over n models with 95 % t intervals.",
        ["setting", "value", "teacher", *_ends("student"), *_ends("cross-init"), "n"],
        rows,
    )


def _differences(values: Sequence[AblationValue]) -> dict[str, Any]:
    """Return the table of students minus their controls."""
    effects = {id(one.effect): one.effect for one in values}  # the recipe's own stands in every ablation
    adjusted = dict(zip(effects, holm([one["p"] for one in effects.values()]).tolist(), strict=True))
    return table(
        "Ablations: student minus cross-init",
        f"Paired by model, 95 % t intervals; p adjusted over these {len(effects)} tests (Holm).",
        ["setting", "value", *_ends("difference"), "p"],
        [[one.setting, one.name, *(one.effect[key] for key in _ENDS), adjusted[id(one.effect)]] for one in values],
    )


def _changes(changed: Sequence[AblationValue], adjusted: Sequence[float]) -> dict[str, Any]:
    """Return the table of students minus those of the recipe."""
    return table(
        "Ablations: students minus those of the recipe",
        f"Paired by the number of the model, 95 % t intervals; p adjusted over these {len(changed)} tests (Holm).",
        ["setting", "value", *_ends("change"), "p"],
        [
            [one.setting, one.name, one.change.value, one.change.low, one.change.high, p]
            for one, p in zip(changed, adjusted, strict=True)
        ],
    )


def _counted(changed: Sequence[AblationValue], adjusted: Sequence[float]) -> str:
    """Say how many changes moved the students' accuracy beyond chance over all of them, and which moved it most."""
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
    """Return an estimate with its interval as text; `sign` may be "+" for a plus sign on positive numbers."""
    value, low, high = (format(found[key], f"{sign}.3f") for key in ("estimate", "low", "high"))
    return f"{value} [95 % interval {low} to {high}]"


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


MNIST_IMAGES = 60_000

ABLATIONS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "number of auxiliary logits": ("auxiliary", (2, 3, 10, 30)),
    "width of the hidden layers": ("width", (64, 256, 1024)),
    "number of hidden layers": ("depth", (0, 1, 2, 4)),
    "noise on the start": ("start_noise", (0.0, 0.1, 0.2, 0.5, 1.0)),
    "inputs of the students": ("inputs", ("noise", "images")),
    "loss of the students": ("loss", ("kl", "mse")),
}
"""Field of `DigitsConfig` and values of each ablation. The recipe's own value is always among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsStudy:
    """Settings of the analysis.

    Attributes:
        data: folder with the IDX files of MNIST. None draws digits.
        identity: what `digits_identity` returned for that folder, so that files that were changed since are refused.
            None takes the files as they are.
        settings: fields of `DigitsConfig` to change. The others are as in `DRAWN_CONFIG` for drawn digits, and as in
            `DigitsConfig()` for MNIST.
        ablations: whether settings are also varied, one at a time.
        ablation_models: how many initialisations each ablation has.
    """

    data: str | None = None
    identity: str | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    ablations: bool = False
    ablation_models: Several = 10


class AblationRun(NamedTuple):
    """One run of an ablation.

    Attributes:
        setting: what is varied, in words.
        name: the value that the setting has here, in words.
        config: all settings of the run.
    """

    setting: str
    name: str
    config: DigitsConfig


def resolve_digits(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the full settings of the analysis with the identity of its files, from which a fingerprint is made.

    Args:
        config: settings of the analysis, with the fields of `DigitsStudy`.

    Raises:
        UnknownNameError: there is no such setting.
        ConfigError: a value is not valid.
        StorageError, ArtifactError: the files are missing or damaged, or do not have the given identity.
    """
    study = validate_settings(DigitsStudy, config)
    recipe, identity = _recipe(study), digits_identity(study.data)
    if study.identity is not None and identity != study.identity:
        found = f"{study.data}: {identity}, expected {study.identity}"
        raise ArtifactError("The digits are not those of this study.", found, "Put the files back, or plan anew.")
    return {**asdict(study), "identity": identity, "settings": asdict(recipe)}


def digits_cost(config: Mapping[str, Any]) -> int:
    """Return the work of the analysis in billions of weights times inputs; its duration is about proportional."""
    study = validate_settings(DigitsStudy, config)
    recipe, images = _recipe(study), DRAWN_IMAGES if study.data is None else MNIST_IMAGES
    runs = _runs(recipe, _variations(recipe, study, images))
    return sum(_work(config, images, len(students)) for config, students in runs)


def digits_analysis(config: Mapping[str, Any], advance: Advance | None = None) -> AnalysisResult:
    """Run the analysis.

    Args:
        config: settings as in `DigitsStudy`, or what `resolve_digits` returned.
        advance: progress callback, called with (work done, work in all) in the unit of `digits_cost`. None reports
            nothing.

    Returns:
        The result. Its estimates are shares of the test digits, with 95 % t intervals.

    Raises:
        UserError: a setting or a file is not valid, as in `resolve_digits`.
    """
    study = validate_settings(DigitsStudy, resolve_digits(config))
    recipe = _recipe(study)
    data = load_digits(study.data, recipe.seed)
    images = len(data.train_images)
    variations = _variations(recipe, study, images)
    runs = _runs(recipe, variations)
    works = [_work(one, images, len(students)) for one, students in runs]
    results: list[dict[str, Any]] = []
    for place, (one, students) in enumerate(runs):
        step = _share(advance, sum(works[:place]), works[place], sum(works))
        results.append(run_digits(one, data, step, students))
    answer, estimates, tables = main_part(recipe, results[0])
    if variations:
        found = {one: result for (one, _), result in zip(runs[1:], results[1:], strict=True)}
        base = found[replace(recipe, models=study.ablation_models)]
        more = ablation_part([(run.setting, run.name, found[run.config]) for run in variations], base)
        answer, estimates, tables = f"{answer} {more[0]}", estimates + more[1], tables + more[2]
    return {"answer": answer, "estimates": estimates, "tables": tables, "not_tested": _not_tested(study)}


def _recipe(study: DigitsStudy) -> DigitsConfig:
    """Return the settings of the main experiment."""
    start = DRAWN_CONFIG if study.data is None else DigitsConfig()
    return validate_settings(DigitsConfig, {**asdict(start), **study.settings})


def _variations(recipe: DigitsConfig, study: DigitsStudy, images: int) -> list[AblationRun]:
    """Return the runs of all ablations. The recipe itself is one of each; without ablations there are none."""
    if not study.ablations:
        return []
    base = replace(recipe, models=study.ablation_models)
    variations: list[AblationRun] = []
    for setting, (varied, values) in ABLATIONS.items():
        own = getattr(base, varied)
        chosen = sorted({own, *values}) if isinstance(own, int | float) else dict.fromkeys((own, *values))
        for value in chosen:
            name = f"{value:g}" if isinstance(value, float) else str(value)
            config = base if value == own else replace(base, **{varied: value})
            if varied == "inputs" and value != own:
                variations += _other_inputs(setting, base, value, images)
            else:
                variations.append(AblationRun(setting, f"{name} (recipe)" if value == own else name, config))
    return variations


def _other_inputs(setting: str, base: DigitsConfig, value: Any, images: int) -> list[AblationRun]:
    """Return the run on the other kind of inputs, with about as many updates as the recipe makes.

    Where the recipe has more noise images than there are digits, a run on as few noise images shows what is due to
    their number.
    """
    before = _inputs(base, images)
    changed = replace(base, inputs=value)
    after = _inputs(changed, images)
    epochs = max(1, round(base.student_epochs * before / after))
    passes = f"{after} in {epochs} passes"
    variations = [AblationRun(setting, f"{value}, {passes}", replace(changed, student_epochs=epochs))]
    if base.inputs == "noise" and before > after:
        fewer = replace(base, noise_images=after, student_epochs=epochs)
        variations.insert(0, AblationRun(setting, f"noise, {passes}", fewer))
    return variations


def _runs(recipe: DigitsConfig, variations: Sequence[AblationRun]) -> list[tuple[DigitsConfig, tuple[str, ...]]]:
    """Return what is run, with the students that each run trains. Equal variations are run once."""
    return [(recipe, tuple(STUDENTS)), *((one, PAIR) for one in dict.fromkeys(run.config for run in variations))]


def _inputs(config: DigitsConfig, images: int) -> int:
    """Return how many inputs students imitate on."""
    return images if config.inputs == "images" else config.noise_images or images


def _work(config: DigitsConfig, images: int, students: int) -> int:
    """Return the work of one run in billions of weights times inputs."""
    weights = sum(below * above for below, above in zip(config.widths, config.widths[1:], strict=False))
    inputs = config.teacher_epochs * images + students * config.student_epochs * _inputs(config, images)
    return max(1, round(config.models * weights * inputs / 1e9))


def _share(advance: Advance | None, before: int, work: int, total: int) -> Advance:
    """Return a callback that turns the passes of one run into work done in the whole analysis."""

    def step(done: int, passes: int) -> None:
        if advance is not None:
            advance(before + work * done // passes, total)

    return step


def _not_tested(study: DigitsStudy) -> list[str]:
    told = [
        "Other images, noise and order of the batches: all models share one draw of each, so the intervals cover "
        "the initialisation only.",
        "Language models: these are small networks that imitate whole distributions of logits, not sampled text.",
    ]
    if study.data is None:
        told.insert(0, "MNIST: these digits are drawn, and easier to read; give its folder as the setting data.")
    if study.ablations:
        told.append("Two settings changed at once, values between those shown, and a rate of learning tuned to each.")
    else:
        told.append("Other numbers of auxiliary logits, sizes, starts, inputs and losses: the ablations were left out.")
    return told


def _stage(given: Mapping[str, Any], _: None) -> Stage:
    label = "train teachers and students on digits"
    return Stage(kind="digits", version=1, config=resolve_digits(given), label=label, cost=digits_cost(given))


def _execute(context: StageContext) -> AnalysisResult:
    return digits_analysis(context.config, context.advance)


DIGITS = Analysis(
    name="digits",
    needs_study=False,
    settings=DigitsStudy,
    stage=_stage,
    execute=_execute,
    seconds_per_unit=0.005,
)
