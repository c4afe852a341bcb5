"""An audit's card as one in-toto statement: the subjects are what was audited, the predicate is what was found.

The same audit makes the same bytes: keys are sorted, and the only times are those of the audit itself.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from undertow.audit.decision import ALWAYS_UNKNOWN
from undertow.data.writer_record import WriterRecord
from undertow.report.decision import decision_of
from undertow.report.error_rates import is_embedded
from undertow.store.fingerprints import canonical_json

AuditJson = Mapping[str, Any]

STATEMENT_FILE = "audit.statement.json"

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
CARD_TYPE = "urn:undertow:audit-card:v1"
"""Kind of the predicate. The version changes when an old reader would misread a new statement."""

IDENTITY = "undertow_identity"
"""Name of the digest of a model: 16 hexadecimal digits, as `undertow.models.references.identity` computes them."""

_IDENTITY = re.compile(r"[0-9a-f]{16}")
_SETTINGS = ("seed", "rows", "prompts", "budget", "neutral_writers", "neutral_teachers", "placebo_students")
_MEASURED = {
    "this base": "The figures were measured on this very base, under the settings that stand with them.",
    "embedded bases": "Measured on the embedded bases, with its own settings: docs/calibration.md of this version.",
    None: "Not measured on this base: docs/calibration.md has the embedded bases alone.",
}


def statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """Return a statement as it is written and signed: canonical JSON in one line."""
    return f"{canonical_json(statement)}\n".encode()


def page_bytes(text: str) -> bytes:
    """Return text as the bytes of its file; a lone surrogate, which UTF-8 cannot encode, becomes a question mark."""
    return text.encode("utf-8", "replace")


def bytes_digest(content: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal, as `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


def model_digest(identity: object) -> dict[str, str]:
    """Return the digest set of a model; empty for a model without weights here, such as a remote one."""
    return {IDENTITY: identity} if isinstance(identity, str) and _IDENTITY.fullmatch(identity) else {}


def statement_of(audit: AuditJson, files: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the statement of an audit; None where nothing that was audited has a digest.

    Args:
        audit: plain data of an audit, schema undertow.audit/1.
        files: text of the files that show the same audit, by file name.
    """
    about: Mapping[str, Any] = audit["about"]
    subject = _subjects(about)
    if not subject:
        return None
    predicate = {
        "base": {"reference": about["base"], "digest": model_digest(about.get("base_identity"))},
        "models": {role: about[role] for role in ("student", "teacher", "control") if about.get(role)},
        "reference_rows": {"how": about.get("reference"), "digest": _sha256(about, "reference")},
        "claims": {name: _claim(audit, one) for name, one in audit["claims"].items()},
        "defects": list(audit.get("defects") or ()),
        "abstentions": _abstentions(audit),
        "lineage": _lineage(audit),
        "error_rates": _error_rates(audit),
        "writer": _writer(audit),
        "missing": list(audit.get("missing") or ()),
        "not_looked_for": ALWAYS_UNKNOWN,
        "decision": {name: decision_of(audit)[name] for name in ("do", "title")},
        "settings": _settings(audit),
        "versions": {"undertow": about["undertow"], **(audit.get("versions") or {})},
        "date": about["date"],
        "seconds": about.get("seconds"),
        "files": [{"name": name, "digest": {"sha256": bytes_digest(page_bytes(text))}} for name, text in files.items()],
    }
    return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": CARD_TYPE, "predicate": predicate}


def _subjects(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows and models that were audited; the base is no subject, since they are audited for it."""
    digests = {
        "rows": _sha256(about, "rows"),
        **{role: model_digest(about.get(f"{role}_identity")) for role in ("student", "teacher")},
    }
    return [{"name": name, "digest": digest} for name, digest in digests.items() if digest]


def _sha256(about: Mapping[str, Any], name: str) -> dict[str, str]:
    found: Mapping[str, str] = about.get("sha256") or {}
    return {"sha256": found[name]} if name in found else {}


def _claim(audit: AuditJson, claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim with the number of units that the deciding stage counted."""
    n = next((one["n"] for one in audit["findings"] if one["stage"] == claim.get("stage")), None)
    names = ("status", "kind", "candidate", "p", "mde", "stage", "why")
    return {**{name: claim.get(name) for name in names}, "n": n}


def _abstentions(audit: AuditJson) -> list[dict[str, str]]:
    """Return what the audit does not speak of, with the reason: claims, then stages that decide none."""
    claims = [(name, one["why"]) for name, one in audit["claims"].items() if one["status"] == "not_testable"]
    deciding = set(audit["plan"]["primary"].values())
    stages = [
        (one["stage"], "; ".join(one["caveats"]))
        for one in audit["findings"]
        if one["verdict"] == "not_testable" and one["stage"] not in deciding
    ]
    return [{"of": name, "why": why} for name, why in (*claims, *stages)]


def _lineage(audit: AuditJson) -> dict[str, Any] | None:
    """Return what is said of a teacher and the base, or why nothing is said; None without a teacher."""
    kin: Any = audit.get("lineage")
    if kin is None:
        return None
    if isinstance(kin, str):
        return {"verdict": None, "why": kin}
    return {"verdict": kin["verdict"], "why": f"what would have been seen: {kin['detectable']}"}


def _error_rates(audit: AuditJson) -> dict[str, Any]:
    """Return the declared levels and where error rates were measured, with the figures if it was on this base."""
    figures: Mapping[str, Any] | None = audit.get("calibration")
    where = "embedded bases" if is_embedded(str(audit["about"]["base"])) else None
    where = where if figures is None else "this base"
    return {
        "alpha": audit["alpha"],
        "alpha_of_each_claim": audit["plan"]["alpha_of_each_claim"],
        "measured_on": where,
        "why": _MEASURED[where],
        "figures": None if figures is None else dict(figures),
    }


def _writer(audit: AuditJson) -> dict[str, Any]:
    """Return what is known of who wrote the rows, and what is not; without a record nothing is known."""
    intake: Mapping[str, Any] = audit.get("intake") or {}
    known = intake.get("writer")
    if known is None:
        return {"known": {}, "unknown": WriterRecord().unknown}
    return {"known": dict(known), "unknown": list(intake["writer_unknown"])}


def _settings(audit: AuditJson) -> dict[str, Any]:
    about: Mapping[str, Any] = audit["about"]
    return {
        **{name: about[name] for name in _SETTINGS if about.get(name) is not None},
        "panel": str(about.get("panel") or "").split(", ") if about.get("panel") else [],
        "stages": list(audit["plan"]["stages"]),
        "primary": dict(audit["plan"]["primary"]),
    }
