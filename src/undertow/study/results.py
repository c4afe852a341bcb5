"""From the stages of a finished study to the numbers of its report, schema undertow.run/1 (DESIGN 11)."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from undertow.data.rows import read_rows
from undertow.errors import ConfigError
from undertow.seeds import derive
from undertow.stats.comparisons import paired
from undertow.stats.diagonal import diagonal_factor, initialisation_factor
from undertow.study.arms import CONTROLS, main_metric
from undertow.study.executors import made_of, student_folder
from undertow.study.study import Study, Subject, TeacherRows
from undertow.types import Estimate, ModelRef

ANY = ""
"""Target of a metric that looks for no trait in particular."""
SubjectKey = tuple[str, str | None, str, str, int]
"""Arm, trait, base, the teacher's base, replicate."""


def _key(subject: Subject) -> SubjectKey:
    return subject.arm, subject.trait, subject.base, subject.teacher_base, subject.replicate


@final
class Scoreboard:
    """Mean scores of all subjects of a finished study.

    Args:
        study: what was run.
        folders: of every stage, by fingerprint.
    """

    def __init__(self, study: Study, folders: Mapping[str, Path]) -> None:
        self.study = study
        self._folders = folders
        self._files: dict[str, dict[tuple[int, str, str], float]] = {}
        self._by_key = {_key(subject): subject for subject in study.subjects}
        self._measured = {(metric, target) for _, metric, target in self._scores(study.subjects[0])}
        self.metrics = sorted({metric for metric, _ in self._measured})

    def _scores(self, subject: Subject) -> dict[tuple[int, str, str], float]:
        """Mean over the questions by (member, metric, target)."""
        stage = subject.scores.fingerprint
        if stage not in self._files:
            values: dict[tuple[int, str, str], list[float]] = defaultdict(list)
            lines = (self._folders[stage] / "scores.jsonl").read_text(encoding="utf-8").splitlines()
            for score in map(json.loads, lines):
                values[score["member"], score["metric"], score["target"]].append(score["value"])
            self._files[stage] = {key: math.fsum(some) / len(some) for key, some in values.items()}
        return self._files[stage]

    @property
    def main_metric(self) -> str:
        """The metric of matrices."""
        return main_metric(self.metrics)

    def targets(self, metric: str) -> tuple[str, ...]:
        """Return what a metric looks for: some of the recipe's targets, or `ANY` alone."""
        return tuple(name for name in (*self.study.recipe.targets, ANY) if (metric, name) in self._measured)

    def value(self, subject: Subject, metric: str, target: str) -> float:
        """Return a subject's mean over the questions; a metric that looks for no trait has one value for all."""
        scores = self._scores(subject)
        place = subject.place, metric, target
        return scores[place] if place in scores else scores[subject.place, metric, ANY]

    def difference(self, subject: Subject, metric: str, target: str) -> tuple[float, float]:
        """Return the subject's value and that of its own control."""
        control = self._by_key[self._control_key(subject)]
        return self.value(subject, metric, target), self.value(control, metric, target)

    def _control_key(self, subject: Subject) -> SubjectKey:
        arm = CONTROLS.get(subject.arm, "")
        teacher_base = subject.base if arm == "base" else subject.teacher_base
        return arm, None, subject.base, teacher_base, subject.replicate

    def has_control(self, subject: Subject) -> bool:
        """Tell whether the subject's control was run."""
        return self._control_key(subject) in self._by_key

    def gain(self, subject: Subject, metric: str, target: str) -> float:
        """Return the subject minus its own control."""
        treated, control = self.difference(subject, metric, target)
        return treated - control


def _arms(board: Scoreboard, model: Callable[[Subject], str]) -> list[dict[str, Any]]:
    return [
        {
            "arm": subject.arm,
            "trait": subject.trait,
            "model": model(subject),
            "replicate": subject.replicate,
            "seed": subject.seed,
            "target": target,
            "metric": metric,
            "value": board.value(subject, metric, target),
            "base": subject.base,
            "teacher_base": subject.teacher_base,
        }
        for subject in board.study.subjects
        for metric in board.metrics
        for target in board.targets(metric)
    ]


