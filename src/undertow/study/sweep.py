"""Sweeps: one study in several variants, which share every stage that they have in common.

A variant changes settings of the recipe. Random seeds depend on the recipe's seed and on names alone. Variants that
differ only in the student therefore have the same teachers and the same rows, and are compared replicate by replicate.

A grid is every combination of a few settings' values: `trait=owl,cat` and `seed=0..9` make twenty variants, named
"trait=owl, seed=0" and so on. Values are YAML, as those of `--set` are, and `a..b` stands for every integer from a to
b.
"""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ConfigDict

from undertow.errors import ConfigError
from undertow.evals.base import metric
from undertow.stats.comparisons import paired
from undertow.stats.estimates import with_interval
from undertow.store.progress import Progress
from undertow.store.run_folder import write_run
from undertow.store.runner import Runner
from undertow.store.side_by_side import build_side_by_side
from undertow.store.stages import PlannedStage, Stage, order
from undertow.study.analyses.base import ESTIMATE, SCHEMA, AnalysisResult, estimate_row, table
from undertow.study.arms import MeanScore, main_metric, mean_differences, paired_scores
from undertow.study.early_signs import looked_at_by_all
from undertow.study.executors import EXECUTORS
from undertow.study.forecast import StageForecast
from undertow.study.recipe import Recipe, build_recipe, merge, nested, read_recipe
from undertow.study.run import RATES, ask_judges, prepare_workers, run_recipe
from undertow.study.study import build_study

SHOWN = ("student", "hop_2", "hop_3", "hop_4", "cross_init", "neutral")
"""Arms whose effects the figure shows. The tables hold all arms."""

_LONGEST_NAME = 120
"""Longest part of a folder's name that comes from a variant, in characters. A file system takes 255 with what is
added."""

_MOST_LISTED = 12
"""Number of variants up to which the answer names each."""

VariantResults = Mapping[str, Any]
Gains = dict[tuple[str | None, int], float]
"""Arm minus control, in the metric's unit, by the teacher's base and replicate."""


class Sweep(BaseModel):
    """A study in several variants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str = ""
    """The question that the sweep asks, in one sentence."""
    variants: dict[str, Recipe]
    """The whole recipe of every variant, in the order of the report. Differences are taken from the first one."""


def build_sweep(data: Mapping[str, Any]) -> Sweep:
    """Make a sweep of a recipe with the key `variants`, which maps names to changed settings.

    Args:
        data: the recipe as plain data.

    Raises:
        UnknownNameError: a key does not exist.
        ConfigError: a value is not valid, or there are no variants.
    """
    variants = data["variants"]
    if not isinstance(variants, Mapping) or not variants or not all(map(_is_settings, variants.values())):
        raise ConfigError("A sweep needs variants.", variants, "Write variants: {name: {setting: value}}.")
    base = {key: value for key, value in data.items() if key != "variants"}
    name = str(base.get("name", "sweep"))
    recipes = {
        str(key): build_recipe({**merge(base, changes or {}), "name": f"{name}-{_plain(str(key))}"})
        for key, changes in variants.items()
    }
    return Sweep(name=name, question=str(base.get("question", "")), variants=recipes)


def _is_settings(changes: Any) -> bool:
    return changes is None or isinstance(changes, Mapping)


def _plain(variant: str) -> str:
    """Return a variant's name in a form that fits into the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", variant).strip("-")[:_LONGEST_NAME]


def sweep_targets(sweep: Sweep) -> list[Stage]:
    """Return the last stages of all variants. Nothing is computed."""
    return [stage for recipe in sweep.variants.values() for stage in build_study(recipe).targets]


def count_uses(sweep: Sweep) -> Counter[str]:
    """Return how many variants need each stage, by the stage's fingerprint."""
    studies = map(build_study, sweep.variants.values())
    return Counter(stage.fingerprint for study in studies for stage in order(study.targets))


def plan_sweep(sweep: Sweep, runs: Path) -> list[PlannedStage]:
    """Return the stages of all variants, each once: which are finished, and how long the others would take."""
    return Runner(runs / "store", EXECUTORS, rates=RATES, forecast=StageForecast()).plan(sweep_targets(sweep))


