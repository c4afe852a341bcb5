"""What makes a claim impossible to test, known before anything is computed: the reason, and what to do about it.

Each obstacle is a function of what is asked, and one table says which stages each obstacle stops. They say what the
stages would say after their models were loaded and trained, and nothing else: an obstacle that only the models show is
left to the stages.

A **placebo** is a student of rows without a trait, a **bank** a stored set of them, and a **neutral** writer or teacher
a model that was tuned without a trait.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from undertow.audit.asked import DOMAIN, Asked
from undertow.audit.finding import Claim
from undertow.audit.rows.limits import ACCEPTED, FEWEST_ROWS
from undertow.audit.verdict import CLAIMS
from undertow.data.census import matched_rows, rows_in_both
from undertow.stats.estimates import wilson


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a claim cannot be tested, and what to do about it.

    Attributes:
        why: the reason, as a whole sentence.
        do: what to do about it, as a whole sentence.
    """

    why: str
    do: str


Find = Callable[[Asked], Obstacle | None]


def no_template(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the base has no chat template, so that it cannot be asked anything."""
    if asked.has_template is not False:
        return None
    why = f"The base {asked.base} has no chat template, so that nobody can ask it anything."
    return Obstacle(why, "Use an instruction-tuned base, or add ?template=plain, ?template=question or ?template=FILE.")


def few_rows(asked: Asked) -> Obstacle | None:
    """Return an obstacle if there are fewer rows than any test needs."""
    if asked.rows is None or asked.rows.rows >= FEWEST_ROWS:
        return None
    return Obstacle(f"There are {asked.rows.rows} rows; at least {FEWEST_ROWS} are needed.", "Give more rows.")


def few_pairs(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the pairs are on fewer prompts than the test needs."""
    if asked.pairs is None or asked.pairs.prompts >= FEWEST_ROWS:
        return None
    why = f"There are pairs on {asked.pairs.prompts} prompts; at least {FEWEST_ROWS} prompts are needed."
    return Obstacle(why, "Give more pairs.")


def no_reference(asked: Asked) -> Obstacle | None:
    """Return an obstacle if there is no reference, and the base cannot draw one by the domain's rules."""
    few = None if asked.reference is not None else _few_accepted(asked)
    if few is None:
        return None
    why = f"There is no reference, and the base cannot draw one by itself: the domain {DOMAIN} {few}."
    return Obstacle(why, _make_one(asked))


def no_neutral_answers(asked: Asked) -> Obstacle | None:
    """Return an obstacle if neutral writers (models tuned without a trait) cannot answer as the rows' writer did."""
    if (few := _few_accepted(asked)) is None:
        return None
    why = f"The neutral writers of the store write rows of the domain {DOMAIN}, which {few}."
    return Obstacle(why, "The contrast tells whether the rows differ from a --reference; a student, whether it passes.")


def no_rows_for_students(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the rows are not of the kind that the placebo students of a bank are trained on."""
    if (few := _few_accepted(asked)) is None:
        return None
    why = f"Placebo students are trained on rows of the domain {DOMAIN}, which {few}."
    return Obstacle(why, "Give a student that was trained on the rows (--student), with a bank for it.")


def fewer_rows_than_placebos(asked: Asked) -> Obstacle | None:
    """Return an obstacle if students of these rows would see too few of them to be compared with the placebo students.

    Of a sample, and of rows that a budget draws, only what the interval of the accepted share leaves no doubt about.
    """
    from undertow.audit.students.shadows import FEWER

    usual, rows = asked.stored.placebo_rows, asked.rows
    if rows is None or not usual:
        return None
    n, good, read = len(rows.sample), asked.accepted.get(DOMAIN, 0), asked.budget.taken(rows.rows)
    most = good if n == read == rows.rows else wilson(good, n).high * read
    if most >= FEWER * usual:
        return None
    why = f"Students would be trained on at most {int(most)} rows, and a placebo of the store's bank on {usual}."
    return Obstacle(
        why, "Give more rows or more --minutes, or make a bank of fewer rows (undertow audit bank --prompts)."
    )


def _few_accepted(asked: Asked) -> str | None:
    """Say how few rows the domain accepts, or None; of a sample only what its interval leaves no doubt about."""
    if asked.rows is None:
        return None
    rows, n = asked.rows.rows, len(asked.rows.sample)
    good = asked.accepted.get(DOMAIN, 0)
    if n < rows:
        few = wilson(good, n).high < ACCEPTED
        return f"accepts {good} of a sample of {n} of the {rows} rows" if few else None
    few = good < max(ACCEPTED * n, FEWEST_ROWS)
    return f"accepts {good} of {n} rows (half of them are needed, and at least {FEWEST_ROWS})" if few else None


def _make_one(asked: Asked) -> str:
    return f"Let the base write one on the same prompts: `{asked.commands[0]}`."


def other_prompts(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the reference is on other prompts than the rows."""
    if asked.rows is None or asked.reference is None:
        return None
    matched = matched_rows(asked.rows, asked.reference)
    if matched >= FEWEST_ROWS:
        return None
    why = f"{matched} of {asked.rows.rows} rows have a row of the reference on their prompt"
    return Obstacle(f"{why}; at least {FEWEST_ROWS} are needed.", _make_one(asked))


def same_reference(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the reference is the rows themselves."""
    if asked.rows is None or asked.reference is None or not asked.rows.rows:
        return None
    if rows_in_both(asked.rows, asked.reference) < asked.rows.rows:
        return None
    why = "Every row stands in the reference with the same completion: the rows would be compared with themselves."
    return Obstacle(why, f"Give rows of another writer, known to be clean. {_make_one(asked)}")


def bank_too_small(asked: Asked) -> Obstacle | None:
    """Return an obstacle if the store has too few placebo students (students of rows without a trait) for a verdict."""
    from undertow.audit.students.placebo_null import NO_PLACEBOS, bank_categories, bank_domain, needed, tuned_on
    from undertow.domains.numbers import held_numbers
    from undertow.study.training_record import read_training

    record = None if asked.student is None else read_training(asked.student)
    if record is not None and record.no_null is not None:
        return Obstacle(record.no_null, "Audit its rows, or a student of them that was trained plainly.")
    if held_numbers(asked.form) is None:
        student = "Audit the rows without a student."
        alone = "Write the rows without a form, or held to a form of the domain numbers, for students of them."
        return Obstacle(NO_PLACEBOS.format(asked.form), alone if asked.student is None else student)
    enough = max(3, needed(asked.share))
    if asked.stored.placebos >= enough:
        return None
    held = (
        f"holds {asked.stored.placebos} placebo students of this base"
        if asked.stored.placebos
        else "holds no bank of placebo students of this base and recipe"
    )
    why = f"The store {asked.store} {held}; a verdict needs {enough}."
    base, store = shlex.quote(asked.base), shlex.quote(str(asked.store))
    made = f"{bank_domain(asked.form)}{bank_categories(tuned_on(asked.panel))}"
    options = f"--base {base}{made} --students {enough} --store {store}"
    return Obstacle(why, f"Make them with `undertow audit bank {options}`.")


def no_neutral_teachers(asked: Asked) -> Obstacle | None:
    """Return an obstacle if too few neutral teachers are asked for."""
    from undertow.audit.students.placebo_null import needed

    enough = needed(asked.share)
    if asked.neutral is None or asked.neutral >= enough:
        return None
    return Obstacle(f"{asked.neutral} neutral teachers allow no verdict; {enough} do.", f"Give --neutral {enough}.")


_SHADOWS = (few_rows, no_rows_for_students, bank_too_small, fewer_rows_than_placebos)

OBSTACLES: Mapping[str, tuple[Find, ...]] = {
    "contrast": (few_rows, same_reference, other_prompts, no_reference),
    "pairs": (few_pairs,),
    "neutral contrast": (few_rows, no_neutral_answers),
    "shadows": _SHADOWS,
    "shadow activations": _SHADOWS,
    "panel margins": (bank_too_small,),
    "activations": (bank_too_small,),
    "teacher panel": (no_neutral_teachers,),
}
"""What can stop each deciding stage, in the order in which it is looked for. Stages of other packages have no
obstacles."""


def obstacle(asked: Asked, stage: str) -> Obstacle | None:
    """Return the first obstacle that stops a stage, or None."""
    return next((found for find in (no_template, *OBSTACLES.get(stage, ())) if (found := find(asked))), None)


def obstacles(asked: Asked) -> dict[Claim, Obstacle | None]:
    """Return for each claim that some planned stage may decide what makes it impossible to test, or None."""
    found: dict[Claim, Obstacle | None] = {}
    for claim in CLAIMS:
        if able := [obstacle(asked, one.name) for one in asked.plan.may_decide(claim)]:
            found[claim] = able[0] if all(able) else None
    return found


def free_stage(asked: Asked, claim: Claim) -> str | None:
    """Return the first stage that may decide a claim and that nothing stops; if all are stopped, the primary one."""
    able = (one.name for one in asked.plan.may_decide(claim))
    return next((name for name in able if obstacle(asked, name) is None), asked.plan.primary[claim])
