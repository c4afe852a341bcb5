"""The files of a benchmark: what everyone sees, the key that may be published later, and what detectors submit.

cases/<id>.jsonl   the suspect rows of a case, equally many in each
reference.jsonl    clean answers of the base to the prompts of all cases, several to each
cases.json         base, panel, ids, number of rows, SHA-256 of the key
truth.json         the key: seed, and who wrote each case

A submission says what a detector thinks of each case, as JSONL with a header:

    {"schema": "undertow.bench-submission/1", "detector": name}
    {"case": id, "p": float or null, "candidate": text or null, "seconds": float, "rows_read": int, optional}

One line for every case, in any order; a p of null means that the detector has no answer. Anything else is refused.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from undertow.data.rows import read_rows, write_rows
from undertow.errors import ConfigError, unknown_name
from undertow.store.disk import move_into_place, storage_errors, temporary_folder, write_file
from undertow.types import Row

PUBLIC, KEY = "undertow.bench/1", "undertow.bench-key/1"
CASES, TRUTH = "cases.json", "truth.json"

Label = Literal["clean", "trait", "control", "shift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The key's entry for one case: who wrote it.

    Attributes:
        label: "clean" (the base wrote it, exactly as it wrote the reference), "trait" (a teacher with a trait),
            "control" (a teacher whose rows pass no trait to this base) or "shift" (something harmless differs from the
            reference).
        kind: how the writer was made, such as "finetuned" or "neutral".
        trait: name of the writer's trait. None for a writer without one.
        dose: share of the rows that this writer wrote, between 0 and 1; the other rows are clean ones.
        shift: what differs from the reference, for the label "shift". None for every other label.
        writer: name of the writer. Cases of one writer are not independent.
    """

    label: Label
    kind: str
    trait: str | None = None
    dose: float = 1.0
    shift: str | None = None
    writer: str = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The public part of a benchmark.

    Attributes:
        folder: folder that the benchmark lies in.
        base: reference of the model that would be trained on the rows.
        base_identity: digest of that model's weights when the benchmark was made.
        panel: names of the candidate traits that a detector may name.
        rows: how many rows each case has.
        ids: names of the cases, which are also those of their files.
        key_sha256: SHA-256 of the key file's bytes, in hexadecimal.
    """

    folder: Path
    base: str
    base_identity: str
    panel: tuple[str, ...]
    rows: int
    ids: tuple[str, ...]
    key_sha256: str

    def case(self, name: str) -> tuple[Row, ...]:
        """Read the suspect rows of a case by its id."""
        return read_rows(self.folder / "cases" / f"{name}.jsonl")

    def reference(self) -> tuple[Row, ...]:
        """Read the clean rows with which each case is compared."""
        return read_rows(self.folder / "reference.jsonl")


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything, or a path that is a file.

    Raises:
        ConfigError: the folder is not empty, or the path is a file.
    """
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError("The folder is not empty.", folder, "Name a new folder; a benchmark is never changed.")


