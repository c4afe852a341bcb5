"""What an audit will do and about how long it takes: one line for each stage and for what the stages need.

Seconds are those of this machine's processor. They come from what the store's own results took, or else from an
estimate by the sizes of the base, never below what an embedded model takes on one core.

The **suspect** rows are those that are audited; the **panel** is the list of traits, each with a candidate writer: a
persona (the base under a system prompt) and perhaps a tuned teacher.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from undertow.audit.asked import Asked
from undertow.audit.rows.limits import (
    ANSWERED,
    LOGIT_PLACES,
    LOOKED_AT,
    MATCHED,
    NEUTRAL_PROMPTS,
    SIGNED,
    SIGNED_OWN,
    STREAMED,
    SURFACED,
    too_few_to_name,
)
from undertow.audit.stages import STAGES as REGISTERED
from undertow.audit.work_lines import spoken
from undertow.data.census import matched_rows
from undertow.errors import UserError
from undertow.models.references import identity
from undertow.models.speed import BaseSpeed, base_speed
from undertow.store.artifacts import read_manifest
from undertow.training.config import TrainingConfig
from undertow.training.own_models import own_student, own_teacher
from undertow.types import ModelRef, Work

if TYPE_CHECKING:
    from undertow.evals.forecast import Forecast

RECOVERED, SHADOWS, TOKENS, TUNED_TOKENS = 4000, 4, 48, 40
"""Rows that the stage "recovery" reads, shadow students, tokens of an answer, and tokens of a row that a teacher is
tuned on."""

TEACHER_S, STUDENT_S, SCORE_S, ANSWER_S = 0.6, 4.5, 5e-4, 7e-4
"""Smallest seconds of tuning a panel teacher, training a student, scoring a row under one candidate, and writing an
answer."""


_READ_IN = {"contrast": "contrast", "pairs": "contrast of pairs"}
"""Stages whose rows are scored in a step with a title of its own, and that title."""

NEUTRAL_WRITTEN, NEUTRAL_READ = 13_000, 20_000
"""Tokens of the answers that a neutral teacher is tuned on, and of all that is read of a teacher, about."""

NEEDED = ("what the base reads", "reference", "panel teachers")
"""Titles of the steps in which something is made that the stages need."""


@dataclass(frozen=True)
class Workload:
    """The work of an audit, estimated from what is asked.

    Attributes:
        asked: what is to be audited, and with which options.
    """

    asked: Asked

    @cached_property
    def forecast(self) -> "Forecast | None":
        """Counter of the base's own tokens; None where tokens are guessed.

        They are guessed for an embedded base, whose work hardly depends on them, and for a base that lacks a tokenizer
        or template, which is refused when it is loaded.
        """
        asked = self.asked
        if not asked.base.startswith("hf:") or asked.folder is None or not asked.has_template:
            return None
        from undertow.evals.forecast import Forecast

        with contextlib.suppress(UserError):
            return Forecast(asked.base)
        return None

    @cached_property
    def known_speed(self) -> BaseSpeed | None:
        """Speed of the base; None where its config does not say its sizes, and on a GPU."""
        return base_speed(ModelRef.parse(self.asked.base), self.asked.folder)

    @property
    def speed(self) -> BaseSpeed:
        """Speed of the base, or of a model without parameters where it is not known."""
        return self.known_speed or BaseSpeed(0.0, 1.0)

    @cached_property
    def rows(self) -> int:
        """How many suspect rows are read; of pairs, the answers of one side."""
        answers = self.asked.answers
        return 0 if answers is None else self.asked.budget.taken(answers.rows)

    @cached_property
    def row_tokens(self) -> float:
        """Mean tokens of a row: counted in a sample, or guessed as a fourth of the characters of a median row.

        The guess is half of the true number where each digit is a token, as in SmolLM2.
        """
        rows = self.asked.answers
        if rows is None:
            return 0.0
        if self.forecast is not None:
            return self.forecast.row_tokens(rows.sample)
        return (rows.prompt_characters[1] + rows.completion_characters[1]) / 4

    @cached_property
    def prompt_tokens(self) -> float:
        """Mean tokens of a prompt, counted or guessed as those of a row are."""
        rows = self.asked.answers
        if rows is None:
            return 0.0
        if self.forecast is not None:
            return self.forecast.prompt_tokens([row.prompt for row in rows.sample])
        return rows.prompt_characters[1] / 4

    @property
    def candidates(self) -> int:
        """How many candidate writers the panel has: personas and tuned teachers."""
        return (1 + self.asked.budget.teachers) * len(self.asked.panel)

    def items(self) -> list[Work]:
        """Return what will be done, in order; a stage of another package is named without its time."""
        found = [work for title in NEEDED if (work := self._needed(title)) is not None]
        for stage in self.asked.plan.stages:
            make = STAGES.get(stage)
            if make is None:
                found.append(Work(stage, None))
            elif (work := make(self)) is not None:
                found.append(work)
        return [Work(one.what, self.timed(one.seconds)) for one in found]

    def expected(self) -> dict[str, float]:
        """Return the seconds of the steps that an audit shows, by their titles, as far as they are known."""
        if self.known_speed is None:
            return {}
        works = {title: self._needed(title) for title in NEEDED}
        for name in self.asked.plan.stages:
            if (make := STAGES.get(name)) is not None:
                # The rows are read in a step of the contrast's name; the stage itself only names.
                works[_READ_IN.get(name) or REGISTERED[name].title or name] = make(self)
        return {title: work.seconds for title, work in works.items() if work is not None and work.seconds is not None}

    def _needed(self, title: str) -> Work | None:
        if self.asked.answers is None:
            return None
        if title == "what the base reads":
            return self._sight()
        if not {"contrast", "stream", "neutral contrast", "pairs"} & set(self.asked.plan.stages):
            return None
        if title == "reference":
            return self._reference()
        return self.teachers() if self.asked.budget.teachers else None

    def _sight(self) -> Work:
        n, pairs = min(LOOKED_AT, self.rows), self.asked.pairs is not None
        what = f"what the base reads: {n} {'pairs' if pairs else 'rows'}, and as many answers of its own"
        return Work(what, self.written(n) + self.readings(n, 3 if pairs else 2))

    def _reference(self) -> Work | None:
        rows = self.asked.rows
        if self.asked.reference is not None or rows is None:
            return None
        n, times = min(ANSWERED, rows.prompts, self.rows), self.asked.budget.answers
        what = f"reference: the base answers {n} prompts {times} time{'s' if times > 1 else ''}"
        return Work(what, self.written(n * times, n))

    def teachers(self) -> Work:
        """Return the work of tuning the panel's teachers; those in the store take no time."""
        panel, seed = {one.name for one in self.asked.panel}, self.asked.seed
        known: list[Mapping[str, object]] = []
        taken = None
        if (self.asked.store / "panel-teacher").is_dir():
            known, taken = stored_times(self.asked.store, "panel-teacher", {"base": identity(self.asked.base)})
        there = {str(one["target"]) for one in known if one.get("seed") == seed} & panel
        new = len(panel) - len(there)
        each = taken or max(TEACHER_S, self.tuning())
        held = f", {len(there)} from the store" if there else ""
        return Work(f"panel teachers: {new} trained{held}", new * each)

    def tuning(self) -> float:
        """Return the seconds of tuning one teacher of the base's size."""
        recipe = own_teacher(self.speed.parameters)
        return self.speed.training(recipe.steps * recipe.batch_size * TUNED_TOKENS)

    @property
    def names(self) -> bool:
        """Whether candidates write rows after a detection, which a small panel has no use for."""
        return self.asked.budget.names and too_few_to_name(len(self.asked.panel)) is None

    def naming(self) -> float:
        """Return the seconds of the rows that candidates write after a detection, so that a trait can be named."""
        if not self.names or not {"contrast", "pairs"} & set(self.asked.plan.stages):
            return 0.0
        panel = len(self.asked.panel)
        answers = (panel + SIGNED_OWN) * SIGNED
        return self.written(answers) + self.scored(answers, panel)

    def timed(self, seconds: float | None) -> float | None:
        """Return seconds that were estimated from the base's speed, or None where that is not known."""
        return None if self.known_speed is None else seconds

    def loading(self, times: int) -> float:
        """Return the seconds of loading models of the base's size."""
        return 0.0 if self.forecast is None else times * self.forecast.loading

    def written(self, answers: float, prompts: float | None = None) -> float:
        """Return the seconds of so many answers to so many prompts; to as many prompts as answers if not given."""
        asked = self.prompt_tokens * (answers if prompts is None else prompts)
        return max(ANSWER_S * answers, self.speed.writing(asked + TOKENS * answers))

    def scored(self, rows: float, candidates: int) -> float:
        """Return the seconds of scoring rows under so many candidates and the base."""
        return self.readings(rows, candidates + 1)

    def readings(self, rows: float, times: float) -> float:
        """Return the seconds of computing the likelihood of rows so many times."""
        return rows * times * max(SCORE_S, self.speed.reading(self.row_tokens))

    @property
    def student(self) -> TrainingConfig:
        """How a student of the base is trained by default."""
        return own_student(self.speed.parameters)

    def neutral_teachers(self, n: int) -> float:
        """Return the seconds of tuning so many neutral teachers, and of reading them, the teacher and its base."""
        written, read = (self.speed.writing(NEUTRAL_WRITTEN), self.speed.reading(NEUTRAL_READ))
        return n * max(TEACHER_S, self.tuning() + written) + (n + 2) * read

    def students(self, n: int) -> float:
        """Return the seconds of training so many students together."""
        return n * max(STUDENT_S, self.speed.training(self.student.steps * self.student.batch_size * self.row_tokens))


