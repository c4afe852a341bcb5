"""A benchmark on the disk: what everyone sees, and the key that may be published later.

cases/<id>.jsonl   the suspect rows of a case, equally many in each
reference.jsonl    clean answers of the base to the prompts of all cases, several to each
cases.json         base, panel, ids, number of rows, SHA-256 of the key
truth.json         the key: seed, and who wrote each case
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from undertow.data.rows import read_rows, write_rows
from undertow.errors import ConfigError
from undertow.store.disk import move_into_place, storage_errors, temporary_folder
from undertow.types import Row

PUBLIC, KEY = "undertow.bench/1", "undertow.bench-key/1"
CASES, TRUTH = "cases.json", "truth.json"

Label = Literal["clean", "trait", "control", "shift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Who wrote a case.

    Attributes:
        label: "clean" (the base, exactly as in the reference), "trait" (a teacher with a trait), "control" (a teacher
            whose rows pass no trait to this base) or "shift" (something harmless differs from the reference).
        kind: of the writer, such as "finetuned" or "neutral".
        trait: of the writer, or None.
        dose: share of the rows that this writer wrote; the others are clean ones.
        shift: what differs, for the label "shift".
        writer: name; cases of one writer are alike.
    """

    label: Label
    kind: str
    trait: str | None = None
    dose: float = 1.0
    shift: str | None = None
    writer: str = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What everyone sees.

    Attributes:
        folder: where it lies.
        base: reference of the model that would be trained on the rows.
        base_identity: of that model's weights.
        panel: names of the candidate traits.
        rows: of each case.
        ids: of the cases.
        key_sha256: of the key's bytes.
    """

    folder: Path
    base: str
    base_identity: str
    panel: tuple[str, ...]
    rows: int
    ids: tuple[str, ...]
    key_sha256: str

    def case(self, name: str) -> tuple[Row, ...]:
        """Read the rows of a case."""
        return read_rows(self.folder / "cases" / f"{name}.jsonl")

    def reference(self) -> tuple[Row, ...]:
        """Read the clean rows."""
        return read_rows(self.folder / "reference.jsonl")


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        ConfigError: it does, or it is a file.
    """
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError("The folder is not empty.", folder, "Name a new folder; a benchmark is never changed.")


def write_bench(
    folder: Path,
    cases: Mapping[str, tuple[Truth, Sequence[Row]]],
    reference: Sequence[Row],
    seed: int,
    public: Mapping[str, Any],
) -> Bench:
    """Write a benchmark: all of it, or nothing.

    Args:
        folder: new or empty.
        cases: truth and rows of each case by its id.
        reference: clean rows.
        seed: what everything was drawn from; a part of the key.
        public: base, base_identity and panel.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    check_free(folder)
    truth = {"schema": KEY, "seed": seed, "cases": {name: asdict(one) for name, (one, _) in cases.items()}}
    key = json.dumps(truth, indent=1).encode() + b"\n"
    more = {"rows": len(next(iter(cases.values()))[1]), "key_sha256": hashlib.sha256(key).hexdigest()}
    with storage_errors(folder):
        temporary = temporary_folder(folder.resolve())
        try:
            (temporary / "cases").mkdir()
            for name, (_, rows) in cases.items():
                write_rows(temporary / "cases" / f"{name}.jsonl", rows)
            write_rows(temporary / "reference.jsonl", reference)
            (temporary / TRUTH).write_bytes(key)
            described = {"schema": PUBLIC, **public, **more, "cases": list(cases)}
            (temporary / CASES).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
            if not move_into_place(temporary, folder.resolve()):
                check_free(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return read_bench(folder)


def read_bench(folder: Path) -> Bench:
    """Read what everyone sees.

    Raises:
        ConfigError: there is no benchmark here, or one of another version.
    """
    found = _json(folder / CASES, PUBLIC, "There is no benchmark in this folder.")
    try:
        ids, names = tuple(found["cases"]), tuple(found["panel"])
        same = {name: found[name] for name in ("base", "base_identity", "rows", "key_sha256")}
    except (KeyError, TypeError) as error:
        raise ConfigError("The benchmark is damaged.", f"{folder / CASES}: {error!r}", "Fetch it again.") from error
    return Bench(folder=folder, ids=ids, panel=names, **same)


def read_key(bench: Bench, path: Path | None = None) -> dict[str, Truth]:
    """Read the key and check that it is the one that was promised.

    Args:
        bench: what it belongs to.
        path: where it lies; None takes truth.json in the benchmark's folder.

    Raises:
        ConfigError: there is no key, or it is another one.
    """
    path = path or bench.folder / TRUTH
    found = _json(path, KEY, "There is no key of a benchmark here.")
    if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != bench.key_sha256:
        fix = f"cases.json promises the SHA-256 {bench.key_sha256}: take the key that was published with it."
        raise ConfigError("This is not the key of this benchmark.", f"{path}: {digest}", fix)
    try:
        return {name: Truth(**fields) for name, fields in found["cases"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError("The key is damaged.", f"{path}: {error!r}", "Fetch it again.") from error


def _json(path: Path, schema: str, what: str) -> dict[str, Any]:
    fix = "Make one with `undertow audit bench make`, or correct the path."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(what, f"{path}: {error}", fix) from error
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise ConfigError(what, f"{path}: its schema is not {schema}", fix)
    return found
