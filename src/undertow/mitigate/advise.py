"""Advice: which mitigations an audit's findings ask for, what each needs and costs, and the command to type."""

from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any

from undertow.mitigate.audited import Audited
from undertow.mitigate.base import Cost

SCHEMA = "undertow.advice/1"

NOTHING = Cost()
OTHER = "a capable model of another base (`undertow audit lineage`)"
PANEL = "a panel that has the trait"


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
    """Return candidates in the order in which they are worth trying (docs/mitigations.md), schema undertow.advice/1.

    With nothing detected there is none.
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
    reading, writer = Cost(scored=n * (panel + 1), trained=panel), other_writer(audited.base)

    def one(command: str, method: str, needs: str, loses: str, cost: Cost = NOTHING) -> Advice:
        typed = f"undertow mitigate {command} ROWS OUT --method {quote(method)} --base {quote(audited.base)}"
        return Advice(method=method, needs=needs, loses=loses, cost=cost, command=f"{typed} --audit AUDIT.json")

    half = "half of the teacher's rows; much of the trait may stay"
    return [
        one("data", f"regenerate:writer={writer}", OTHER, "what the writer cannot do", Cost(generated=n)),
        one("train", "kl", "the category of the trait", "nothing that was measured"),
        one("data", "labels:suspect=student", "no panel", "a tenth of the tokens", Cost(scored=2 * n, trained=1)),
        one("train", "corridor", PANEL, "nothing that was measured", Cost(trained=panel)),
        one("data", "labels", PANEL, "a tenth of the tokens", reading),
        one("data", "contrast-filter", PANEL, "half of the rows; much of the trait may stay", reading),
        one("data", f"mix:share=0.5,writers=[{writer}]", OTHER, half, Cost(generated=n // 2)),
        *(
            one("data", f"inoculate:trait={name}", "the trait's name", "what the prompt asks for, when it is there")
            for name in dict.fromkeys(audited.candidates.values())
        ),
    ]


def other_writer(base: str) -> str:
    """Return an embedded model of another base; for a model of the user's own, a word to be replaced."""
    if not base.startswith("ref:"):
        return "WRITER"
    return "ref:finch-a" if base == "ref:finch-b" else "ref:finch-b"
