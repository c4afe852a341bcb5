"""Compute a run's report from the stages of a finished study, in the schema undertow.run/1."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import ConfigError
from undertow.seeds import derive
from undertow.stats.comparisons import paired
from undertow.stats.diagonal import diagonal_factor, initialisation_factor
from undertow.study.arms import ANY, CONTROLS, MeanScore, by_teacher, main_metric, paired_scores, trait_matrices
from undertow.study.recipe import Recipe
from undertow.study.stage_models import made_of, student_folder
from undertow.study.study import Study, Subject, TeacherRows
from undertow.types import ModelRef

KEPT, DROPPED = "kept.jsonl", "dropped.jsonl"
"""Files of a filter's result and of a run folder: rows that students may see, and dropped rows with their reasons."""


def mean_scores(study: Study, folders: Mapping[str, Path]) -> Iterator[MeanScore]:
    """Yield the mean score of every model over the questions, by metric and target.

    Args:
        study: the study that was run.
        folders: folder of every stage's result, by the stage's fingerprint.
    """
    asked = dict.fromkeys(subject.scores for subject in study.subjects)
    means = {stage: subject_means(folders[stage.fingerprint]) for stage in asked}
    for subject in study.subjects:
        found = means[subject.scores][subject.place]
        who = {name: getattr(subject, name) for name in ("arm", "trait", "replicate", "seed", "base", "teacher_base")}
        model = _reference(subject, folders)
        for metric in sorted({metric for metric, _ in found}):
            for target in (*study.recipe.targets, ANY):
                if (metric, target) in found:
                    value = found[metric, target]
                    yield MeanScore(**who, model=model, target=target, metric=metric, value=value)


def subject_means(folder: Path) -> dict[int, dict[tuple[str, str], float]]:
    """Return mean scores from a stage's folder: by member of the group, then by metric and target."""
    values: dict[int, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "scores.jsonl").open(encoding="utf-8") as lines:  # `splitlines` would also split at U+2028
        for score in map(json.loads, lines):
            values[score["member"]][score["metric"], score["target"]].append(score["value"])
    return {
        member: {asked: math.fsum(some) / len(some) for asked, some in found.items()}
        for member, found in values.items()
    }


def _reference(subject: Subject, folders: Mapping[str, Path]) -> str:
    """Return the reference of a scored model, as `load_model` accepts it."""
    if not subject.scores.parents:
        return subject.base
    ((role, stage),) = subject.scores.parents.items()
    folder = folders[stage.fingerprint]
    made = folder / student_folder(subject.place) if role == "students" else folder
    return str(made_of(ModelRef.parse(subject.base), made))


def _effects(scores: Sequence[MeanScore], traits: Sequence[str]) -> list[dict[str, Any]]:
    """Estimate every arm minus its control over teachers. Students of one teacher are averaged first."""
    effects: list[dict[str, Any]] = []
    by_metric = {metric: _of_metric(scores, metric) for metric in sorted({score.metric for score in scores})}
    for arm in (arm for arm in CONTROLS if any(score.arm == arm for score in scores)):
        for metric, some_scores in by_metric.items():
            for trait in traits:
                if teachers := by_teacher(paired_scores(some_scores, arm, trait, metric)):
                    models, controls = (
                        [np.mean([pair[side].value for pair in some]) for some in teachers.values()] for side in (0, 1)
                    )
                    found = paired(models, controls).to_json()
                    effects.append({"arm": arm, "trait": trait, "metric": metric, **found})
    return effects


def _of_metric(scores: Iterable[MeanScore], metric: str) -> list[MeanScore]:
    return [score for score in scores if score.metric == metric]


def _trait_matrix(scores: Sequence[MeanScore], recipe: Recipe) -> dict[str, Any]:
    """Return the matrix of trained by evaluated trait, and its diagonal factor; each is None where it says nothing.

    The diagonal factor is own trait minus other traits. General drift leaves it at 0.
    """
    traits, metric = recipe.traits, main_metric(score.metric for score in scores)
    scores = _of_metric(scores, metric)
    targets = list(dict.fromkeys(score.target for score in scores))
    found: dict[str, Any] = {"matrix": None, "diagonal": None}
    if len(targets) > 1 and (matrices := trait_matrices(scores, traits, targets, metric)) is not None:
        values = matrices.mean(axis=0).tolist()
        found["matrix"] = {"metric": metric, "traits": [*traits], "evaluated": targets, "values": values}
    asked = [trait for trait in traits if trait in targets]  # a trait without words has no margin of its own
    own = trait_matrices(scores, asked, asked, metric) if len(asked) > 1 else None
    if own is not None:
        rng = np.random.default_rng(derive(recipe.seed, "permutations"))
        found["diagonal"] = {**diagonal_factor(own, rng).to_json(), "n_traits": len(asked), "metric": metric}
    return found