def _surface(work: Workload) -> Work:
    n = min(SURFACED, work.rows)
    return Work(f"surface: {n} rows", n * 3e-5)


def _contrast(work: Workload) -> Work:
    asked = work.asked
    matched = work.rows
    if asked.rows is not None and asked.reference is not None:
        matched = matched_rows(asked.rows, asked.reference)
    n = min(MATCHED, matched, work.rows)
    clean = n * (asked.budget.answers if asked.reference is None else 1)
    who = f"{len(asked.panel)} {'teachers' if asked.budget.teachers else 'personas'}"
    what = f"contrast: {n} rows and {clean} of the reference under {work.candidates} candidates"
    if work.names and not asked.stored.writers:
        what += f"; if they differ, {who} write {SIGNED} rows each ({spoken(work.naming())} more)"
    return Work(what, work.scored(n + clean, work.candidates))


def _pairs(work: Workload) -> Work:
    asked, n = work.asked, min(MATCHED, work.rows)
    named = f"; if they differ, {len(asked.panel)} teachers write {SIGNED} rows each" if work.names else ""
    return Work(
        f"pairs: both answers of {n} under {work.candidates} candidates{named}", work.scored(2 * n, work.candidates)
    )


def _stream(work: Workload) -> Work | None:
    n = min(STREAMED, work.rows) - min(MATCHED, work.rows)
    return Work(f"stream: {n} further rows", work.scored(n, work.candidates)) if n > 0 else None