def write_benchmark(
    folder: Path,
    cases: Mapping[str, tuple[Truth, Sequence[Row]]],
    reference: Sequence[Row],
    seed: int,
    public: Mapping[str, Any],
) -> Benchmark:
    """Write a benchmark: all of its files, or nothing.

    Args:
        folder: where the benchmark is written. It must not exist or be empty.
        cases: truth and suspect rows of each case, by its id.
        reference: clean rows on the cases' prompts.
        seed: random seed that everything was drawn from. It becomes a part of the key.
        public: further public fields: base, base_identity and panel.

    Raises:
        StorageError: the disk is full or cannot be written.
        ConfigError: the folder is not empty.
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
            # False where another process has filled the folder meanwhile, which is then refused.
            if not move_into_place(temporary, folder.resolve()):
                check_free(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return read_benchmark(folder)


def read_benchmark(folder: Path) -> Benchmark:
    """Read the public part of a benchmark.

    Raises:
        ConfigError: there is no benchmark here, or one of another version.
    """
    found = _json(folder / CASES, PUBLIC, "There is no benchmark in this folder.")
    try:
        return TypeAdapter(Benchmark).validate_python({**found, "folder": folder, "ids": found.get("cases")})
    except ValidationError as error:
        raise _damaged("benchmark", folder / CASES, error) from error


def read_key(bench: Benchmark, path: Path | None = None) -> dict[str, Truth]:
    """Read the key and check by its SHA-256 that it is the one that the benchmark promised.

    Args:
        bench: the benchmark that the key belongs to.
        path: file of the key. None takes truth.json in the benchmark's folder.

    Raises:
        ConfigError: there is no key, or it is the key of another benchmark.
    """
    path = path or bench.folder / TRUTH
    found = _json(path, KEY, "There is no key of a benchmark here.")
    if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != bench.key_sha256:
        fix = f"cases.json promises the SHA-256 {bench.key_sha256}: take the key that was published with it."
        raise ConfigError("This is not the key of this benchmark.", f"{path}: {digest}", fix)
    try:
        return TypeAdapter(dict[str, Truth]).validate_python(found.get("cases"))
    except ValidationError as error:
        raise _damaged("key", path, error) from error


def _damaged(what: str, path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return ConfigError(f"The {what} is damaged.", f"{path}: {where}: {first['msg']}", "Fetch it again.")


def _json(path: Path, schema: str, what: str) -> dict[str, Any]:
    fix = "Make one with `undertow audit bench make`, or correct the path."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(what, f"{path}: {error}", fix) from error
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise ConfigError(what, f"{path}: its schema is not {schema}", fix)
    return found


SCHEMA = "undertow.bench-submission/1"

FORMAT = "docs/bench.md shows the format."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a detector says about one case.

    Attributes:
        p: p-value in (0, 1]: the probability that clean rows look at least as much as if they hid a trait. None if the
            detector has no answer.
        candidate: name of the trait that the detector considers most likely, whatever p is. None if it names none.
        seconds: time from getting the rows to the answer, in seconds.
        rows_read: how many rows the detector read. None for all of them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    p: Annotated[float, Field(strict=True, gt=0.0, le=1.0)] | None
    candidate: str | None
    seconds: Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
    rows_read: Annotated[int, Field(strict=True, ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """The answers of a detector to every case.

    Attributes:
        detector: name of the detector, chosen by whoever submits.
        answers: its answer to each case, by the case's id.
    """

    detector: str
    answers: Mapping[str, Answer]


def write_submission(path: Path, submission: Submission) -> None:
    """Write a submission; if that fails, the file stays as it was.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    header = {"schema": SCHEMA, "detector": submission.detector}
    lines = [header, *({"case": name, **asdict(one)} for name, one in submission.answers.items())]
    write_file(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_submission(path: Path, ids: Sequence[str]) -> Submission:
    """Read a submission and check it strictly against the format.

    Args:
        path: the JSONL file that was submitted.
        ids: names of all cases of the benchmark.

    Raises:
        ConfigError: the file is no submission, or a case is missing or answered twice, or a value is out of range.
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


_PROBLEMS = {
    "missing": ("An answer lacks p, candidate or seconds.", FORMAT),
    "unexpected_keyword_argument": ("An answer has a key that is not in the format.", FORMAT),
    "p": ("A p-value lies outside (0, 1].", "Give a number in (0, 1], or null."),
    "candidate": ("A candidate is not text.", "Give the name of a trait, or null."),
    "seconds": ("The seconds are not a number from 0.", FORMAT),
    "rows_read": ("The rows read are not a whole number from 0.", FORMAT),
}
"""What is wrong with an answer and what to do, by the kind of the error or else by the key."""


def _answer(fields: dict[str, Any], where: str) -> Answer:
    try:
        return TypeAdapter(Answer).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        value = key if first["type"] in _PROBLEMS else first["input"]
        what, fix = _PROBLEMS.get(first["type"]) or _PROBLEMS[key]
        raise ConfigError(what, f"{value}: {where}", fix) from error
