"""An audit as one HTML page, as a Markdown card to attach to a dataset or model, and as text for a terminal.

Every function takes the audit's JSON (schema undertow.audit/1) and loads no model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from undertow.audit.asked import DOMAIN
from undertow.audit.decision_answers import KINSHIP, PAIR_STAGE, beside_neutral, untestable
from undertow.audit.rows.limits import ACCEPTED
from undertow.audit.stages import next_steps as what_to_do
from undertow.report.decision import decision_card, decision_of, decision_parts, decision_text
from undertow.report.error_rates import error_rates
from undertow.report.numbers import cell_text
from undertow.report.render import PAGE, environment, write_page
from undertow.report.seen import defects, headline_of_rows, other_causes, sight_line
from undertow.report.signing.statement import STATEMENT_FILE, page_bytes, statement_bytes, statement_of
from undertow.store.disk import write_file

AuditJson = Mapping[str, Any]

STATUS = {"detected": "detected", "not_detected": "not detected", "not_testable": "not testable"}


def status_of(claim: Mapping[str, Any]) -> str:
    """Return a claim's status in words, with its kind where it has one, such as "detected, tuned"."""
    kind = claim.get("kind")
    return STATUS[claim["status"]] + (f", {kind}" if kind else "")


CAUTION = (
    "An audit looks for the declared panel with the stages named here. What it did not find may still be there: traits "
    "outside the panel, traits behind a trigger, and effects below the minimum that it could detect."
)

_STRANGERS = (
    "The rows' writer shows, and nothing speaks for a base that it shares with the student. In our studies students of "
    "another initialisation took over nothing from filtered number rows; whether these rows pass something on is what "
    "exposure and expression test."
)

TEXT = (
    "The error rate on plain text: it was measured on ordinary questions of an embedded base alone "
    "(docs/channels_audit.md), so that of these rows is exploratory. The null is exact if the reference was drawn as "
    "the rows were."
)
"""What is said of rows that are not lists of numbers."""

ABOUT: Mapping[str, str] = {
    "date": "Date (UTC)",
    "undertow": "Undertow version",
    "base": "Base",
    "base_identity": "Base, hash of weights",
    "teacher": "Teacher",
    "teacher_identity": "Teacher, hash of weights",
    "student": "Student",
    "student_identity": "Student, hash of weights",
    "control": "Control student",
    "rows": "Rows",
    "pairs": "Preference pairs",
    "budget": "Budget",
    "reference": "Clean reference",
    "neutral_writers": "Neutral writers",
    "prompts": "Own prompts",
    "sha256": "SHA-256",
    "panel": "Panel",
    "placebo_students": "Placebo students",
    "neutral_teachers": "Neutral teachers",
    "seed": "Seed",
    "seconds": "Cost, seconds",
}
"""Name of each entry of "about", in the order of the card."""


def headline(audit: AuditJson) -> str:
    """Return the verdict in one line: what keeps the rows from being judged, then what was found."""
    claims: Mapping[str, Any] = audit["claims"]
    tested = [name for name, one in claims.items() if one["status"] != "not_testable"]
    rows = headline_of_rows(audit)
    if rows is None:
        return _found(audit, tested) if tested else "Nothing could be tested with these inputs."
    return f"{rows} {_found(audit, tested)}" if tested else f"{rows} Nothing is claimed of a trait."


def _found(audit: AuditJson, tested: Sequence[str]) -> str:
    """Return what was detected, or that nothing was detected in what was tested."""
    claims: Mapping[str, Any] = audit["claims"]
    found = [name for name, one in claims.items() if one["status"] == "detected"]
    others = [name for name in found if name != "provenance"]
    said = [_of_rows(claims["provenance"], audit)] if "provenance" in found else []
    said += [f"{' and '.join(others).capitalize()} detected"] if others else []
    if said:
        names = dict.fromkeys(one["candidate"] for one in claims.values() if one["candidate"])
        if "provenance" in found and beside_neutral(audit) and claims["provenance"]["candidate"]:
            return f"{'. '.join(said)}. Their shift points to {', '.join(names)}."
        named = f" ({', '.join(names)})." if names else ". No trait of the panel is named."
        return f"{'. '.join(said)}{named}"
    left = [name for name in claims if name not in tested]
    return f"Nothing was detected in {' and '.join(tested)}" + (
        f"; {' and '.join(left)} not testable." if left else "."
    )


