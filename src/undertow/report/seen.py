"""What an audit saw of its rows before any stage, in words: defects, whether the base reads them, other causes."""

from collections.abc import Mapping, Sequence
from typing import Any

from undertow.audit.decision_answers import NEUTRAL_STAGE
from undertow.audit.rows.defect import TUNED
from undertow.report.decision import as_sentence

AuditJson = Mapping[str, Any]


def defects(audit: AuditJson) -> list[str]:
    """Return each defect with its likely cause and what to do, as sentences."""
    found: Sequence[Mapping[str, Any]] = audit.get("defects") or ()
    return [f"{as_sentence(one['what'])} Likely cause: {one['cause']}. {one['fix']}" for one in found]


def headline_of_rows(audit: AuditJson) -> str | None:
    """Return what keeps the rows from being judged, in one line, or None if nothing does."""
    sight: Mapping[str, Any] = audit.get("sight") or {}
    if sight.get("why"):
        return as_sentence(sight["why"].partition(". ")[0])
    found: Sequence[Mapping[str, Any]] = audit.get("defects") or ()
    if not found:
        return None
    more = f" There {'is another defect' if len(found) == 2 else f'are {len(found) - 1} more defects'}."
    return f"{as_sentence(found[0]['what'])} Likely cause: {found[0]['cause']}.{more if len(found) > 1 else ''}"


def sight_line(audit: AuditJson) -> str | None:
    """Return how likely the rows are under the base, or None where none were read."""
    sight: Mapping[str, Any] = audit.get("sight") or {}
    if sight.get("gap") is None:
        return None
    return (
        f"mean log p a token of {sight['n']} rows {sight['rows']:.2f}, of the base's own answers {sight['own']:.2f}; "
        f"rows that lie more than {sight['limit']:g} below are not testable"
    )


def other_causes(audit: AuditJson) -> list[str]:
    """Return what may have made a detected difference without any trait, and whether it was ruled out."""
    sight: Mapping[str, Any] = audit.get("sight") or {}
    if audit["claims"]["provenance"]["status"] != "detected":
        return []
    lines: list[str] = []
    trait = audit["claims"]["provenance"].get("kind") == "trait"
    compared = any(one["stage"] == NEUTRAL_STAGE and one["p"] is not None for one in audit["findings"])
    for one in sight.get("benign") or ():
        out, why = one["ruled_out"], one["why"]
        if one["cause"] == TUNED and compared:
            out, why = trait, "neutral writers were compared" + ("" if trait else ", and stand out as much")
        lines.append(f"{'Ruled out' if out else 'Not ruled out'}: {one['cause']} ({why}).")
    return lines
