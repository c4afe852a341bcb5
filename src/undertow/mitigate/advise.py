"""Advice: which mitigations an audit's findings ask for, what each needs and costs, and the command to type."""

from dataclasses import asdict, dataclass
from typing import Any

from undertow.mitigate.audited import Audited
from undertow.mitigate.base import Cost

SCHEMA = "undertow.advice/1"

OTHER_BASE = "ref:finch-b"
"""Stands for a model of another base in the commands that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One candidate.

    Attributes:
        method: as `undertow mitigate data` or `train` reads it.
        needs: what has to be known or at hand.
        loses: what it may cost in skill.
        cost: for the audited rows.
        command: what to type.
    """

    method: str
    needs: str
    loses: str
    cost: Cost
    command: str


def advise(audited: Audited) -> dict[str, Any]:
    """Return candidates in the order in which they are worth trying, schema undertow.advice/1.

    Those that keep the rows and their skill come first, those that need another generator after them, and those that
    need the trait's name last. With nothing detected there is no candidate.
    """
    detected = [claim for claim, status in audited.statuses.items() if status == "detected"]
    found = candidates(audited) if detected else []
    return {
        "schema": SCHEMA,
        "detected": detected,
        "candidate": audited.candidate,
        "base": audited.base,
        "mitigations": [asdict(one) for one in found],
        "next": _next(audited, detected),
    }


def _next(audited: Audited, detected: list[str]) -> str:
    if detected:
        named = audited.candidate or "the suspected trait"
        return f"Verify before you rely on one: undertow mitigate verify ROWS --trait {named} --method ..."
    untested = [claim for claim, status in audited.statuses.items() if status == "not_testable"]
    if untested:
        return f"Nothing was detected, but not everything was testable: {', '.join(untested)}. See the audit's report."
    return "Nothing was detected, so there is nothing to mitigate. That is no proof of absence."


def candidates(audited: Audited) -> list[Advice]:
    """Return every mitigation that the audit's inputs allow."""
    n, panel = audited.rows, len(audited.panel)
    reading = Cost(scored=n * (panel + 1), trained=panel)

    def data(method: str, needs: str, loses: str, cost: Cost) -> Advice:
        command = f"undertow mitigate data ROWS OUT --method {method} --base {audited.base} --audit AUDIT.json"
        return Advice(method=method, needs=needs, loses=loses, cost=cost, command=command)

    def train(method: str, needs: str, loses: str, cost: Cost) -> Advice:
        command = f"undertow mitigate train ROWS OUT --method {method} --base {audited.base} --audit AUDIT.json"
        return Advice(method=method, needs=needs, loses=loses, cost=cost, command=command)

    rows = [
        data("labels", "a panel that has the trait", "a tenth of the tokens are not learnt", reading),
        data(
            "labels:suspect=student",
            "no panel: one student of the rows",
            "as above",
            Cost(scored=2 * n, trained=1),
        ),
        data(
            f"regenerate:writer={OTHER_BASE}",
            "a capable model of another base",
            "what the writer cannot do",
            Cost(generated=n),
        ),
        data(
            f"mix:share=0.5,writers=[{OTHER_BASE}]",
            "a second generator, or clean rows (--clean)",
            "half of the teacher's rows; half of the trait may stay",
            Cost(generated=n // 2),
        ),
        data("contrast-filter", "a panel that has the trait", "half of the rows; the trait may stay", reading),
    ]
    training = [
        train("corridor", "a panel that has the trait", "nothing that was measured", Cost(trained=panel)),
        train("kl", "the category of the trait", "nothing that was measured", Cost()),
    ]
    named = [
        data(
            f"inoculate:trait={name}",
            "the trait's name",
            "the trait may come back under a prompt that names it",
            Cost(),
        )
        for name in dict.fromkeys(audited.candidates.values())
    ]
    return [*rows[:2], *training, *rows[2:], *named]