def run_sweep(
    sweep: Sweep,
    runs: Path,
    *,
    progress: Progress | None = None,
    rebuild: bool = False,
    workers: int = 1,
    started: float | None = None,
) -> dict[str, Any]:
    """Run every variant, each into a run folder of its own, and compare them.

    Args:
        sweep: the study and its variants.
        runs: folder in which all runs, and the store of finished stages, are kept.
        progress: receives the progress of every stage. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.
        workers: how many stages of all variants run at once.
        started: value of `time.perf_counter` at the beginning, if stages were computed before. None takes now.

    Returns:
        The content of results.json.

    Raises:
        UserError: a stage stopped for a reason that the user can fix, or the disk did.
    """
    started = time.perf_counter() if started is None else started
    runner = Runner(runs / "store", EXECUTORS, progress, rebuild, RATES, StageForecast())
    ask_judges(runner, map(build_study, sweep.variants.values()))
    if workers > 1:
        for recipe in sweep.variants.values():
            prepare_workers(recipe, workers)
        runner.finished = looked_at_by_all(map(build_study, sweep.variants.values()))
        build_side_by_side(runner, sweep_targets(sweep), workers)
        progress = None  # told already
    found = {
        name: run_recipe(recipe, runs, progress=progress, rebuild=rebuild) for name, recipe in sweep.variants.items()
    }
    return write_run(sweep, runs, compare(found), schema=SCHEMA, started=started)


def compare(found: Mapping[str, VariantResults]) -> AnalysisResult:
    """Compare the results of variants: effects in the main metric, and differences from the first variant.

    Args:
        found: results of each variant, by its name.
    """
    estimates = [
        _row(f"{arm} minus its control, {trait}", name, effect)
        for arm in SHOWN
        for trait in _traits(found)
        for name, results in found.items()
        if (effect := _effect(results, arm, trait)) is not None
    ]
    factors = [
        _row("own trait minus other traits (diagonal factor)", name, factor)
        for name, results in found.items()
        if (factor := results["diagonal"]) is not None
    ]
    return {
        "answer": _answer(found),
        "estimates": [*estimates, *factors],
        "tables": [_effects_table(found), *_differences(found), _factors(found), _rows_table(found)],
        "not_tested": sorted({line for results in found.values() for line in results["not_tested"]}),
        "runs": {name: results["run_dir"] for name, results in found.items()},
    }


def _main_metric(results: VariantResults) -> str:
    """Return the metric in which variants are compared."""
    return main_metric(effect["metric"] for effect in results["effects"])


def _traits(found: Mapping[str, VariantResults]) -> list[str]:
    return list(dict.fromkeys(one["trait"] for results in found.values() for one in results["effects"]))


def _effect(results: VariantResults, arm: str, trait: str) -> VariantResults | None:
    key = arm, trait, _main_metric(results)
    return next((one for one in results["effects"] if (one["arm"], one["trait"], one["metric"]) == key), None)


def _row(group: str, name: str, found: VariantResults) -> dict[str, Any]:
    return estimate_row(group, name, metric(found["metric"]).unit, found)


def _text(effect: VariantResults) -> str:
    """Return an effect with its interval as text."""
    return with_interval(effect, missing=f" (n = {effect['n']}, no interval)")


def _listed(shown: Mapping[str, VariantResults]) -> str:
    """Name the effect of every variant; of many variants, only the least and the greatest."""
    if len(shown) <= _MOST_LISTED:
        return "; ".join(f"{name} {_text(effect)}" for name, effect in shown.items())
    least, *_, most = sorted(shown, key=lambda name: shown[name]["estimate"])
    return f"{len(shown)} variants, from {_text(shown[least])} ({least}) to {_text(shown[most])} ({most})"


