"""An audit as one HTML page, as a Markdown card to attach to a dataset or model, and as text for a terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertow.report.analysis import cell_text
from undertow.report.render import PAGE, environment, write_page

CARD = "audit_card.md"
DATA = "audit.json"

STATUS = {"detected": "detected", "not_detected": "not detected", "not_testable": "not testable"}

NEXT: Mapping[str, str] = {
    "provenance": "Regenerate the rows with a model of another base, or see `undertow mitigate advise`; audit again.",
    "exposure": "Do not go on from this student; retrain it from the base without the suspect rows; audit again.",
    "expression": "Do not deploy this student or train on these rows as they are; retrain without them; audit again.",
}
"""What to do about each claim that was detected."""

CAUTION = (
    "An audit looks for the declared panel with the stages named here. What it did not find may still be there: traits "
    "outside the panel, traits behind a trigger, and effects below the minimum that it could detect."
)

_CANDIDATES = 12
"""Most candidates of a finding on the page."""

Audit = Mapping[str, Any]


def render_audit(folder: Path, audit: Audit) -> Path:
    """Write report.html, audit.json and audit_card.md into a folder, and return the path of the page.

    Args:
        folder: where they go.
        audit: schema undertow.audit/1.
    """
    page = (
        environment()
        .get_template("audit.html")
        .render(
            audit=audit,
            status=STATUS,
            steps=next_steps(audit),
            caution=CAUTION,
            cell=cell_text,
            evidence=_evidence(audit),
        )
    )
    write_page(folder / DATA, json.dumps(audit, indent=1, allow_nan=False) + "\n")
    write_page(folder / CARD, card(audit))
    write_page(folder / PAGE, page)
    return folder / PAGE


def next_steps(audit: Audit) -> list[str]:
    """Return what to do next: for each detected claim, else for each that could not be tested."""
    steps = [NEXT[name] for name, one in audit["claims"].items() if one["status"] == "detected"]
    missing = [
        f"{name}: {one['why'].rstrip('.')}." for name, one in audit["claims"].items() if one["status"] == "not_testable"
    ]
    if steps:
        return [*steps, *(f"Not testable yet: {line}" for line in missing)]
    if missing:
        return [f"Not testable yet: {line}" for line in missing]
    return [
        "Nothing needs to change on account of this audit. Keep the card with the data; audit again when they change."
    ]


def _evidence(audit: Audit) -> list[tuple[Mapping[str, Any], list[tuple[str, float]]]]:
    """Return each finding with its most striking candidates."""
    shown: list[tuple[Mapping[str, Any], list[tuple[str, float]]]] = []
    for finding in audit["findings"]:
        scores: Mapping[str, float] = finding["scores"] or {}
        shown.append((finding, sorted(scores.items(), key=lambda item: -item[1])[:_CANDIDATES]))
    return shown


def card(audit: Audit) -> str:
    """Return a Markdown card: what was audited, the claims, what would have been seen."""
    lines = ["# Audit card", ""]
    lines += [f"- {name}: {value}" for name, value in audit["about"].items()]
    lines += ["", "| Claim | Status | p | Smallest detectable effect | Candidate |", "|---|---|---|---|---|"]
    for name, one in audit["claims"].items():
        cells = (STATUS[one["status"]], cell_text(one["p"]), cell_text(one["mde"]), cell_text(one["candidate"]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Alpha of the whole audit: {audit['alpha']}.", "", CAUTION, ""])


def summarise_audit(audit: Audit) -> str:
    """Return the claims, the findings and what to do next as text."""
    lines = [f"{name:11} {STATUS[one['status']]:13} {one['why']}" for name, one in audit["claims"].items()]
    lines += ["", *(_line(one) for one in audit["findings"]), ""]
    return "\n".join([*lines, *next_steps(audit)])


def _line(finding: Mapping[str, Any]) -> str:
    p = "no p-value" if finding["p"] is None else f"p = {finding['p']:.2g}"
    effect = "" if finding["effect"] is None else f"{finding['effect']:.3g}"
    named = f"  {finding['candidate']}" if finding["candidate"] else ""
    caveats: Sequence[str] = finding["caveats"]
    return f"{finding['stage']:12} {STATUS.get(finding['verdict'], finding['verdict']):13} {effect:>8}  {p}{named}" + (
        f"\n             {caveats[0]}" if caveats else ""
    )
