"""Detectors by what an operator writes on the command line."""

import re
from pathlib import Path
from typing import Any, cast

import yaml

from undertow.errors import ConfigError
from undertow.monitor.detectors.base import AbstractDetector

FORMS = (
    "regex:FILE, constitution:FILE[@RATE], judge:INSPECT_MODEL@FILE, mention:WORD=RATE[@ALPHA] or "
    "mention:WORD=HITS/REPLIES[@ALPHA]"
)

_MENTION = re.compile(r"(?P<word>[\w-]+)=(?:(?P<hits>\d+)/(?P<n>\d+)|(?P<rate>[\d.]+))")


def detector(spec: str) -> AbstractDetector:
    """Make the detector that a specification describes, of one of the `FORMS`.

    Raises:
        UserError: the specification, or a file that it names, cannot be used.
    """
    kind, _, rest = spec.partition(":")
    body, _, level = rest.rpartition("@") if "@" in rest else (rest, "", "")
    if kind == "judge" and body and level:
        from undertow.monitor.constitution import read_draft
        from undertow.monitor.detectors.judge import JudgeDetector

        return JudgeDetector.of(read_draft(Path(level)).rules, body, spec)
    try:
        share = float(level) if level else None
    except ValueError:
        raise _unknown(spec) from None
    if kind == "regex" and not level:
        from undertow.monitor.detectors.expressions import ExpressionDetector

        return ExpressionDetector(_expressions(Path(rest)), spec)
    if kind == "constitution":
        from undertow.monitor.constitution import read_constitution
        from undertow.monitor.detectors.constitution import ConstitutionDetector

        return ConstitutionDetector(read_constitution(Path(body)), 0.01 if share is None else share, name=spec)
    found = _MENTION.fullmatch(body)
    if kind != "mention" or not found:
        raise _unknown(spec)
    from undertow.monitor.detectors.mentions import MentionDetector

    alpha = 0.05 if share is None else share
    if found["rate"]:
        return MentionDetector(found["word"], _number(found["rate"], spec), alpha)
    return MentionDetector.from_counts(found["word"], int(found["hits"]), int(found["n"]), alpha)


def _unknown(spec: str) -> ConfigError:
    return ConfigError("There is no detector of this form.", spec, f"Write {FORMS}.")


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unknown(spec) from None


def _expressions(path: Path) -> dict[str, str]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"The expressions cannot be read ({reason}).", path, "Correct the file.") from error
    items = cast(dict[Any, Any], data) if isinstance(data, dict) else None
    if items is None or not all(isinstance(one, str) for pair in items.items() for one in pair):
        raise ConfigError("The file has no lines of rule: expression.", path, "Quote the expressions.")
    return items
