"""The intake of an audit, before any model is loaded: what is there, what is missing, what cannot be tested, the cost.

Where no claim can be tested, nothing is trained: the audit ends here with the reasons and what to do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from undertow.audit.asked import Asked
from undertow.audit.budget import UNLIMITED, ladder
from undertow.audit.channels import not_covered
from undertow.audit.decision import with_decision
from undertow.audit.finding import Claim, not_testable
from undertow.audit.obstacles import Obstacle, free_stage, obstacles, other_prompts, same_reference
from undertow.audit.ranking_work import ranking_work
from undertow.audit.rows.defect import overlap
from undertow.audit.rows.limits import FEWEST_ROWS
from undertow.audit.stages import STAGES
from undertow.audit.verdict import Missing, audit_json, missing, what_they_add
from undertow.audit.work_lines import forecast_lines
from undertow.audit.workload import Workload
from undertow.data.census import Census, matched_rows, rows_in_both
from undertow.data.pairs import PairCensus
from undertow.errors import ConfigError
from undertow.models.references import identity
from undertow.traits import own_definitions
from undertow.types import ModelRef, Work

SCHEMA = "undertow.intake/1"


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What is known of an audit before it runs.

    Attributes:
        asked: what is to be audited.
        claims: for each claim that a planned stage could decide, what stands in the way. None where nothing does.
        work: what will be done, with the seconds that each part takes.
        absent: inputs that were not given, with what each would add.
        following: commands that make a missing reference and use it. Empty where none is missing.
    """

    asked: Asked
    claims: Mapping[Claim, Obstacle | None]
    work: tuple[Work, ...]
    absent: tuple[Missing, ...]
    following: tuple[str, ...]

    @property
    def testable(self) -> bool:
        """Whether any claim can be tested, as far as that is known without the models."""
        return any(one is None for one in self.claims.values())

    @property
    def stops(self) -> bool:
        """Whether the audit ends here: no claim can be tested, and there is no student or teacher to describe."""
        nobody = self.asked.student is None and self.asked.teacher is None
        if self.asked.ranking:
            return False
        return not self.testable and (nobody or self.asked.has_template is False)

    @property
    def expected(self) -> dict[str, float]:
        """About how many seconds each step of the audit takes, by the step's title."""
        return {} if self.asked.ranking else Workload(self.asked).expected()

    @property
    def seconds(self) -> float:
        """About how many seconds the work takes; parts whose time is not known count as 0."""
        return sum(one.seconds or 0.0 for one in self.work)

    def to_json(self) -> dict[str, Any]:
        """Return the intake as plain data of the schema "undertow.intake/1"."""
        asked, writer = self.asked, self.asked.writer
        return {
            "schema": SCHEMA,
            "base": asked.base,
            "chat_template": asked.has_template,
            "rows": None if asked.rows is None else asked.rows.to_json(),
            "reference": None if asked.reference is None else asked.reference.to_json(),
            "pairs": None if asked.pairs is None else _pairs_json(asked.pairs),
            **_overlap(asked),
            "accepted_by_domain": dict(asked.accepted),
            "panel": [one.name for one in asked.panel],
            "neutral_writers": asked.stored.writers,
            "placebo_students": asked.stored.placebos,
            "claims": {claim: _claim_json(asked, claim, one) for claim, one in self.claims.items()},
            "stages": list(asked.plan.stages),
            "work": [asdict(one) for one in self.work],
            "about_seconds": round(self.seconds, 1),
            "budget": None if asked.budget == UNLIMITED else asdict(asked.budget),
            "no_teachers": None if asked.budget.teachers else _no_room(asked),
            "missing": list(self.absent),
            "writer": None if writer is None else writer.known,
            "writer_unknown": None if writer is None else writer.unknown,
            "next": list(self.following),
        }


def _pairs_json(pairs: PairCensus) -> dict[str, Any]:
    return {"prompts": pairs.prompts, "chosen": pairs.chosen.to_json(), "rejected": pairs.rejected.to_json()}