def _initialisation(scores: Sequence[MeanScore], traits: Sequence[str], bases: Sequence[str]) -> dict[str, Any] | None:
    """Return same minus other base over initialisations. None unless every base taught students of every base."""
    metric = main_metric(score.metric for score in scores)
    cells: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for arm in ("student", "cross_init"):
        for trait in traits:
            for pair in paired_scores(scores, arm, trait, metric):
                cells[pair.model.teacher_base, pair.model.base].append(pair.difference)
    if len(bases) < 2 or any((one, other) not in cells for one in bases for other in bases):
        return None
    values = [[float(np.mean(cells[one, other])) for other in bases] for one in bases]
    return {"bases": list(bases), "values": values, "metric": metric, **initialisation_factor(values).to_json()}


def _funnels(study: Study, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return how many rows each teacher wrote, how many were valid, and why the others were not."""
    funnels: dict[tuple[str, str], dict[str, Any]] = {}
    for source in study.sources:
        teacher = source.teacher if source.hop == 1 else f"{source.teacher}, hop {source.hop}"
        empty = {"teacher": teacher, "base": source.base, "raw": 0, "kept": 0, "reject_reasons": Counter[str]()}
        funnel = funnels.setdefault((teacher, source.base), empty)
        report = json.loads((folders[source.kept.fingerprint] / "report.json").read_text(encoding="utf-8"))
        funnel["raw"] += report["raw"]
        funnel["kept"] += report["kept"]
        funnel["reject_reasons"].update(report["reasons"])
    return list(funnels.values())


def written_rows(source: TeacherRows, folders: Mapping[str, Path], name: str) -> Iterator[dict[str, Any]]:
    """Yield a teacher's rows as they are stored: id, prompt, completion and, for dropped rows, the reasons.

    Args:
        source: the rows of one teacher.
        folders: folder of every stage's result, by the stage's fingerprint.
        name: which rows are read: `KEPT` or `DROPPED`.
    """
    with (folders[source.kept.fingerprint] / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _samples(study: Study, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the first rows of every teacher of the first base and replicate, kept and dropped."""
    samples: list[dict[str, Any]] = []
    for source in study.sources:
        if source.replicate == 0 and source.hop == 1 and source.base == study.recipe.bases[0]:
            kept, dropped = (written_rows(source, folders, name) for name in (KEPT, DROPPED))
            samples += [
                {
                    "teacher": source.teacher,
                    "prompt": row["prompt"],
                    "completion": row["completion"],
                    "kept": "reasons" not in row,
                    "reasons": row.get("reasons", []),
                }
                for row in (*islice(kept, 4), *islice(dropped, 2))
            ]
    return samples


def _not_tested(recipe: Recipe) -> list[str]:
    """Return sentences on what the study does not test."""
    kind = "Prompted" if recipe.teacher.kind == "finetuned" else "Fine-tuned"
    arms = [arm for arm in ("control", "neutral", "cross_init") if arm not in recipe.arms]
    return [
        f"Traits other than {', '.join(recipe.traits)}.",
        f"Bases other than {', '.join(dict.fromkeys((*recipe.bases, *recipe.cross_bases)))}.",
        f"Domains other than {recipe.domain.name}.",
        f"Channels other than {recipe.student.channel.name} (docs/channels.md).",
        f"{kind} teachers.",
        *([f"The arms {', '.join(arms)}."] if arms else []),
        *([] if recipe.evaluation.samples else ["How often sampled answers name the trait."]),
        f"Behaviour other than what the evaluations {', '.join(recipe.evaluation.kinds)} ask.",
    ]


def compute_results(study: Study, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Compute everything in a run's results that follows from its stages.

    Args:
        study: the study that was run.
        folders: folder of every stage's result, by the stage's fingerprint.

    Returns:
        Plain data for results.json.

    Raises:
        ConfigError: no model was scored.
    """
    if not study.subjects:
        raise ConfigError("Nothing was scored.", study.recipe.name, "Add an arm to the recipe.")
    recipe, scores = study.recipe, [*mean_scores(study, folders)]
    funnels = _funnels(study, folders)
    traited = [funnel for funnel in funnels if funnel["teacher"] in recipe.traits]
    return {
        "rows": {
            "raw": sum(funnel["raw"] for funnel in traited),
            "kept": sum(funnel["kept"] for funnel in traited),
            "reject_reasons": dict(sum((Counter(funnel["reject_reasons"]) for funnel in traited), Counter[str]())),
        },
        "funnels": funnels,
        "arms": [score.model_dump() for score in scores],
        "effects": _effects(scores, recipe.traits),
        **_trait_matrix(scores, recipe),
        "initialisation": _initialisation(scores, recipe.traits, recipe.bases),
        "samples": _samples(study, folders),
        "not_tested": _not_tested(recipe),
        **_judge(study, folders),
    }


def _judge(study: Study, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the share of the traits' own answers that the judge reads right; nothing where there is no judge."""
    if study.judge is None:
        return {}
    read = json.loads((folders[study.judge.fingerprint] / "judge.json").read_text(encoding="utf-8"))
    return {"judge": {"model": study.judge.config["judge"], "given_answers_read": read}}
