"""Fingerprints: hashes that are equal for the same work, in every process and on every machine."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

from undertow.errors import ConfigError

_KIND = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactKey:
    """What an artifact is made from; equal keys mean the same artifact.

    Attributes:
        kind: kind of the stage that makes it; also the name of a folder of the store.
        version: version of the code of that kind of stage; raise it when the same config gives another result.
        config: all settings of the stage, as JSON values; they are copied.
        parents: fingerprints of the artifacts that it is made from, by the role that each plays, such as "rows".

    Raises:
        ConfigError: the kind cannot name a folder, or the config holds something without a stable text form.
    """

    kind: str
    version: int
    config: Mapping[str, Any]
    parents: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ConfigError(
                "This is not a name for a kind of artifact.", self.kind, "Use lower case, digits, - and _."
            )
        object.__setattr__(self, "config", json.loads(canonical_json(self.config)))
        object.__setattr__(self, "parents", dict(self.parents))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of these four attributes, 20 hexadecimal digits (see the function `fingerprint`)."""
        return fingerprint(self.kind, self.version, self.config, self.parents)

    def folder(self, store: Path) -> Path:
        """Return the folder in which the artifact lies, or will lie."""
        return store / self.kind / self.fingerprint


def fingerprint(kind: str, version: int, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Return 20 hexadecimal digits of SHA-256 that are the same in every process and on every machine.

    Args:
        kind: kind of the stage that makes the artifact.
        version: version of the code of that kind of stage.
        config: all settings of the stage, as JSON values.
        parents: fingerprints of the artifacts that it is made from, by the role that each plays.

    Raises:
        ConfigError: the config holds something without a stable text form.
    """
    return sha256(canonical_json({"kind": kind, "version": version, "config": config, "parents": parents}))[:20]


def canonical_json(value: object) -> str:
    """Write a JSON value in one canonical form: sorted keys, no spaces, floats by `repr`, ASCII.

    Raises:
        ConfigError: something in it has no stable form, such as a function, an object, a set, NaN or a key that is
            not text; the value names the place.
    """
    _refuse_unstable(value, "")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


def _refuse_unstable(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[object, object], value).items():
            if not isinstance(key, str):
                _refuse(key, f"{where}.{key}")
            _refuse_unstable(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast(Sequence[object], value)):
            _refuse_unstable(item, f"{where}[{index}]")
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(value, where)


def _refuse(value: object, where: str) -> NoReturn:
    shown = value if isinstance(value, float) else f"of type {type(value).__qualname__}"
    raise ConfigError(
        "A setting has no stable text form, so the result could not be found again.",
        f"{where.removeprefix('.') or 'the value'} is {shown}",
        "Use text, finite numbers, booleans, lists and mappings with text keys (a function: its registered name; "
        "a set: a sorted list; a record: dataclasses.asdict).",
    )


def sha256(text: str) -> str:
    """Return the SHA-256 of a text (as UTF-8) in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
