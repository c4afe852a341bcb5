"""An audit as one HTML page, as a Markdown card to attach to a dataset or model, and as text for a terminal."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from undertow.report.analysis import cell_text
from undertow.report.audit_words import (
    CAUTION,
    STATUS,
    Audit,
    about_lines,
    headline,
    lineage_line,
    next_steps,
    untested,
)
from undertow.report.render import PAGE, environment, write_page

CARD = "audit_card.md"
DATA = "audit.json"

_CANDIDATES = 8
"""Most candidates of a finding on the page."""


def write_audit(folder: Path, audit: Audit) -> Path:
    """Write audit.json and audit_card.md into a folder, and return the path of the former.

    Args:
        folder: where they go.
        audit: schema undertow.audit/1.
    """
    write_page(folder / DATA, json.dumps(audit, indent=1, allow_nan=False) + "\n")
    write_page(folder / CARD, card(audit))
    return folder / DATA


def render_audit(folder: Path, audit: Audit) -> Path:
    """Write report.html into a folder, and return its path.

    Args:
        folder: where it goes.
        audit: schema undertow.audit/1.
    """
    templates = environment()
    templates.filters["code"] = code
    page = templates.get_template("audit.html").render(
        audit=audit,
        headline=headline(audit),
        status=STATUS,
        steps=next_steps(audit),
        untested=untested(audit),
        about=about_lines(audit),
        lineage=lineage_line(audit),
        caution=CAUTION,
        cell=cell_text,
        evidence=_evidence(audit),
        primary=set(audit["plan"]["primary"].values()),
    )
    write_page(folder / PAGE, page)
    return folder / PAGE


def code(text: str) -> Markup:
    """Return text as HTML, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _evidence(audit: Audit) -> list[tuple[Mapping[str, Any], list[tuple[str, float]]]]:
    """Return each finding with the candidate it names, then those of the largest scores; layers in their own order."""
    shown: list[tuple[Mapping[str, Any], list[tuple[str, float]]]] = []
    for finding in audit["findings"]:
        scores: list[tuple[str, float]] = list((finding["scores"] or {}).items())
        if not all(name.startswith("layer ") for name, _ in scores):
            # A stage may name another than the largest: the first in SDs of clean rows.
            scores = sorted(scores, key=lambda item: (not _named(item[0], finding), -item[1]))[:_CANDIDATES]
        shown.append((finding, scores))
    return shown


def _named(label: str, finding: Mapping[str, Any]) -> bool:
    return label.partition(" (")[0] == finding["candidate"]


def card(audit: Audit) -> str:
    """Return a Markdown card: the claims, what would have been seen, what was audited, what was not tested."""
    plan = audit["plan"]
    lines = ["# Audit card", "", f"**{headline(audit)}**", ""]
    lines += [
        "| Claim | Verdict | p | Smallest detectable effect | Candidate | Decided by |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in audit["claims"].items():
        cells = (STATUS[one["status"]], cell_text(one["p"]), cell_text(one["mde"]), cell_text(one["candidate"]))
        lines.append(f"| {name} | {' | '.join(cells)} | {cell_text(plan['primary'][name])} |")
    lines += ["", f"Alpha {audit['alpha']:g} for the whole audit, {plan['alpha_of_each_claim']:.3g} for each claim, "]
    lines[-1] += (
        "declared with the stages before the data were read. An effect is in its stage's own unit (audit.json)."
    )
    if kin := lineage_line(audit):
        lines += ["", f"Teacher and base, lineage: {kin}."]
    lines += ["", "## What was audited", "", *(f"- {name}: {value}" for name, value in about_lines(audit))]
    lines += ["", "## Not tested", "", *(f"- {line}" for line in untested(audit)), "", CAUTION, ""]
    return "\n".join(lines)


def summarise_audit(audit: Audit) -> str:
    """Return the claims, the findings, what is missing and what to do next as text."""
    lines = [headline(audit), ""]
    lines += [f"{name:11} {STATUS[one['status']]:13} {one['why']}" for name, one in audit["claims"].items()]
    if kin := lineage_line(audit):
        lines.append(f"lineage     {kin}")
    lines += ["", *(_line(one) for one in audit["findings"])]
    if audit.get("missing"):
        lines += ["", "further inputs would add:", *(f"- {one['adds']}" for one in audit["missing"])]
    return "\n".join([*lines, "", "next:", *(f"- {step}" for step in next_steps(audit))])


def _line(finding: Mapping[str, Any]) -> str:
    p = "no p-value" if finding["p"] is None else f"p = {finding['p']:.2g}"
    effect = "" if finding["effect"] is None else f"{finding['effect']:.3g}"
    named = f"  {finding['candidate']}" if finding["candidate"] else ""
    caveats: Sequence[str] = finding["caveats"]
    return f"{finding['stage']:20} {STATUS.get(finding['verdict'], finding['verdict']):13} {effect:>8}  {p}{named}" + (
        f"\n                     {caveats[0]}" if caveats else ""
    )
