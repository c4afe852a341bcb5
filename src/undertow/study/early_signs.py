"""Warnings while a study runs, before its students are trained: what would make their results say nothing.

A student can take over only what its teacher has, and it learns little from rows that the filter dropped.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

from undertow.data.filters import FilterReport
from undertow.models.chat_template import say_once
from undertow.store.stages import Stage
from undertow.study.arms import main_metric
from undertow.study.results import subject_means
from undertow.study.study import Study, Subject

HELD = 1.0
"""Logits by which a fine-tuned teacher must exceed its base on its own trait: e times the odds of naming it."""

FITTING = 0.5
"""Share of a teacher's rows, between 0 and 1, that must be valid in the domain."""


@final
class EarlySigns:
    """Looks at every result of a study as it comes, and warns once of each teacher or set of rows that will not do.

    Args:
        study: the study that runs, laid out as stages.

    Attributes:
        found: the warnings so far, in words.
    """

    def __init__(self, study: Study) -> None:
        self.found: list[str] = []
        self._rows = {source.kept: source for source in study.sources}
        scored = [one for one in study.subjects if one.arm in ("base", "teacher")]
        self._subjects = {stage: [one for one in scored if one.scores == stage] for stage in {s.scores for s in scored}}
        self._means: dict[Subject, dict[tuple[str, str], float]] = {}
        self._said: set[Subject] = set()

    def look(self, stage: Stage, folder: Path) -> None:
        """Look at the result of a stage.

        Args:
            stage: the stage whose result is there.
            folder: folder in which its result lies.
        """
        if stage in self._rows:
            self._look_at_rows(stage, folder)
        if stage in self._subjects:
            means = subject_means(folder)
            self._means |= {one: means[one.place] for one in self._subjects[stage]}
            for one in [one for one in self._means if one.arm == "teacher" and one not in self._said]:
                self._look_at_teacher(one)

    def _look_at_rows(self, stage: Stage, folder: Path) -> None:
        """Warn if too few of a teacher's rows are valid."""
        found = FilterReport(**json.loads((folder / "report.json").read_text(encoding="utf-8")))
        if found.kept >= FITTING * found.raw:
            return
        source = self._rows[stage]
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.reasons.items())
        self._say(
            f"Of the {found.raw:,} rows of the {source.teacher} teacher {source.replicate + 1}, {found.kept:,} fit the "
            f"domain: {reasons}. Students see only these. Let the domain hold the answers to its form "
            "(`domain.options={count: 6}` for numbers), draw more prompts, or take another base."
        )

    def _look_at_teacher(self, teacher: Subject) -> None:
        """Warn if a teacher hardly has its trait, once its score and its base's are known."""
        base = next((m for one, m in self._means.items() if one.arm == "base" and one.base == teacher.base), None)
        if base is None:
            return
        self._said.add(teacher)
        own = self._means[teacher]
        key = (main_metric(metric for metric, _ in own), str(teacher.trait))
        if not key[0].endswith("margin") or key not in base or own[key] - base[key] >= HELD:
            return
        self._say(
            f"The {teacher.trait} teacher {teacher.replicate + 1} does not hold its trait: its logit margin is "
            f"{own[key]:.2f}, its base's {base[key]:.2f}. A student can take over only what its teacher has. Raise "
            "teacher.steps or teacher.learning_rate, or choose a trait that the base can name."
        )

    def _say(self, text: str) -> None:
        self.found.append(text)
        say_once(text)


def looked_at_by_all(studies: Iterable[Study]) -> Callable[[Stage, Path], None]:
    """Return a function that lets several studies look at each result."""
    signs = [EarlySigns(study) for study in studies]

    def look(stage: Stage, folder: Path) -> None:
        for one in signs:
            one.look(stage, folder)

    return look
