"""The table of decisions: what is to be done, given what is known of base, trait and rows.

Three answers go in: whether a defect of the rows stands in the way, whether writer and student share a base, and how
far the unwanted trait was looked for and seen. Exactly one rule fits each combination.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from undertow.errors import UndertowError

SharedBase = Literal["yes", "no", "unknown"]
Sight = Literal["passed", "in_writer", "differs", "partly", "not_seen", "not_looked_for"]
TraitAnswer = Literal["seen", "not_seen", "not_looked_for"]
Do = Literal["use", "change_base", "regenerate", "next_test"]

BASES: tuple[SharedBase, ...] = get_args(SharedBase)
SIGHTS: tuple[Sight, ...] = get_args(Sight)

ANSWER: dict[Sight, TraitAnswer] = {
    "passed": "seen",
    "in_writer": "seen",
    "differs": "not_looked_for",
    "partly": "not_seen",
    "not_seen": "not_seen",
    "not_looked_for": "not_looked_for",
}
"""How far the trait was seen, as one of three answers. `passed`: a student took it over. `in_writer`: the teacher has
it, or the rows show it. `differs`: the rows are written differently from the reference, and nothing told a trait from
another cause. `partly`: not seen where it was looked for, and not looked for everywhere. `not_seen`: not seen in the
rows, nor in a student of them. `not_looked_for`: no test with a null could look."""

Subject = Literal["rows", "student"]

TITLE: dict[Subject, dict[Do, str]] = {
    "rows": {
        "use": "use the rows",
        "change_base": "change one of the bases",
        "regenerate": "have the rows written again",
        "next_test": "do not use the rows yet; spend on the next test",
    },
    "student": {
        "use": "go on with this student",
        "change_base": "do not go on from this student; change one of the bases",
        "regenerate": "do not go on from this student; have its rows written again",
        "next_test": "do not use this student yet; spend on the next test",
    },
}


MEND = "mend the defect first, most often by having the rows written again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is known when a decision is made.

    Attributes:
        defect: whether the rows have a defect, such as a stream of random numbers that they share.
        same_base: whether writer and student share a base: "yes", "no" or "unknown".
        sight: how far the unwanted trait was looked for and seen (`ANSWER` explains the six values).
    """

    defect: bool
    same_base: SharedBase
    sight: Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRule:
    """What is to be done under some combinations of answers.

    Attributes:
        do: the decision: "use", "change_base", "regenerate" or "next_test".
        because: reason of the decision, as a whole sentence.
        same_base: answers on the base to which the rule applies.
        sights: answers on the trait to which the rule applies.
        defect: whether the rule is for rows with a defect. Rules without it are for rows without one.
    """

    do: Do
    because: str
    same_base: tuple[SharedBase, ...] = BASES
    sights: tuple[Sight, ...] = SIGHTS
    defect: bool = False

    def fits(self, answers: Answers) -> bool:
        """Tell whether the rule applies to these answers."""
        base, sight = answers.same_base in self.same_base, answers.sight in self.sights
        return base and sight and answers.defect == self.defect


RULES: tuple[DecisionRule, ...] = (
    DecisionRule(
        defect=True,
        do="regenerate",
        because="A defect comes first: rows that were not drawn independently and alike answer no question about a "
        "trait, whatever else was seen in them.",
    ),
    DecisionRule(
        same_base=("yes", "unknown"),
        sights=("passed",),
        do="change_base",
        because="A student showed the trait or moved along it, so this base takes it over from what it was trained on.",
    ),
    DecisionRule(
        same_base=("no",),
        sights=("passed",),
        do="regenerate",
        because="A student showed the trait or moved along it although no base is shared, so the base is not what "
        "lets it pass: rows that name it, or were selected for it, pass it between any two models.",
    ),
    DecisionRule(
        same_base=("yes",),
        sights=("in_writer",),
        do="change_base",
        because="The writer has the trait and shares a base with the student: the case in which traits pass through "
        "rows that do not name them.",
    ),
    DecisionRule(
        same_base=("unknown",),
        sights=("in_writer",),
        do="regenerate",
        because="The writer has the trait, and whether it shares a base with the student is not known: have them "
        "written by a model of which it is known that it does not.",
    ),
    DecisionRule(
        same_base=("no",),
        sights=("in_writer",),
        do="next_test",
        because="The writer has the trait and shares no base with the student: nothing was seen to pass so in "
        "filtered number rows, and rows that name a trait or were selected for it do pass it. A student has to show "
        "that it takes nothing over.",
    ),
    DecisionRule(
        sights=("differs",),
        do="next_test",
        because="The rows differ from what they are compared with, and nothing that was run tells a trait from another "
        "cause.",
    ),
    DecisionRule(
        same_base=("yes", "unknown"),
        sights=("partly",),
        do="next_test",
        because="Nothing was seen where it was looked for, and it was not looked for both in the rows and in a student "
        "of them; nor does anything show that the bases differ.",
    ),
    DecisionRule(
        same_base=("no",),
        sights=("partly",),
        do="use",
        because="No base is shared, and nothing was seen where it was looked for.",
    ),
    DecisionRule(
        sights=("not_seen",),
        do="use",
        because="It was looked for where it would pass, and nothing was seen; what could not have been seen stands "
        "below.",
    ),
    DecisionRule(
        same_base=("yes",),
        sights=("not_looked_for",),
        do="change_base",
        because="They share a base, and no test speaks for the writer: changing one of the bases costs least.",
    ),
    DecisionRule(
        same_base=("unknown",),
        sights=("not_looked_for",),
        do="next_test",
        because="Nothing was tested for a trait and nothing is known of the bases, so nothing speaks for the rows.",
    ),
    DecisionRule(
        same_base=("no",),
        sights=("not_looked_for",),
        do="next_test",
        because="No base is shared, as the rule asks. But nothing was looked for, and what rows say openly, or were "
        "selected for, passes between any two models.",
    ),
)
"""All rules; exactly one of them fits any combination of answers."""


def rule_for(answers: Answers) -> DecisionRule:
    """Return the one rule that fits these answers.

    Raises:
        UndertowError: no rule or several rules fit, which is a fault of the table.
    """
    fitting = [rule for rule in RULES if rule.fits(answers)]
    if len(fitting) != 1:
        raise UndertowError(f"{len(fitting)} rules of the decision fit {answers}.")
    return fitting[0]