def _of_rows(claim: Mapping[str, Any], audit: AuditJson) -> str:
    """Return in words what a detected provenance means, by its kind."""
    if claim.get("stage") == PAIR_STAGE:
        return "The chosen answers stand above the rejected ones along the panel, beyond their length and likelihood"
    differs = "The rows were written differently from the reference"
    if claim.get("kind") == "trait":
        return f"{differs}, along a trait as no neutral writer's are"
    if beside_neutral(audit):
        return f"{differs}, and nothing tells them from rows of neutral writers, which were tuned without a trait"
    return differs


def steps_to_take(audit: AuditJson) -> list[str]:
    """Return what to do next: about what was detected, or else about what could not be tested."""
    claims, primary = audit["claims"], audit["plan"]["primary"]
    if wrong := defects(audit):
        return wrong
    found = [name for name, one in claims.items() if one["status"] == "detected"]
    if steps := list(dict.fromkeys(step for name in found for step in what_to_do(primary[name], name))):
        return [*([_STRANGERS] if _strangers(audit) else []), *steps]
    lacking = untestable({name: one for name, one in claims.items() if primary[name] is not None})
    return [f"{' and '.join(names)} could not be tested: {why}." for why, names in lacking.items()] or [
        "What follows stands in the decision. Keep the card with what was audited; audit again when it changes."
    ]


def _strangers(audit: AuditJson) -> bool:
    """Tell whether only the rows' writer was detected, and nothing speaks for a base shared with the student."""
    kin = audit.get("lineage")
    found = [name for name, one in audit["claims"].items() if one["status"] == "detected"]
    return found == ["provenance"] and isinstance(kin, Mapping) and kin["verdict"] == "no_evidence"


def lineage_line(audit: AuditJson) -> str | None:
    """Return what the lineage audit says of the teacher and the base; None if no teacher was given."""
    kin: Any = audit.get("lineage")
    if kin is None or isinstance(kin, str):
        return kin
    verdict: str = kin["verdict"]
    seen = f"; found: {kin['found']}" if "found" in kin else ""  # audits of before 2026-11-29 have none
    return f"{verdict.replace('_', ' ')}: {KINSHIP[verdict][1]}{seen}; what would have been seen: {kin['detectable']}"


def of_text(audit: AuditJson) -> bool:
    """Tell whether the rows are mostly no number rows, but their provenance was tested all the same."""
    intake: Mapping[str, Any] = audit.get("intake") or {}
    rows, accepted = intake.get("rows"), (intake.get("accepted_by_domain") or {}).get(DOMAIN)
    if not rows or accepted is None or audit["claims"]["provenance"]["status"] == "not_testable":
        return False
    return accepted < ACCEPTED * rows["sampled"]


