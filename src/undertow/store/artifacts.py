"""Artifacts: stored results, one folder each, named by the fingerprint (a hash) of what the result was made from.

    <store>/<kind>/<fingerprint>/      payload files and manifest.json
    <store>/<kind>/.tmp-.../           being written or removed, never read (see `undertow.store.disk`)

The payload is what the stage wrote; the manifest says what it was made from, and by which code (library versions and
the revision of the source). Every read verifies the hash of every payload file, which is cheap: artifacts are
megabytes, and SHA-256 reads hundreds of megabytes a second.
"""

import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypedDict, cast

from undertow.errors import ArtifactError, UndertowError
from undertow.store.disk import move_into_place, remove_folder, storage_errors, temporary_folder
from undertow.store.fingerprints import ArtifactKey, canonical_json, sha256

LIBRARIES = ("numpy", "peft", "safetensors", "scipy", "tokenizers", "torch", "transformers", "undertow")
"""Python distributions whose version results may depend on; it is noted in every manifest."""

_SOURCE = Path(__file__)


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the version of Python and of each installed library, without importing any of them."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def git_revision() -> str | None:
    """Return the commit of this package's source, with "-dirty" after it if tracked files were changed.

    It is None for a package that is not run from its own repository, also when it lies inside another repository.
    """
    if not _git("ls-files", "--", _SOURCE.name):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_SOURCE.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the format of manifest.json; a manifest of another version is refused."""

MANIFEST = "manifest.json"


class FileRecord(TypedDict):
    """What one payload file must be: its SHA-256 in hexadecimal digits, and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json: what an artifact was made from, by which code, and what its files must be.

    Attributes:
        kind: kind of the stage that made the artifact, such as "filter".
        version: version of the code of that kind of stage.
        config: all settings of the stage, as JSON values.
        parents: fingerprints of the artifacts that it was made from, by the role that each plays, such as "rows".
        fingerprint: hash of the four entries above.
        parent_digests: `digest` of each parent at the moment when it was read, by role.
        seeds: entries of the config whose name ends in seed or seeds, by their dotted path.
        libraries: versions of Python and of the libraries that results depend on.
        git_revision: commit of the source; None for a package that is not run from its repository.
        created: date and time in UTC, as ISO 8601.
        wall_s: seconds that writing the payload took.
        cost: amount of work, in the stage's own unit, such as updates times students; running time is proportional to
            it.
        files: size and hash of every payload file, by its path within the folder.
        threads: number of torch's threads while it was made, on which the bytes depend. None where torch had no part,
            or for a result of an earlier version.
    """

    kind: str
    version: int
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    fingerprint: str
    parent_digests: Mapping[str, str]
    seeds: Mapping[str, Any]
    libraries: Mapping[str, str]
    git_revision: str | None
    created: str
    wall_s: float
    cost: float
    files: Mapping[str, FileRecord]
    threads: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the payload: equal digests mean equal bytes in equally named files."""
        return sha256(canonical_json(self.files))


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored result whose files were verified.

    Attributes:
        folder: folder of the payload and of manifest.json.
        manifest: content of manifest.json, verified against the files.
    """

    folder: Path
    manifest: Manifest


def write_artifact(
    store: Path,
    key: ArtifactKey,
    write: Callable[[Path], None],
    *,
    parent_digests: Mapping[str, str] | None = None,
    cost: float = 1.0,
) -> Artifact:
    """Make an artifact: all of it or nothing.

    If another process finishes the same artifact first, that one is kept and returned.

    Args:
        store: folder of all artifacts, made if missing.
        key: what the artifact is made from; decides its folder.
        write: function that writes the payload into the empty folder that it is given.
        parent_digests: `Manifest.digest` of each parent that `write` reads, by role; None for no parents.
        cost: amount of work, in the stage's own unit; for estimates of running time.

    Raises:
        StorageError: the disk is full, read-only or not accessible.
        ArtifactError: a corrupt artifact of this key is there already.
        UndertowError: `write` wrote a file named manifest.json itself.
    """
    final = key.folder(store)
    with storage_errors(store):
        temporary = temporary_folder(final)
        try:
            started = time.perf_counter()
            write(temporary)
            wall_s = time.perf_counter() - started
            if (temporary / MANIFEST).exists():
                raise UndertowError(f"A stage of kind {key.kind} wrote {MANIFEST} itself; that name is taken.")
            manifest = Manifest(
                kind=key.kind,
                version=key.version,
                config=key.config,
                parents=key.parents,
                fingerprint=key.fingerprint,
                parent_digests=parent_digests or {},
                seeds=dict(_seeds(key.config)),
                libraries=library_versions(),
                git_revision=git_revision(),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                wall_s=wall_s,
                cost=cost,
                files=_file_records(temporary),
                threads=_threads(),
            )
            (temporary / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")
            first = move_into_place(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    artifact = read_artifact(final, key.fingerprint)
    if not first:
        same = artifact.manifest.digest == manifest.digest
        level = logging.INFO if same else logging.WARNING
        logger.log(level, "Another process made %s first, with %s bytes.", final, "the same" if same else "other")
    return artifact


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an artifact, but not its payload.

    Raises:
        ArtifactError: the manifest is missing, half-written, altered or of another format.
        StorageError: the manifest may not be read.
    """
    try:
        with storage_errors(folder):
            content: object = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        _corrupt(folder, MANIFEST, "a file", "none")
    except (ValueError, RecursionError):
        _corrupt(folder, MANIFEST, "JSON", "something else (half-written?)")
    fields = cast(dict[str, Any], content) if isinstance(content, dict) else {}
    if fields.get("format") != FORMAT:
        _corrupt(folder, MANIFEST, f"format {FORMAT}", f"format {fields.get('format')}")
    seal, found = fields.pop("seal", None), _seal(fields)
    if seal != found:
        _corrupt(folder, MANIFEST, f"content with SHA-256 {seal}", found)
    del fields["format"]
    tables = ("config", "parents", "parent_digests", "seeds", "libraries", "files")
    if not all(isinstance(fields.get(name, {}), dict) for name in tables):
        _corrupt(folder, MANIFEST, "the entries of a manifest", "lists or values in place of tables")
    try:
        manifest = Manifest(**fields)
        if all({"sha256", "bytes"} <= dict(record).keys() for record in dict(manifest.files).values()):
            return manifest
    except (TypeError, ValueError) as error:
        _corrupt(folder, MANIFEST, "the entries of a manifest", str(error))
    _corrupt(folder, MANIFEST, "size and SHA-256 of every file", "less")


