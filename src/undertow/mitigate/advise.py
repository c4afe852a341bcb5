"""Advice on mitigations: which of them an audit's report suggests, what each needs and costs, and its command."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, cast

from undertow.domains.base import telling_domains
from undertow.errors import ConfigError
from undertow.mitigate.base import Cost
from undertow.models.references import identity
from undertow.store.disk import storage_errors
from undertow.traits import Trait, trait

AUDIT_SCHEMA = "undertow.audit/1"
"""Name and version of the format of an audit's report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSummary:
    """The part of an audit's report that mitigations need.

    Attributes:
        base: reference of the model that the audit took as the one to be trained.
        base_identity: hash of that model's weights, tokenizer and config.
        panel: the traits that the audit looked for.
        statuses: "detected", "not_detected" or "not_testable" by claim; a claim is a question that the audit answers.
        candidates: by claim the trait that it names, for the claims that were detected.
        rows: how many rows were audited.
        domain: name of the domain that accepts most of the rows; "none" if none accepts half of them.
    """

    base: str
    base_identity: str
    panel: tuple[Trait, ...]
    statuses: Mapping[str, str]
    candidates: Mapping[str, str]
    rows: int
    domain: str = "numbers"

    @property
    def rule(self) -> str:
        """The option that names the domain, as commands take it; empty for their default."""
        return "" if self.domain == "numbers" else f" --domain {self.domain}"

    @property
    def candidate(self) -> str | None:
        """The trait that the detected claims name. None if they name none, or several."""
        named = set(self.candidates.values())
        return named.pop() if len(named) == 1 else None

    def require_base(self, base: str) -> None:
        """Refuse to use this audit for another base model.

        Args:
            base: reference of the model that is to be trained.

        Raises:
            ConfigError: the model to be trained has other weights than the audited one.
        """
        found = identity(base)
        if found != self.base_identity:
            raise ConfigError(
                "The audit is of another base than the one to be trained: what rows carry depends on who learns them.",
                f"audited {self.base} ({self.base_identity}), to be trained {base} ({found})",
                f"Audit the rows with --base {base}, or train {self.base}.",
            )