def untested(audit: AuditJson) -> list[str]:
    """Return what the audit did not test, each with the reason."""
    primary = audit["plan"]["primary"]
    lines = [f"{' and '.join(names)}: {why}." for why, names in untestable(audit["claims"]).items()]
    lines += [
        f"{one['stage']}: {'; '.join(one['caveats']).rstrip('.')}."
        for one in audit["findings"]
        if one["verdict"] == "not_testable" and one["stage"] not in primary.values()
    ]
    lines += [
        f"{one['stage']}: exploratory, it has no calibrated null and moves no verdict."
        for one in audit["findings"]
        if one["verdict"] == "exploratory" and one["stage"] not in primary.values()
    ]
    lines += [TEXT] if of_text(audit) else []
    lines += [f"{_capital(one['channel'])}: {one['why']}." for one in audit.get("not_covered") or ()]
    return [*lines, "Traits outside the panel, traits behind a trigger or a system prompt, and skills."]


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def about_lines(audit: AuditJson) -> list[tuple[str, str]]:
    """Return what was audited as pairs of name and value; what was not given is left out."""
    about: Mapping[str, Any] = audit["about"]
    lines: list[tuple[str, str]] = []
    for key in (*ABOUT, *(name for name in about if name not in ABOUT)):
        value = about.get(key)
        if isinstance(value, Mapping):
            lines += [(f"{ABOUT.get(key, key)} of {name}", str(one)) for name, one in value.items()]
        elif value is not None and (value or key in ("seed", "placebo_students", "neutral_teachers")):
            lines.append((ABOUT.get(key, key), str(value)))
    return lines


def unknown_writer(audit: AuditJson) -> list[str]:
    """Return what is not known of who wrote the rows, as lines of a list; empty where no rows were audited."""
    intake: Mapping[str, Any] = audit.get("intake") or {}
    if not intake.get("rows"):
        return []
    if intake.get("writer") is None:
        return ["- Writer of the rows: no record was given (`--writer`), so nothing is known of it."]
    unknown: Sequence[str] = intake["writer_unknown"]
    return [f"- Not known of the writer: {'; '.join(unknown)}."] if unknown else []


CARD = "audit_card.md"
DATA = "audit.json"

_CANDIDATES = 8
"""How many candidates of a finding the page shows at most."""


def write_audit(folder: Path, audit: AuditJson) -> Path:
    """Write audit.json, audit_card.md and the statement of both into a folder, and return the path of audit.json.

    Where nothing that was audited has a digest there is no statement, and one of an earlier audit is removed.

    Args:
        folder: folder that the files are written to.
        audit: plain data of an audit, schema undertow.audit/1.

    Raises:
        StorageError: the folder cannot be written.
    """
    texts = {DATA: json.dumps(audit, indent=1, allow_nan=False) + "\n", CARD: audit_card(audit)}
    for name, text in texts.items():
        write_file(folder / name, page_bytes(text))
    statement, path = statement_of(audit, texts), folder / STATEMENT_FILE
    if statement is None:
        path.unlink(missing_ok=True)
    else:
        write_file(path, statement_bytes(statement))
    return folder / DATA


def render_audit(folder: Path, audit: AuditJson) -> Path:
    """Write report.html into a folder, and return its path.

    Args:
        folder: folder that the page is written to.
        audit: plain data of an audit, schema undertow.audit/1.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from undertow.report.nulls import finding_figure  # here, so that the card and the terminal do without matplotlib

    templates = environment()
    templates.filters["code"] = code_span
    page = templates.get_template("audit.html").render(
        audit=audit,
        decision=decision_of(audit),
        parts=decision_parts(decision_of(audit)),
        headline=headline(audit),
        status=STATUS,
        status_of=status_of,
        steps=steps_to_take(audit),
        untested=untested(audit),
        about=about_lines(audit),
        lineage=lineage_line(audit),
        defects=defects(audit),
        sight=sight_line(audit),
        causes=other_causes(audit),
        rates=error_rates(audit),
        caution=CAUTION,
        cell=cell_text,
        evidence=_evidence(audit),
        figures=[finding_figure(index, finding) for index, finding in enumerate(audit["findings"])],
        primary=set(audit["plan"]["primary"].values()),
    )
    write_page(folder / PAGE, page)
    return folder / PAGE


def code_span(text: str) -> Markup:
    """Return text as HTML, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _evidence(audit: AuditJson) -> list[tuple[Mapping[str, Any], list[tuple[str, float]]]]:
    """Return each finding with its largest scores, the candidate that it names first; layers keep their order."""
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