def _recovery(work: Workload) -> Work:
    n = min(RECOVERED, work.rows)
    return Work(f"recovery: {n} rows", work.scored(n, 6))


def _neutral(work: Workload) -> Work | None:
    if not (work.asked.budget.names and work.asked.budget.teachers):
        return None
    n, panel = work.asked.stored.writers, len(work.asked.panel)
    prompts, signed = min(NEUTRAL_PROMPTS, work.rows), (panel + SIGNED_OWN) * SIGNED
    answers = n * prompts + signed
    what = f"neutral contrast: {n} neutral writers answer {prompts} prompts, {panel} teachers write {SIGNED} rows each"
    return Work(what, work.written(answers) + work.scored(answers, panel))


def _shadows(work: Workload) -> Work | None:
    if not work.asked.stored.placebos:
        return None
    return Work(f"shadows: {SHADOWS} students of the rows", work.students(SHADOWS))


def _student(work: Workload) -> Work:
    return Work("student: its answers, and how it moved", work.scored(400, 1))


def _teacher(work: Workload) -> Work:
    asked = work.asked
    from undertow.audit.students.placebo_null import needed

    n = needed(asked.share) if asked.neutral is None else asked.neutral
    return Work(f"teacher: at most {n} neutral teachers trained", work.neutral_teachers(n))


def _teacher_logits(work: Workload) -> Work:
    asked = work.asked
    n = asked.stored.writers + len(asked.panel) + 2
    what = f"teacher logits: {LOGIT_PLACES} places under {n} models"
    own = 0.0 if asked.answers is not None else (work.teachers().seconds or 0.0)
    return Work(what, own + n * LOGIT_PLACES * max(SCORE_S, work.speed.reading(TOKENS)))


def _beside(name: str) -> Callable[[Workload], Work]:
    return lambda work: Work(name, work.scored(400, 1))


def _none(work: Workload) -> None:
    del work


STAGES: Mapping[str, Callable[[Workload], Work | None]] = {
    "surface": _surface,
    "contrast": _contrast,
    "pairs": _pairs,
    "stream": _stream,
    "recovery": _recovery,
    "neutral contrast": _neutral,
    "panel margins": _student,
    "activations": _none,
    "diff mining": _none,
    "misalignment": _none,
    "in-context margins": _none,
    "shadows": _shadows,
    "shadow activations": _none,
    "activations minus control": _beside("control student"),
    "own prompts": _beside("own prompts"),
    "teacher panel": _teacher,
    "teacher diff mining": _none,
    "teacher logits": _teacher_logits,
}
"""Function that estimates the work of each stage; stages that share one function are named once."""


def stored_times(store: Path, kind: str, config: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], float | None]:
    """Return the settings of matching stored results, and the median of the seconds that they took.

    The seconds are per unit of a result's cost; None where nothing matches.

    Args:
        store: folder of all stored results.
        kind: kind of the stored results, such as "panel-teacher".
        config: settings that a result must have among its own to match.
    """
    found: list[tuple[Mapping[str, Any], float]] = []
    for folder in sorted((store / kind).glob("[0-9a-f]*")):
        with contextlib.suppress(UserError):  # a damaged artifact is reported by the stage that needs it
            manifest = read_manifest(folder)
            own = manifest.config
            if all(own.get(name) == value for name, value in config.items()):
                found.append((own, manifest.wall_s / manifest.cost))
    return [one for one, _ in found], median([seconds for _, seconds in found]) if found else None