def _answer(found: Mapping[str, VariantResults]) -> str:
    """Return the sentences that answer the sweep's question."""
    sentences: list[str] = []
    for trait in _traits(found):
        shown = {name: effect for name, results in found.items() if (effect := _effect(results, "student", trait))}
        if shown:
            n = min(effect["n"] for effect in shown.values())
            units = {metric(effect["metric"]).unit for effect in shown.values()}
            unit, parts = "in logits" if units == {"logits"} else "as a share", _listed(shown)
            sentences.append(f"Student minus control, {trait}, {unit} (95 % intervals, n = {n}): {parts}.")
    if factors := {name: factor for name, results in found.items() if (factor := results["diagonal"]) is not None}:
        parts = _listed(factors)
        sentences.append(f"Own trait minus other traits (diagonal factor; drift alone leaves it at 0): {parts}.")
    return "\n".join(sentences)


def _effects_table(found: Mapping[str, VariantResults]) -> dict[str, Any]:
    rows = [
        [name, effect["arm"], effect["trait"], effect["metric"], *(effect[key] for key in ESTIMATE)]
        for name, results in found.items()
        for effect in results["effects"]
    ]
    columns = ["variant", "arm", "trait", "metric", *ESTIMATE]
    return table("Every effect", "Arm minus its own control.", columns, rows)


def effects_by_teacher(results: VariantResults, trait: str) -> Gains:
    """Return student minus control in the main metric, by the teacher's base and replicate, over students' bases."""
    scores = [MeanScore(**one) for one in results["arms"]]
    return mean_differences(paired_scores(scores, "student", trait, _main_metric(results)))


def _differences(found: Mapping[str, VariantResults]) -> list[dict[str, Any]]:
    """Return each variant's student effect minus that of the first variant, paired by replicate."""
    (first, reference), *others = found.items()
    rows: list[Sequence[Any]] = []
    for name, results in others:
        for trait in _traits(found):
            before, after = (effects_by_teacher(one, trait) for one in (reference, results))
            common = [key for key in before if key in after]
            if len(common) >= 2 and _main_metric(results) == _main_metric(reference):
                change = paired([after[key] for key in common], [before[key] for key in common]).to_json()
                rows.append([name, trait, *(change[key] for key in ESTIMATE)])
    if not rows:
        return []
    columns = ["variant", "trait", "difference", "low", "high", "n", "p"]
    note = "Student minus control, minus the same of the first variant; paired by replicate, not corrected for many."
    return [table(f"Difference from {first}", note, columns, rows)]


def _factors(found: Mapping[str, VariantResults]) -> dict[str, Any]:
    rows = [
        [name, kind, *(factor[key] for key in ESTIMATE)]
        for name, results in found.items()
        for kind in ("diagonal", "initialisation")
        if (factor := results[kind]) is not None
    ]
    note = "Diagonal: own trait minus others; initialisation: same minus other bases. Empty if neither was measured."
    return table("Factors", note, ["variant", "factor", *ESTIMATE], rows)


def _rows_table(found: Mapping[str, VariantResults]) -> dict[str, Any]:
    rows = [
        [name, results["rows"]["raw"], results["rows"]["kept"], results["run_dir"]] for name, results in found.items()
    ]
    note = "Rows of all teachers with a trait; each run folder has a report of its own."
    return table("Rows and runs", note, ["variant", "raw", "kept", "run"], rows)


MOST_VARIANTS = 1000
"""Largest number of variants. Each has a run folder and a row in the report, and nobody reads thousands of them."""

LISTS = {"trait": "traits", "base": "bases"}
"""Short keys that stand for a list of one entry: `trait=owl` is `traits=[owl]`."""

