"""The decision that an audit or a check comes down to: what to do about the rows or the student, and why.

It rests on three answers: whether writer and student share a base, whether an unwanted trait was seen, and whether the
rows have a defect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from undertow.audit.decision_answers import Result, base_known, is_check, student_of, trait_seen, untestable
from undertow.audit.decision_rules import (
    ANSWER,
    MEND,
    TITLE,
    Answers,
    Do,
    SharedBase,
    Sight,
    Subject,
    TraitAnswer,
    rule_for,
)
from undertow.audit.next_test import NextTest, next_test

AUTHORS_RULE = (
    "Where teacher and student would share a base, change one of the bases, unless you trust the teacher: the paper's "
    "authors saw no trait pass between different bases. What rows say openly, and rows that were selected for a "
    "trait, pass between any two models."
)
"""After arXiv 2507.14805, abstract and figure 8. In number data the mean rate of the trait rose by 0.25 to 0.54 within
a GPT model, by at most 0.09 between models without a common initialisation, and by 0.30 to 0.32 between GPT-4.1 and
GPT-4o, which share one."""

AGAIN = "Then audit the new rows: `undertow audit data`."

ALWAYS_UNKNOWN = "Traits outside the panel, traits behind a trigger or a system prompt, and skills were not looked for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about the rows or the student, with the reasons.

    Attributes:
        subject: what is to be used or not: "rows", or "student" for a student that was audited without rows.
        same_base: whether writer and student share a base: "yes", "no" or "unknown".
        same_base_why: how that is known, or why it is not.
        sight: how far the unwanted trait was looked for and seen, one of six answers
            (`undertow.audit.decision_rules.ANSWER`).
        trait_why: by which claim and stage the trait was seen, or with what power it was not seen, or why it was not
            looked for.
        defects: what is wrong with the rows, in words. Empty if nothing was found.
        do: what is to be done: "use", "change_base", "regenerate" or "next_test".
        because: reason of that decision, as a sentence.
        mend: whether a defect of the rows decides, in place of base and trait.
        steps: sentences that say how it is done, with commands.
        test: the next test that could change the decision. None where no further test is worth its cost.
        unknown: sentences that say what stays unknown.
    """

    subject: Subject = "rows"
    same_base: SharedBase
    same_base_why: str
    sight: Sight
    trait_why: str
    defects: tuple[str, ...] = ()
    do: Do
    because: str
    mend: bool = False
    steps: tuple[str, ...] = ()
    test: NextTest | None = None
    unknown: tuple[str, ...] = ()

    @property
    def trait(self) -> TraitAnswer:
        """Whether the trait was seen: "seen", "not_seen" or "not_looked_for"."""
        return ANSWER[self.sight]

    @property
    def title(self) -> str:
        """What is to be done, in a few words."""
        return MEND if self.mend else TITLE[self.subject][self.do]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain data, the value of "decision" in undertow.audit/1 and undertow.check/1."""
        plain = asdict(self)
        del plain["test"], plain["mend"]
        return {
            "rule": AUTHORS_RULE,
            **plain,
            "defects": list(self.defects),
            "trait": self.trait,
            "title": self.title,
            "steps": list(self.steps),
            "next_test": None if self.test is None else self.test.to_json(),
            "cost": None if self.test is None else self.test.cost,
            "unknown": list(self.unknown),
        }


def decide(result: Result) -> Decision:
    """Decide what to do about the rows, or the student, of a result.

    Args:
        result: plain data of an audit (undertow.audit/1, with or without "defects") or of a check (undertow.check/1).
    """
    known, defects = base_known(result), result.get("defects") or ()
    seen = trait_seen(result, known.same_base)
    own = [one for one in defects if one.get("of") != "reference"]  # one of the reference asks for another reference
    rule = rule_for(Answers(defect=bool(own), same_base=known.same_base, sight=seen.sight))
    test = next_test(result, known.same_base, seen.sight) if _is_open(rule.do, seen.sight, result) else None
    return Decision(
        subject="student" if student_of(result) and not result["about"].get("rows") else "rows",
        same_base=known.same_base,
        same_base_why=known.why,
        sight=seen.sight,
        trait_why=seen.why,
        defects=tuple(_defect_text(one) for one in defects),
        do=rule.do,
        because=rule.because,
        steps=_mend(own) if own else _steps(rule.do, seen.sight, result, known.same_base),
        mend=bool(own),
        test=test,
        unknown=_unknown(result, test),
    )


def with_decision(result: Result) -> dict[str, Any]:
    """Return a result with its decision under "decision"; one that has a decision already is returned unchanged."""
    return dict(result) if result.get("decision") else {**result, "decision": decide(result).to_json()}


def _is_open(do: Do, sight: Sight, result: Result) -> bool:
    """Tell whether a further test could change a decision."""
    return (
        do == "next_test" or (do == "change_base" and sight == "not_looked_for") or (do == "use" and is_check(result))
    )


def _defect_text(defect: Mapping[str, Any]) -> str:
    what = str(defect.get("what") or defect.get("evidence") or defect["name"]).rstrip(".")
    cause = str(defect.get("cause") or "").rstrip(".")
    return f"{what}. Likely cause: {cause}" if cause else what


def _mend(defects: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return how defects are mended: as each defect says, or else by drawing the rows again."""
    anew = (
        "Draw the rows again: another seed for each request, or none, and the same temperature, truncation and "
        "template as the reference (`undertow generate`)."
    )
    return (*dict.fromkeys(str(one.get("fix") or anew) for one in defects), AGAIN)


def _steps(do: Do, sight: Sight, result: Result, same_base: SharedBase) -> tuple[str, ...]:
    base = str(result["base"] if is_check(result) else result["about"]["base"])
    student = student_of(result) if sight == "passed" else None
    stop = (f"Do not go on from {student}: train again from the base.",) if student else ()
    if do == "regenerate":
        mention = "Drop what names a trait openly: `undertow filter --mentions`."
        other = f"Let a model without the trait, of another base than {base}, write them: `undertow generate --model`."
        return (*stop, other, mention, AGAIN)
    if do == "change_base":
        start = "Or start the student from another base; `undertow audit lineage` compares two models."
        other = f"Let a model of another base than {base} answer the same prompts: `undertow generate --model`."
        return (*stop, other, start, AGAIN)
    if do == "use":
        keep = "Keep this result with what it speaks of, and ask again when writer, rows or base change."
        trust = "The rule still asks whether you trust the writer: this result speaks for it within what it could see."
        return (keep,) if same_base == "no" else (trust, keep)
    return ()


def _unknown(result: Result, test: NextTest | None) -> tuple[str, ...]:
    lines: list[str] = []
    if is_check(result):
        lines += [f"{line[:1].upper()}{line[1:]}" for line in result.get("not_looked_at", ())]
    else:
        reasons = untestable(result["claims"])
        lines += [f"{' and '.join(names).capitalize()}: {why}." for why, names in reasons.items()]
    if test is not None:
        lines.append(f"After the next test: {test.leaves}.")
    return (*lines, ALWAYS_UNKNOWN)
