"""Submissions: what a detector says about each case, as JSONL with a header.

    {"schema": "undertow.bench-submission/1", "detector": name}
    {"case": id, "p": float or null, "candidate": text or null, "seconds": float, "rows_read": int, optional}

One line for every case, in any order; a p of null means that the detector has no answer. Anything else is refused.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from undertow.errors import ConfigError, unknown_name
from undertow.store.disk import storage_errors, write_file

SCHEMA = "undertow.bench-submission/1"

FORMAT = "docs/bench.md shows the format."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a detector says about one case.

    Attributes:
        p: probability of rows that look as much like hiding a trait, if they are clean; None for no answer.
        candidate: the trait that it names, if any, whatever p is.
        seconds: from the rows to the answer.
        rows_read: how many rows it read; None for all.
    """

    p: float | None
    candidate: str | None
    seconds: float
    rows_read: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """The answers of a detector, by case."""

    detector: str
    answers: Mapping[str, Answer]


def write_submission(path: Path, submission: Submission) -> None:
    """Write a submission: all of it, or the file stays as it was.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    header = {"schema": SCHEMA, "detector": submission.detector}
    lines = [header, *({"case": name, **asdict(one)} for name, one in submission.answers.items())]
    write_file(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_submission(path: Path, ids: Sequence[str]) -> Submission:
    """Read a submission.

    Args:
        path: the file.
        ids: of all cases of the benchmark.

    Raises:
        ConfigError: it is no submission, or a case is missing or answered twice, or a value is out of range.
        UnknownNameError: it answers a case that the benchmark does not have.
    """
    with storage_errors(path):
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
            raise ConfigError("The submission cannot be read.", f"{path}: {error}", "Give a JSONL file.") from error
    records = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    header = _record(path, *records[0]) if records else {}
    detector = header.get("detector")
    if header.get("schema") != SCHEMA or not isinstance(detector, str) or not detector.strip():
        raise ConfigError("The first line is not the header of a submission.", f"{path}: {header}", FORMAT)
    answers: dict[str, Answer] = {}
    for number, line in records[1:]:
        fields, where = _record(path, number, line), f"{path}:{number}"
        name = fields.pop("case", None)
        if not isinstance(name, str) or name not in ids:
            raise unknown_name("case in this benchmark", f"{name} ({where})", ids)
        if name in answers:
            raise ConfigError("A case is answered twice.", f"{name} ({where})", "Leave one of the lines out.")
        answers[name] = _answer(fields, f"{name} ({where})")
    if missing := [name for name in ids if name not in answers]:
        what = f"{len(missing)} of {len(ids)} cases have no answer."
        fix = 'Answer every case; "p": null says that there is no answer.'
        raise ConfigError(what, f"{path}: {', '.join(missing[:5])}", fix)
    return Submission(detector, answers)


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError("A line is not JSON.", f"{path}:{number}: {error}", FORMAT) from error
    if not isinstance(found, dict):
        raise ConfigError("A line is not a JSON object.", f"{path}:{number}: {line:.60}", FORMAT)
    return cast(dict[str, Any], found)


def _answer(fields: dict[str, Any], where: str) -> Answer:
    p, candidate = fields.pop("p", ...), fields.pop("candidate", ...)
    seconds, rows_read = fields.pop("seconds", ...), fields.pop("rows_read", None)
    if fields:
        raise ConfigError("An answer has a key that is not in the format.", f"{', '.join(fields)}: {where}", FORMAT)
    if ... in (p, candidate, seconds):
        raise ConfigError("An answer lacks p, candidate or seconds.", where, FORMAT)
    if p is not None and not (_is_number(p) and 0.0 < p <= 1.0):
        raise ConfigError("A p-value lies outside (0, 1].", f"{p}: {where}", "Give a number in (0, 1], or null.")
    if not isinstance(candidate, str | None):
        raise ConfigError("A candidate is not text.", f"{candidate}: {where}", "Give the name of a trait, or null.")
    if not _is_number(seconds) or seconds < 0.0:
        raise ConfigError("The seconds are not a number from 0.", f"{seconds}: {where}", FORMAT)
    if rows_read is not None and (type(rows_read) is not int or rows_read < 0):
        raise ConfigError("The rows read are not a whole number from 0.", f"{rows_read}: {where}", FORMAT)
    return Answer(p=p, candidate=candidate, seconds=float(seconds), rows_read=rows_read)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