def audit_card(audit: AuditJson) -> str:
    """Return a Markdown card: the claims, what would have been seen, what was audited, what was not tested."""
    plan = audit["plan"]
    lines = ["# Audit card", "", f"**{headline(audit)}**", ""]
    lines += [
        "| Claim | Verdict | p | n | Smallest effect found in 80 % | Candidate | Decided by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in audit["claims"].items():
        n = next((found["n"] for found in audit["findings"] if found["stage"] == one.get("stage")), None)
        cells = (status_of(one), *map(cell_text, (one["p"], n, one["mde"], one["candidate"])))
        lines.append(f"| {name} | {' | '.join(cells)} | {cell_text(one.get('stage') or plan['primary'][name])} |")
    lines += ["", f"Alpha {audit['alpha']:g} for the whole audit, {plan['alpha_of_each_claim']:.3g} for each claim, "]
    lines[-1] += (
        "declared with the stages before the data were read. An effect is in its stage's own unit (audit.json)."
    )
    if rates := error_rates(audit):
        lines += ["", rates]
    if kin := lineage_line(audit):
        lines += ["", f"Teacher and base, lineage: {kin}."]
    if found := defects(audit):
        lines += ["", "## Defects that look like a trait", "", *(f"- {line}" for line in found)]
    if causes := other_causes(audit):
        lines += ["", "## Other causes of the difference", "", *(f"- {line}" for line in causes)]
    if seen := sight_line(audit):
        lines += ["", f"Rows under the base: {seen}."]
    lines += ["", *decision_card(audit)]
    lines += ["", "## What was audited", "", *(f"- {name}: {value}" for name, value in about_lines(audit))]
    lines += unknown_writer(audit)
    lines += ["", "## Not tested", "", *(f"- {line}" for line in untested(audit)), "", CAUTION, ""]
    return "\n".join(lines)


def summarise_audit(audit: AuditJson) -> str:
    """Return the claims, the findings, what is missing and what to do next as text for a terminal."""
    lines = [headline(audit), ""]
    said: dict[str, str] = {}
    for name, one in audit["claims"].items():
        first = said.setdefault(one["why"], name)
        lines.append(f"{name:11} {status_of(one):15} {one['why'] if first == name else f'as {first}'}")
    if kin := lineage_line(audit):
        lines.append(f"lineage     {kin}")
    lines += [f"defect      {line}" for line in defects(audit)]
    if causes := other_causes(audit):
        lines += ["", "other causes of the difference:", *(f"- {line}" for line in causes)]
    if rates := error_rates(audit):
        lines += ["", rates]
    lines.append("")
    for one in audit["findings"]:
        lines.append(_line(one, said))
        said |= {why: one["stage"] for why in one["caveats"][:1]}
    if audit.get("missing"):
        lines += ["", "further inputs would add:", *(f"- {one['adds']}" for one in audit["missing"])]
    if channels := [one["channel"] for one in audit.get("not_covered") or ()]:
        lines += ["", f"channels that were not looked at: {', '.join(channels)} (the card says why)"]
    lines += ["", "next:", *(f"- {step}" for step in steps_to_take(audit))]
    return "\n".join([*lines, "", decision_text(audit)])


def _line(finding: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """Return a finding and its first caveat as text; a caveat that was printed before is left out."""
    p = "no p-value" if finding["p"] is None else f"p = {finding['p']:.2g}"
    effect = "" if finding["effect"] is None else f"{finding['effect']:.3g}"
    named = f"  {finding['candidate']}" if finding["candidate"] else ""
    caveats: Sequence[str] = [one for one in finding["caveats"] if one not in said]
    return f"{finding['stage']:20} {STATUS.get(finding['verdict'], finding['verdict']):13} {effect:>8}  {p}{named}" + (
        f"\n                     {caveats[0]}" if caveats else ""
    )
