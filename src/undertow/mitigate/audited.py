"""What an audit's report says about rows that are to be mitigated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from undertow.errors import ConfigError
from undertow.models.references import identity
from undertow.store.disk import storage_errors
from undertow.traits import Trait, trait

SCHEMA = "undertow.audit/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """The part of a report that mitigations need.

    Attributes:
        base: reference of the model that the audit took as the one to be trained.
        base_identity: hash of its weights, tokenizer and config.
        panel: the traits that were looked for.
        statuses: "detected", "not_detected" or "not_testable" by claim.
        candidates: the trait named by each claim that was detected.
        rows: how many rows were audited.
    """

    base: str
    base_identity: str
    panel: tuple[Trait, ...]
    statuses: Mapping[str, str]
    candidates: Mapping[str, str]
    rows: int

    @property
    def candidate(self) -> str | None:
        """The trait that the detected claims name, if they name one and no other."""
        named = set(self.candidates.values())
        return named.pop() if len(named) == 1 else None

    def require_base(self, base: str) -> None:
        """Refuse to go by this audit for another base.

        Raises:
            ConfigError: the base to be trained has other weights than the audited one.
        """
        found = identity(base)
        if found != self.base_identity:
            raise ConfigError(
                "The audit is of another base than the one to be trained: what rows carry depends on who learns them.",
                f"audited {self.base} ({self.base_identity}), to be trained {base} ({found})",
                f"Audit the rows with --base {base}, or train {self.base}.",
            )


def read_audit(path: Path) -> Audited:
    """Read the file audit.json of an audit.

    Raises:
        ConfigError: it is no report of the schema undertow.audit/1.
        UnknownNameError: its panel has a trait that does not exist here.
        StorageError: it cannot be read.
    """
    fix = "Give the audit.json that `undertow audit data ROWS --out FOLDER` writes."
    try:
        with storage_errors(path):
            data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("The audit's report cannot be read.", f"{path}: {error}", fix) from error
    fields = cast(dict[str, Any], data) if isinstance(data, dict) else {}
    if fields.get("schema") != SCHEMA:
        raise ConfigError("This is no report of an audit.", f"{path}: schema {fields.get('schema')!r:.60}", fix)
    try:
        about, claims = fields["about"], fields["claims"]
        return Audited(
            base=str(about["base"]),
            base_identity=str(about["base_identity"]),
            panel=tuple(trait(name) for name in about["panel"].split(", ")),
            statuses={name: one["status"] for name, one in claims.items()},
            candidates={name: one["candidate"] for name, one in claims.items() if one["candidate"]},
            rows=int(about["rows"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{path}: {type(error).__name__}: {error}"
        raise ConfigError("The audit's report lacks something.", what, fix) from error