def _effect(board: Scoreboard, subjects: Iterable[Subject], metric: str, target: str) -> Estimate:
    """Estimate an arm minus its control over fresh teachers; students of one teacher are averaged first."""
    pairs: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for subject in subjects:
        pairs[subject.teacher_base, subject.replicate].append(board.difference(subject, metric, target))
    means = np.array([np.mean(some, axis=0) for some in pairs.values()])
    return paired(means[:, 0], means[:, 1])


def _trained(board: Scoreboard, metric: str) -> tuple[str, ...]:
    """Return the trained traits on which a metric shows an effect of its own."""
    looked_for = board.targets(metric)
    return tuple(name for name in board.study.recipe.traits if name in looked_for or ANY in looked_for)


def _effects(board: Scoreboard) -> list[dict[str, Any]]:
    effects: list[dict[str, Any]] = []
    for arm in CONTROLS:
        for metric in board.metrics:
            for target in _trained(board, metric):
                some = [
                    subject
                    for subject in board.study.subjects
                    if subject.arm == arm and subject.trait in (None, target) and board.has_control(subject)
                ]
                if some:
                    found = _effect(board, some, metric, target).to_json()
                    effects.append({"arm": arm, "trait": target, "metric": metric, **found})
    return effects


def _matrices(board: Scoreboard, targets: tuple[str, ...]) -> np.ndarray:
    """Student minus control of every teacher base and replicate: [units, trained, evaluated]."""
    units: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(dict)
    for subject in board.study.subjects:
        if subject.arm == "student" and subject.trait is not None and board.has_control(subject):
            row = [board.gain(subject, board.main_metric, target) for target in targets]
            units[subject.teacher_base, subject.replicate][subject.trait] = row
    return np.array([[rows[name] for name in board.study.recipe.traits] for rows in units.values()])


def _diagonal(board: Scoreboard) -> dict[str, Any] | None:
    traits = board.study.recipe.traits
    if len(traits) < 2 or board.targets(board.main_metric) == (ANY,):
        return None
    matrices = _matrices(board, traits)
    if not len(matrices):
        return None
    rng = np.random.default_rng(derive(board.study.recipe.seed, "permutations"))
    return {**diagonal_factor(matrices, rng).to_json(), "n_traits": len(traits), "metric": board.main_metric}


def _matrix(board: Scoreboard) -> dict[str, Any] | None:
    recipe = board.study.recipe
    targets = board.targets(board.main_metric)
    if len(targets) < 2:
        return None
    matrices = _matrices(board, targets)
    if not len(matrices):
        return None
    return {
        "metric": board.main_metric,
        "traits": list(recipe.traits),
        "evaluated": list(targets),
        "values": matrices.mean(axis=0).tolist(),
    }


def _initialisation(board: Scoreboard) -> dict[str, Any] | None:
    """Same minus cross over initialisations, where every base taught every other one."""
    bases = board.study.recipe.bases
    cells: dict[tuple[str, str], list[float]] = defaultdict(list)
    for subject in board.study.subjects:
        if subject.arm in ("student", "cross_init") and subject.trait is not None and board.has_control(subject):
            cells[subject.teacher_base, subject.base].append(board.gain(subject, board.main_metric, subject.trait))
    if len(bases) < 2 or any((one, other) not in cells for one in bases for other in bases):
        return None
    values = [[float(np.mean(cells[one, other])) for other in bases] for one in bases]
    return {
        "bases": list(bases),
        "values": values,
        "metric": board.main_metric,
        **initialisation_factor(values).to_json(),
    }


def _report(source: TeacherRows, folders: Mapping[str, Path]) -> dict[str, Any]:
    return json.loads((folders[source.kept.fingerprint] / "report.json").read_text(encoding="utf-8"))