_RANGE = re.compile(r"(-?[0-9]{1,9})\.\.(-?[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting that a grid varies, with its values.

    Attributes:
        key: the setting's name as the user wrote it, such as "trait" or "student.rank".
        values: the values that the setting takes, at least one, as plain data.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def setting(self) -> str:
        """The recipe's key that is set."""
        return LISTS.get(self.key, self.key)

    def changes(self, value: object) -> dict[str, Any]:
        """Return the nested settings for one of the values."""
        return nested(self.setting, [value] if self.key in LISTS else value)

    def label(self, value: object) -> str:
        """Return one of the values with its key, such as "seed=3"."""
        return f"{self.key}={value if isinstance(value, str) else json.dumps(value, default=str)}"


def parse_axis(text: str) -> Axis:
    """Read one setting of a grid, `KEY=VALUES`.

    Args:
        text: a key as `--set` takes it or one of `LISTS`, and a list such as `owl,cat`, `0..9` or `[0],[0,1]`.

    Raises:
        ConfigError: the text has another form, has no value or one of them twice, or a range runs backwards.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        fix = "Write for example --grid trait=owl,cat or --grid seed=0..9."
        raise ConfigError("A grid has the form KEY=VALUES.", text, fix)
    try:
        listed: object = yaml.safe_load(f"[{values}]")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("The values of a grid are not a list in YAML.", text, "Put commas between them.") from error
    found = [one for value in cast(list[Any], listed) for one in _expanded(value, text)]
    if not found:
        raise ConfigError("A grid needs values.", text, "Write for example --grid seed=0..9.")
    axis = Axis(key.strip(), tuple(found))
    labels = [axis.label(value) for value in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ConfigError("A grid names the same value twice.", twice, "Leave one of them out.")
    return axis


def _expanded(value: object, text: str) -> Sequence[Any]:
    """Return the integers of a range, or the value itself."""
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return [value]
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise ConfigError("A range of a grid runs backwards.", text, f"Write {last}..{first}.")
    _refuse_too_many(last - first + 1)
    return range(first, last + 1)


def parse_grid(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Read all settings of a grid, each `KEY=VALUES`.

    Raises:
        ConfigError: one of them is not valid, two set the same setting, or there are more than `MOST_VARIANTS`
            combinations.
    """
    axes = tuple(map(parse_axis, texts))
    for one, other in itertools.permutations(axes, 2):
        if f"{one.setting}.".startswith(f"{other.setting}."):
            what, fix = "Two grids set the same setting.", "Put all of its values into one --grid."
            raise ConfigError(what, f"--grid {other.key} and --grid {one.key}", fix)
    n_variants = 1
    for axis in axes:
        n_variants *= len(axis.values)
    _refuse_too_many(n_variants)
    return axes


def _refuse_too_many(n_variants: int) -> None:
    if n_variants > MOST_VARIANTS:
        fix = "Give fewer values, or run the sweep in parts: stages that two parts share are computed once."
        raise ConfigError(f"A sweep has at most {MOST_VARIANTS} variants.", n_variants, fix)


def load_sweep(where: str, grid: Sequence[str], settings: Sequence[str] = (), tier: str | None = None) -> Sweep:
    """Read a recipe and vary it over a grid. Variants of the recipe's own are combined with every point of the grid.

    Args:
        where: path of a YAML file, or name of a packaged recipe.
        grid: settings to vary, each of the form `KEY=VALUES`. It may be empty if the recipe has variants.
        settings: changes of settings, each of the form `key.sub=value`.
        tier: name of one of the recipe's tiers. None takes the recipe's own settings.

    Raises:
        UnknownNameError: there is no such recipe, key, tier or trait.
        ConfigError: a value is not valid, or there is nothing to sweep over.
    """
    data = read_recipe(where, settings, tier)
    if "analysis" in data:
        fix = "Give a recipe with teachers and students, or use `undertow run`."
        raise ConfigError("A sweep takes studies of language models only.", f"{where}: analysis", fix)
    axes = parse_grid(grid)
    if not axes and "variants" not in data:
        raise ConfigError("There is nothing to sweep over.", where, "Add for example --grid seed=0..9.")
    if not axes:
        return build_sweep(data)
    own = data.get("variants", {"": {}})
    if not isinstance(own, Mapping):
        return build_sweep(data)  # which says what is wrong
    variants = dict(_product(cast(Mapping[str, Any], own), axes))
    _refuse_too_many(len(variants))
    return build_sweep({**data, "variants": variants})


def _product(own: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and settings of every variant; the last setting changes first."""
    for name, settings in own.items():
        for values in itertools.product(*(axis.values for axis in axes)):
            point = list(zip(axes, values, strict=True))
            changes = dict(settings or {})
            for axis, value in point:
                changes = merge(changes, axis.changes(value))
            labels = [axis.label(value) for axis, value in point]
            yield ", ".join([str(name), *labels] if name else labels), changes