def _overlap(asked: Asked) -> dict[str, int | None]:
    rows, reference = asked.rows, asked.reference
    if rows is None or reference is None:
        return {"rows_on_prompts_of_the_reference": None, "rows_that_stand_in_the_reference": None}
    return {
        "rows_on_prompts_of_the_reference": matched_rows(rows, reference),
        "rows_that_stand_in_the_reference": rows_in_both(rows, reference),
    }


def _claim_json(asked: Asked, claim: Claim, found: Obstacle | None) -> dict[str, Any]:
    reasons = {"why": None, "do": None} if found is None else asdict(found)
    return {"stage": free_stage(asked, claim), "testable": found is None, **reasons}


def take_intake(asked: Asked) -> Intake:
    """Say what an audit is asked, what it lacks and what it takes; no model is loaded.

    Where a tuned teacher of each trait does not fit into memory, the audit reads with personas alone.

    Raises:
        UserError: the base is no model that can be audited, or the store cannot be read.
    """
    if asked.budget.teachers and _no_room(asked):
        asked = replace(asked, budget=replace(asked.budget, teachers=False))
    found = Intake(
        asked=asked, claims=obstacles(asked), work=(), absent=tuple(_absent(asked)), following=_following(asked)
    )
    if found.stops:
        return found
    work = Workload(asked)
    todo = work.items() if asked.ranking is None else ranking_work(work, asked.ranking)
    return replace(found, work=tuple(todo))


def _no_room(asked: Asked) -> str | None:
    """Return why a teacher of each trait does not fit into memory beside the base; None if it does, or none is made."""
    small = ModelRef.parse(asked.base).kind == "ref"
    if small or asked.ranking is not None or (asked.rows is None and asked.pairs is None):
        return None
    from undertow.models.load import too_large

    return too_large(asked.base, 1 + len(asked.panel))


def within(asked: Asked, minutes: float) -> Asked:
    """Return the largest audit of these rows that is expected to fit into a number of minutes.

    Raises:
        ConfigError: how long an audit takes is not known for this base, or even the smallest takes longer.
    """
    if Workload(asked).known_speed is None:
        fix = "Leave --minutes out, or run on the processor with a base whose config says its sizes."
        raise ConfigError("How long an audit takes is not known for this base.", asked.base, fix)
    seconds, crowded = 0.0, _no_room(asked) is not None
    for budget in ladder(minutes):
        if budget.teachers and crowded:
            continue
        fitted = replace(asked, budget=budget)
        work = Workload(fitted)
        seconds = sum(one.seconds or 0.0 for one in work.items()) + work.naming()
        if seconds <= 60 * minutes:
            return fitted
    fix = f"Give --minutes {int(seconds / 60) + 1} or more, or a smaller panel (--trait)."
    raise ConfigError("Even the smallest audit of these rows takes longer.", f"--minutes {minutes:g}", fix)


def _absent(asked: Asked) -> list[Missing]:
    if asked.ranking:
        return []
    if asked.neutral is not None:
        return what_they_add(("teacher rows", "student base", *(() if asked.neutral else ("neutral",))))
    there = asked.given
    there |= {"writers"} if asked.stored.writers else set()
    there |= {"bank"} if asked.stored.placebos else set()
    return missing(there)


def _following(asked: Asked) -> tuple[str, ...]:
    """Return the commands that make a reference and audit with it; none where that is not needed or would not help."""
    rows = asked.rows
    if rows is None or asked.ranking or rows.rows < FEWEST_ROWS or asked.has_template is False:
        return ()
    if asked.reference is not None and not (other_prompts(asked) or same_reference(asked)):
        return ()
    return asked.commands