def _funnels(study: Study, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    funnels: dict[tuple[str, str], dict[str, Any]] = {}
    for source in study.sources:
        teacher = source.teacher if source.hop == 1 else f"{source.teacher}, hop {source.hop}"
        empty = {"teacher": teacher, "base": source.base, "raw": 0, "kept": 0, "reject_reasons": Counter[str]()}
        funnel, report = funnels.setdefault((teacher, source.base), empty), _report(source, folders)
        funnel["raw"] += report["raw"]
        funnel["kept"] += report["kept"]
        funnel["reject_reasons"].update(report["reasons"])
    return list(funnels.values())


def _samples(study: Study, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Show the first rows of every teacher of the first base and replicate, kept and dropped."""
    samples: list[dict[str, Any]] = []
    for source in study.sources:
        if source.replicate == 0 and source.hop == 1 and source.base == study.recipe.bases[0]:
            folder = folders[source.kept.fingerprint]
            shown = (*read_rows(folder / "kept.jsonl")[:4], *read_rows(folder / "dropped.jsonl")[:2])
            samples += [
                {
                    "teacher": source.teacher,
                    "prompt": row.prompt[-1].content,
                    "completion": row.completion,
                    "kept": not row.reasons,
                    "reasons": list(row.reasons),
                }
                for row in shown
            ]
    return samples


def _not_tested(study: Study) -> list[str]:
    recipe = study.recipe
    kind = "Prompted" if recipe.teacher.kind == "finetuned" else "Fine-tuned"
    arms = [arm for arm in ("control", "neutral", "cross_init") if arm not in recipe.arms]
    return [
        f"Traits other than {', '.join(recipe.traits)}.",
        f"Bases other than {', '.join(dict.fromkeys((*recipe.bases, *recipe.cross_bases)))}.",
        f"Domains other than {recipe.domain.name}.",
        f"{kind} teachers.",
        *([f"The arms {', '.join(arms)}."] if arms else []),
        *([] if recipe.evaluation.samples else ["How often sampled answers name the trait."]),
        f"Behaviour other than what the evaluations {', '.join(recipe.evaluation.kinds)} ask.",
    ]


def model_names(folders: Mapping[str, Path]) -> Callable[[Subject], str]:
    """Return how a subject's model is called: a reference that `load_model` accepts."""

    def name(subject: Subject) -> str:
        parents = subject.scores.parents
        if "teacher" in parents:
            return str(made_of(ModelRef.parse(subject.base), folders[parents["teacher"].fingerprint]))
        if "students" in parents:
            folder = folders[parents["students"].fingerprint] / student_folder(subject.place)
            return str(made_of(ModelRef.parse(subject.base), folder))
        return subject.base

    return name


def compute_results(study: Study, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Compute everything of a run's results that follows from its stages.

    Args:
        study: what was run.
        folders: of every stage, by fingerprint.

    Raises:
        ConfigError: the study has no subject.
    """
    if not study.subjects:
        raise ConfigError("Nothing was scored.", study.recipe.name, "Add an arm to the recipe.")
    board = Scoreboard(study, folders)
    funnels = _funnels(study, folders)
    traited = [funnel for funnel in funnels if funnel["teacher"] in study.recipe.traits]
    return {
        "recipe": study.recipe.name,
        "question": study.recipe.question,
        "rows": {
            "raw": sum(funnel["raw"] for funnel in traited),
            "kept": sum(funnel["kept"] for funnel in traited),
            "reject_reasons": dict(sum((Counter(funnel["reject_reasons"]) for funnel in traited), Counter[str]())),
        },
        "funnels": funnels,
        "arms": _arms(board, model_names(folders)),
        "effects": _effects(board),
        "matrix": _matrix(board),
        "diagonal": _diagonal(board),
        "initialisation": _initialisation(board),
        "samples": _samples(study, folders),
        "not_tested": _not_tested(study),
    }
