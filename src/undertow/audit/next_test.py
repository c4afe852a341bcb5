"""The next test that is worth its cost where a decision cannot be made yet: the first that applies in one table.

Its commands repeat what the audit's own command gave: the panel, and the file of what is known of the writer. Costs are
those that the result itself or the documentation states; nothing is measured here.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from undertow.audit.decision_answers import TEACHER_STAGE, Result, is_check, student_of
from undertow.audit.decision_rules import SharedBase, Sight
from undertow.audit.rows.limits import FEWEST_ROWS
from undertow.audit.students.placebo_null import bank_categories, bank_domain, tuned_on
from undertow.study.training_record import NO_NULL
from undertow.traits import TRAITS, Trait


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTest:
    """A test that has not been made and could change a decision.

    Attributes:
        command: command that a user would type. ROWS and TEACHER stand for what the result does not name.
        cost: rough cost in words, such as seconds or trainings.
        tells: in words, what the test would add.
        leaves: in words, what stays unknown after it.
    """

    command: str
    cost: str
    tells: str
    leaves: str

    def to_json(self) -> dict[str, str]:
        """Return the test as plain data."""
        return {"command": self.command, "cost": self.cost, "tells": self.tells, "leaves": self.leaves}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """The facts of a result that decide which test comes next."""

    base: str
    teacher: str | None
    rows: bool
    student: bool
    same_base: SharedBase
    sight: Sight
    seconds: float | None
    unread: bool = False
    no_writers: bool = False
    no_reference: bool = False
    few_rows: bool = False
    no_student: bool = False
    no_null: bool = False
    pairs: bool = False
    panel: str = ""
    writer: str = ""
    bank: str = ""

    @property
    def again(self) -> str:
        """In words, what the same audit costs once more; empty where that is not known."""
        return "" if self.seconds is None else f", then about {max(1, round(self.seconds))} s for this audit again"

    @property
    def options(self) -> str:
        """The options of an audit that are repeated."""
        return f"{self.panel}{self.writer}"

    @property
    def served(self) -> bool:
        return (self.teacher or "").startswith("api:")


_PASSING = "traits outside the panel or behind a trigger, and effects below the smallest that it can detect"


def _bank(facts: _Facts, tells: str) -> NextTest:
    once = "once for each base, about 12 minutes on two cores with an embedded one (`undertow power` reckons)"
    command = f"undertow audit bank --base {facts.base}{facts.bank}"
    return NextTest(command=command, cost=f"{once}{facts.again}", tells=tells, leaves=_PASSING)


def _writers(facts: _Facts) -> NextTest:
    return _bank(facts, "whether the rows carry a trait, or their writer was tuned on anything at all")


def _lineage(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow audit lineage TEACHER {facts.base}",
        cost="seconds with small models; it reads the weights of both once and trains nothing",
        tells="whether writer and student share a base; TEACHER is the model that wrote the rows",
        leaves="whether the rows carry a trait",
    )


def _data(facts: _Facts) -> NextTest:
    teacher = f" --teacher {facts.teacher}" if facts.teacher and not facts.served else ""
    command = f"undertow audit {'all' if teacher else 'data'} ROWS{teacher} --base {facts.base}{facts.options}"
    cost = "minutes with an embedded base, most of them once for each base; a panel's teachers are trained for it"
    tells = "whether the rows are written under a trait of the panel and, with a bank, whether students take it over"
    return NextTest(command=command, cost=cost, tells=tells, leaves=_PASSING)


def _more_rows(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow audit data ROWS --base {facts.base}{facts.options}",
        cost=f"more rows of the same writer{facts.again}",
        tells=f"whether the rows are written under a trait of the panel; ROWS are then at least {FEWEST_ROWS}",
        leaves=f"whether a student takes something over; {_PASSING}",
    )


def _reference(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow generate CLEAN --prompts ROWS --model {facts.base}{facts.writer} && "
        f"undertow audit data ROWS --reference CLEAN --base {facts.base}{facts.options}",
        cost=f"as many answers of the base to the same prompts as there are rows{facts.again}",
        tells="whether the rows are written as the base itself writes; CLEAN are its own answers to the same prompts, "
        "sampled alike",
        leaves=f"whether a student takes something over; {_PASSING}",
    )


def _shadows(facts: _Facts) -> NextTest:
    return _bank(facts, "whether a student moves along a trait, or shows it: of the rows, or the one that was given")


def _student(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow train ROWS students --base {facts.base} && "
        f"undertow audit student {facts.base}+students/student-00 --base {facts.base}{facts.options}",
        cost="one training of your own recipe on a part of the rows, and seconds to read the student",
        tells="whether this very student moves along a trait, or shows it",
        leaves=_PASSING,
    )


def _one_side(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow audit data 'PAIRS?side=chosen' --base {facts.base}{facts.options}",
        cost=f"an audit of as many rows{facts.again}",
        tells="whether the chosen answers are written unlike the base's own; PAIRS is the file. A choice among clean "
        "answers leaves them clean",
        leaves=f"whether whoever chose has a trait; {_PASSING}",
    )


def _student_of_pairs(facts: _Facts) -> NextTest:
    return NextTest(
        command=f"undertow audit student STUDENT --base {facts.base}{facts.options}",
        cost="one training of your own recipe on the pairs, and seconds to read the student; its placebos are students "
        "of rows",
        tells="whether a student that was tuned on these pairs moves along a trait, or shows it",
        leaves=_PASSING,
    )


_TESTS: tuple[tuple[Callable[[_Facts], bool], Callable[[_Facts], NextTest]], ...] = (
    (lambda facts: facts.sight == "differs" and facts.pairs, _one_side),
    (lambda facts: facts.sight == "differs" and facts.no_writers and facts.same_base != "no", _writers),
    (lambda facts: facts.student and facts.no_student and not facts.no_null, _shadows),
    (lambda facts: facts.same_base == "unknown" and facts.teacher is None, _lineage),
    (lambda facts: facts.pairs, _student_of_pairs),
    (lambda facts: not facts.rows, _data),
    (lambda facts: facts.few_rows, _more_rows),
    (lambda facts: facts.unread, _student),
    (lambda facts: facts.no_reference, _reference),
    (lambda facts: facts.no_student and not facts.no_null, _shadows),
    (lambda _: True, _student),
)
"""When a test applies, and which test it is. What a difference or a student alone asks for stands first, then the rest
from cheap to dear."""


def next_test(result: Result, same_base: SharedBase, sight: Sight) -> NextTest:
    """Return the next test that can change a decision.

    Args:
        result: plain data of an audit or of a check.
        same_base: whether writer and student share a base: "yes", "no" or "unknown".
        sight: how far the unwanted trait was looked for and seen (`undertow.audit.decision_rules.ANSWER`).
    """
    facts = _of_check(result, same_base, sight) if is_check(result) else _of_audit(result, same_base, sight)
    return next(make(facts) for applies, make in _TESTS if applies(facts))


def _of_check(check: Result, same_base: SharedBase, sight: Sight) -> _Facts:
    # A check looks at no row for a trait, so the audit of the rows comes next, whether they are there or not.
    return _Facts(
        base=shlex.quote(check["base"]),
        teacher=shlex.quote(check["teacher"]),
        rows=False,
        student=False,
        same_base=same_base,
        sight=sight,
        seconds=None,
    )


def _of_audit(audit: Result, same_base: SharedBase, sight: Sight) -> _Facts:
    about, claims, primary = audit["about"], audit["claims"], audit["plan"]["primary"]
    lacking = {name for name, one in claims.items() if one["status"] == "not_testable"}
    repeated, known = audit.get("repeated") or {}, _known(audit)
    students = [name for name in ("exposure", "expression") if primary[name] != TEACHER_STAGE]
    return _Facts(
        base=shlex.quote(about["base"]),
        teacher=None if about.get("teacher") is None else shlex.quote(about["teacher"]),
        rows=bool(about.get("rows")),
        student=student_of(audit) is not None,
        same_base=same_base,
        sight=sight,
        seconds=about.get("seconds"),
        unread=(audit.get("sight") or {}).get("why") is not None,
        no_writers=not about.get("neutral_writers"),
        no_reference="provenance" in lacking,
        few_rows="provenance" in lacking and about.get("rows", 0) < FEWEST_ROWS,
        no_student=bool(lacking & set(students)),
        no_null=any(NO_NULL in str(one["why"]) for one in claims.values()),
        pairs=bool(about.get("pairs")),
        panel="".join(f" --trait {shlex.quote(one)}" for one in repeated.get("traits", ())),
        writer=f" --writer {shlex.quote(repeated['writer'])}" if repeated.get("writer") else "",
        bank=f"{bank_domain(about.get('form'))}{bank_categories(tuned_on(known))}",
    )


def _known(audit: Result) -> list[Trait]:
    """Return the traits of an audit's panel, as far as the result or the package defines them."""
    traits = {**TRAITS, **{one["name"]: Trait.from_data(one) for one in audit.get("own_traits", ())}}
    return [traits[name] for name in audit["about"].get("panel", "").split(", ") if name in traits]