def stopped_audit(intake: Intake, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return an audit that ends with its intake, as plain data in which every planned stage is not testable.

    Args:
        intake: an intake of which no claim can be tested.
        digests: SHA-256 of the input files in hexadecimal, by file name.
    """
    asked = intake.asked
    rest = "It was not run: no claim can be tested with these inputs."
    why = {
        stage: f"{one.why} {one.do}"
        for claim, one in intake.claims.items()
        if one is not None and (stage := asked.plan.primary[claim]) is not None
    }
    findings = [not_testable(name, STAGES[name].claim, why.get(name, rest)) for name in asked.plan.stages]
    named = {"base": asked.base, "student": asked.student, "teacher": asked.teacher}
    about = {
        **named,
        **{f"{role}_identity": None if model is None else identity(model) for role, model in named.items()},
        "control": asked.control,
        "rows": 0 if asked.rows is None else asked.rows.rows,
        "pairs": 0 if asked.pairs is None else asked.pairs.chosen.rows,
        "reference": None if asked.reference is None else f"{asked.reference.rows} rows, given",
        "neutral_writers": asked.stored.writers,
        "placebo_students": asked.stored.placebos,
        "panel": ", ".join(one.name for one in asked.panel),
        "sha256": dict(digests),
        **({} if asked.form is None else {"form": asked.form}),
        "seed": asked.seed,
        "seconds": 0.0,
    }
    wrong = [] if asked.rows is None or same_reference(asked) is None else [overlap(1.0, asked.rows.rows).to_json()]
    found = {**audit_json(asked.plan, findings, about), "sight": None, "defects": wrong}
    told = {"own_traits": own_definitions(asked.panel), "repeated": asked.repeated}
    found |= {name: value for name, value in told.items() if value}
    found |= not_covered(rows=asked.rows is not None, pairs=asked.pairs is not None, side=asked.side)
    return with_decision({**found, "lineage": None, "missing": list(intake.absent)})


def intake_lines(intake: Intake) -> Iterator[str]:
    """Yield the intake as lines of text."""
    asked = intake.asked
    sides = () if asked.pairs is None else (("chosen", asked.pairs.chosen), ("rejected", asked.pairs.rejected))
    for what, census in (("rows", asked.rows), ("reference", asked.reference), *sides):
        if census is not None:
            yield from _census_lines(what, census)
    if asked.rows is not None:
        of = len(asked.rows.sample)
        some = ", ".join(f"{name} {n}" for name, n in asked.accepted.items())
        yield f"  of {of} rows{' drawn' if of < asked.rows.rows else ''} the domains accept: {some}"
        if asked.reference is not None:
            n = matched_rows(asked.rows, asked.reference)
            yield f"  {n} of {asked.rows.rows} rows have a row of the reference on their prompt"
    if asked.writer is not None:
        yield "writer: " + ", ".join(
            f"{name} {value if value != '' else 'none'}" for name, value in asked.writer.known.items()
        )
        if asked.writer.unknown:
            yield f"  not known of it: {'; '.join(asked.writer.unknown)}"
    yield f"base: {asked.base}" + (", without a chat template" if asked.has_template is False else "")
    for claim, one in intake.claims.items():
        stage = free_stage(asked, claim)
        yield f"{claim}: " + (f"can be tested, by {stage}" if one is None else f"not testable. {one.why} {one.do}")
    yield from (f"missing: {one['adds']}" for one in intake.absent)
    if not intake.stops:
        yield from _work_lines(intake)
    if intake.following:
        yield "a reference on the same prompts:"
        yield from (f"  {command}" for command in intake.following)


def _work_lines(intake: Intake) -> Iterator[str]:
    asked = intake.asked
    if asked.budget.minutes is not None and asked.rows is not None:
        yield f"in {asked.budget.minutes:g} minutes: {asked.budget.in_words(asked.rows.rows)}"
    if not asked.budget.teachers and (why := _no_room(asked)) is not None:
        yield f"no tuned teachers, personas alone: {why}"
    yield from forecast_lines(intake.work)


def _census_lines(what: str, census: Census) -> Iterator[str]:
    found = census.to_json()
    shapes = ", ".join(f"{n} {name}" for name, n in census.shapes.items())
    turns = ", ".join(f"{n} with {number}" for number, n in found["turns_before_the_completion"].items())
    yield f"{what}: {census.rows} in {census.source} ({shapes})"
    if census.said:
        yield f"  {census.said}"
    yield f"  turns before the completion: {turns}; {census.system} rows have a system turn"
    asked, answered = (" / ".join(map(str, one)) for one in (census.prompt_characters, census.completion_characters))
    yield f"  characters (least / middle / most): prompt {asked}, completion {answered}; {census.empty} are empty"
    yield f"  {census.prompts} distinct prompts; {census.duplicates} rows repeat another one exactly"
    yield "  languages, roughly: " + ", ".join(f"{name} {n}" for name, n in found["languages"].items())