def kept_artifact(store: Path, key: ArtifactKey, write: Callable[[Path], None]) -> Path:
    """Return the folder of an artifact; it is made and stored first if the store does not have it.

    Args:
        store: folder of all stored results.
        key: kind, version and settings of the artifact.
        write: writes its files into a folder.

    Raises:
        ArtifactError: the stored artifact is damaged.
        StorageError: the store cannot be written.
    """
    folder = key.folder(store)
    found = read_artifact(folder, key.fingerprint) if folder.is_dir() else write_artifact(store, key, write)
    return found.folder


def read_artifact(folder: Path, fingerprint: str | None = None) -> Artifact:
    """Open an artifact after verifying its manifest and the SHA-256 of every payload file.

    Files that are not in the manifest are refused too, since a loader that goes by file names would pick them up.
    Hidden ones (of a desktop or an editor) are ignored.

    Args:
        folder: the artifact's folder, with manifest.json in it.
        fingerprint: fingerprint that the artifact must have; None accepts any.

    Raises:
        ArtifactError: a file is missing, altered or added, or it is another artifact; the value names the file, what
            was expected and what was found.
        StorageError: the folder may not be read.
    """
    manifest = read_manifest(folder)
    if fingerprint not in (None, manifest.fingerprint):
        _corrupt(folder, MANIFEST, f"fingerprint {fingerprint}", manifest.fingerprint)
    with storage_errors(folder):
        found = _file_records(folder)
    hidden = {name for name in found.keys() - manifest.files.keys() if Path(name).name.startswith(".")}
    for name in sorted((manifest.files.keys() | found.keys()) - hidden):
        expected, actual = manifest.files.get(name), found.get(name)
        if expected != actual:
            _corrupt(folder, name, _in_words(expected), _in_words(actual))
    return Artifact(folder, manifest)


def remove_artifact(folder: Path) -> None:
    """Delete an artifact, whole or corrupt.

    Raises:
        StorageError: the folder may not be deleted.
    """
    with storage_errors(folder):
        remove_folder(folder)


def _seeds(value: object, where: str = "") -> Iterator[tuple[str, Any]]:
    mapping = cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}
    sequence = cast(list[object], value) if isinstance(value, list) else []
    for key, item in [*mapping.items(), *enumerate(sequence)]:
        place = f"{where}.{key}".removeprefix(".")
        if str(key).endswith(("seed", "seeds")):
            yield place, item
        else:
            yield from _seeds(item, place)


def _sealed(manifest: Manifest) -> str:
    fields = {"format": FORMAT, **asdict(manifest)}
    return json.dumps({**fields, "seal": _seal(fields)}, indent=2, sort_keys=True) + "\n"


def _seal(fields: Mapping[str, Any]) -> str:
    return sha256(json.dumps(fields, sort_keys=True))


def _file_records(folder: Path) -> dict[str, FileRecord]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _file_record(path) for path in files}


def _file_record(path: Path) -> FileRecord:
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _in_words(record: FileRecord | None) -> str:
    return "no such file" if record is None else f"{record['bytes']} bytes with SHA-256 {record['sha256'][:16]}"


def _corrupt(folder: Path, name: str, expected: str, found: str) -> NoReturn:
    raise ArtifactError(
        "A stored artifact is not what was written.",
        f"{folder / name}: expected {expected}, found {found}",
        f"Delete the folder {folder}, or run again with --rebuild.",
    )
