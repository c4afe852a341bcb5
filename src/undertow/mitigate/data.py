"""Mitigation of a row file: the audit is checked, the rows changed, and what was done to each row written down."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from undertow.data.rows import write_rows
from undertow.errors import EmptyDataError
from undertow.mitigate.base import Change, DataMitigation, Mitigated
from undertow.mitigate.bench import Bench
from undertow.store.disk import write_file
from undertow.types import Row


def mitigate_rows(rows: Sequence[Row], method: DataMitigation, bench: Bench) -> Mitigated:
    """Apply a mitigation.

    Raises:
        EmptyDataError: there are no rows, or none is left; the value says what became of them.
        UserError: the mitigation does not fit the rows.
    """
    if not rows:
        raise EmptyDataError("There is nothing to mitigate.", "0 rows", "Give a file with rows.")
    made = method.apply(rows, bench)
    if not made.rows:
        whys = ", ".join(sorted({one.why for one in made.changes}))
        fix = "Look at the record of each row; choose another writer, domain or share."
        raise EmptyDataError("No row is left.", f"{len(rows)} rows: {whys}", fix)
    return made


def record_path(rows: Path) -> Path:
    """Return where the record of a row file lies: beside it, as <name>.record.jsonl."""
    return rows.with_name(f"{rows.stem}.record.jsonl")


def write_mitigated(path: Path, made: Mitigated) -> Path:
    """Write the rows and, beside them, the record of every row that came in; return the record's path.

    Raises:
        StorageError: the folder is missing, full or may not be written.
    """
    record = record_path(path)
    write_file(record, lines(one.to_json() for one in made.changes))
    write_rows(path, made.rows)
    return record


def lines(records: Iterable[dict[str, Any]]) -> str:
    """Return records as JSON Lines."""
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)


def counts(changes: Sequence[Change]) -> dict[str, int]:
    """Return how many rows each action befell."""
    actions = [one.action for one in changes]
    return {action: actions.count(action) for action in dict.fromkeys(actions)}