def read_audit(path: Path) -> AuditSummary:
    """Read the file audit.json that an audit wrote.

    Raises:
        ConfigError: the file is no report of the schema undertow.audit/1, or one of preference pairs.
        UnknownNameError: the report's panel names a trait that does not exist here.
        StorageError: the file cannot be read.
    """
    fix = "Give the audit.json that `undertow audit data ROWS --base MODEL --out FOLDER` writes."
    try:
        with storage_errors(path):
            data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("The audit's report cannot be read.", f"{path}: {error}", fix) from error
    fields = cast(dict[str, Any], data) if isinstance(data, dict) else {}
    if fields.get("schema") != AUDIT_SCHEMA:
        raise ConfigError("This is no report of an audit.", f"{path}: schema {fields.get('schema')!r:.60}", fix)
    _refuse_pairs(path, fields)
    try:
        about, claims = fields["about"], fields["claims"]
        own = {one["name"]: Trait.from_data(one) for one in fields.get("own_traits", ())}
        return AuditSummary(
            base=str(about["base"]),
            base_identity=str(about["base_identity"]),
            panel=tuple(own.get(name) or trait(name) for name in about["panel"].split(", ")),
            statuses={name: one["status"] for name, one in claims.items()},
            candidates={name: one["candidate"] for name, one in claims.items() if one["candidate"]},
            rows=int(about["rows"]),
            domain=_domain(fields.get("intake")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{path}: {type(error).__name__}: {error}"
        raise ConfigError("The audit's report lacks something.", what, fix) from error


def _domain(intake: Any) -> str:
    """Return the domain that accepts at least half of the rows, as the intake counted them; without one, numbers.

    Ordinary text is named last, since it accepts most rows of other domains.
    """
    if not intake or not intake.get("rows"):
        return "numbers"
    counts, half = intake["accepted_by_domain"], intake["rows"]["sampled"] / 2
    telling = sorted(telling_domains(), key=lambda name: -counts.get(name, 0))
    return next((name for name in (*telling, *counts) if counts.get(name, 0) >= half), "none")


def _refuse_pairs(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse an audit of preference pairs, because mitigations change rows."""
    about: object = fields.get("about")
    pairs = cast(dict[str, Any], about).get("pairs") if isinstance(about, dict) else None
    if pairs:
        fix = "Follow the audit's own next steps, or audit one side as rows: FILE?side=chosen."
        raise ConfigError("Mitigations change rows, and this audit is of pairs.", f"{path}: {pairs} pairs", fix)


SCHEMA = "undertow.advice/1"
"""Name and version of the format of the advice."""

NOTHING = Cost()
OTHER = "a capable model of another base (`undertow audit lineage`)"
PANEL = "a panel that has the trait"
HELD_OUT = "clean rows on which no student is trained: without a domain there are no prompts for which to write some"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One mitigation that is worth a try.

    Attributes:
        method: the mitigation's line of name and settings, for `undertow mitigate data` or `train`.
        needs: what has to be known or at hand.
        loses: what it may cost in skill or data.
        cost: what it costs for the audited rows.
        command: the shell command that applies the mitigation.
    """

    method: str
    needs: str
    loses: str
    cost: Cost
    command: str


def advise(audited: AuditSummary) -> dict[str, Any]:
    """Return mitigations in the order in which they are worth trying (docs/mitigations.md).

    If the audit detected nothing, there are none.

    Args:
        audited: the part of the audit's report that counts here.

    Returns:
        Plain data in the schema undertow.advice/1, with what to do next in words.
    """
    detected = [claim for claim, status in audited.statuses.items() if status == "detected"]
    found = candidate_mitigations(audited) if detected else []
    return {
        "schema": SCHEMA,
        "detected": detected,
        "candidate": audited.candidate,
        "base": audited.base,
        "mitigations": [asdict(one) for one in found],
        "next": _next(audited, detected),
    }


def _next(audited: AuditSummary, detected: list[str]) -> str:
    """Say what to do next, given what was detected."""
    if detected:
        named = quote(audited.candidate or "TRAIT")
        command = f"undertow mitigate verify ROWS --trait {named} --method ... --base {quote(audited.base)}"
        kept = f" --held-out HELD_OUT. HELD_OUT is a file of {HELD_OUT}." if audited.domain == "none" else ""
        return f"Verify before you rely on one: {command}{audited.rule} --audit AUDIT.json{kept}"
    untested = [claim for claim, status in audited.statuses.items() if status == "not_testable"]
    if untested:
        return f"Nothing was detected, but not everything was testable: {', '.join(untested)}. See the audit's report."
    return "Nothing was detected, so there is nothing to mitigate. That is no proof of absence."


def candidate_mitigations(audited: AuditSummary) -> list[Advice]:
    """Return every mitigation that can be tried with what the audit had, most promising first."""
    n, panel = audited.rows, len(audited.panel)
    reading, writer = Cost(scored=n * (panel + 1), trained=panel), other_writer(audited.base)

    def one(command: str, method: str, needs: str, loses: str, cost: Cost = NOTHING) -> Advice:
        typed = f"undertow mitigate {command} ROWS OUT --method {quote(method)} --base {quote(audited.base)}"
        typed += "" if command == "train" else audited.rule
        return Advice(method=method, needs=needs, loses=loses, cost=cost, command=f"{typed} --audit AUDIT.json")

    half = "half of the teacher's rows; much of the trait may stay"
    labels = "a tenth of the tokens, and valid answers; much of the trait may stay"
    return [
        one("data", f"regenerate:writer={writer}", OTHER, "what the writer cannot do", Cost(generated=n)),
        one("train", "kl", "the category of the trait", "nothing that was measured"),
        one("data", "labels:suspect=student", "no panel", labels, Cost(scored=2 * n, trained=1)),
        one("train", "corridor", PANEL, "nothing that was measured", Cost(trained=panel)),
        one("data", "labels", PANEL, labels, reading),
        one("data", "contrast-filter", PANEL, "half of the rows; much of the trait may stay", reading),
        one("data", f"mix:share=0.5,writers=[{writer}]", OTHER, half, Cost(generated=n // 2)),
        *(
            one("data", f"inoculate:trait={name}", "the trait's name", "what the prompt asks for, when it is there")
            for name in dict.fromkeys(audited.candidates.values())
        ),
    ]


def other_writer(base: str) -> str:
    """Return an embedded model of another base than this one. For a model of the user's own it is the word WRITER."""
    if not base.startswith("ref:"):
        return "WRITER"
    return "ref:finch-a" if base == "ref:finch-b" else "ref:finch-b"
