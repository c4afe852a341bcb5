"""An artifact appears whole or not at all, and one that is not what was written is refused."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import ArtifactError, StorageError, UndertowError
from undertow.store.artifacts import (
    FORMAT,
    MANIFEST,
    Artifact,
    read_artifact,
    read_manifest,
    remove_artifact,
    write_artifact,
)
from undertow.store.fingerprints import ArtifactKey

KEY = ArtifactKey(
    kind="student",
    version=3,
    config={"seed": 5, "training": {"seeds": [1, 2], "steps": 9}, "runs": [{"data_seed": 7}, "owl"]},
    parents={"rows": "0" * 20},
)


def _payload(folder: Path) -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "scores.jsonl").write_text('{"value": 1}\n')


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A whole artifact of two files."""
    return write_artifact(tmp_path, KEY, _payload, parent_digests={"rows": "d"}, cost=4.0)


def test_lies_where_the_key_says_with_nothing_beside_it(artifact: Artifact, tmp_path: Path):
    assert artifact.folder == tmp_path / "student" / KEY.fingerprint == KEY.folder(tmp_path)
    assert [path.name for path in artifact.folder.parent.iterdir()] == [KEY.fingerprint]
    assert read_artifact(artifact.folder) == artifact


def test_manifest_tells_all_that_it_was_made_from(artifact: Artifact):
    content = json.loads((artifact.folder / MANIFEST).read_text())
    assert content["format"] == FORMAT
    assert content["kind"] == "student"
    assert content["version"] == 3
    assert content["config"] == KEY.config
    assert content["parents"] == {"rows": "0" * 20}
    assert content["parent_digests"] == {"rows": "d"}
    assert content["seeds"] == {"seed": 5, "training.seeds": [1, 2], "runs.0.data_seed": 7}
    assert content["cost"] == 4.0
    assert content["wall_s"] >= 0
    assert content["created"].endswith("+00:00")
    assert {"python", "undertow"} <= set(content["libraries"])
    assert set(content["files"]) == {"adapter/weights.bin", "scores.jsonl"}
    assert content["files"]["adapter/weights.bin"]["bytes"] == 2048


def test_checksums_are_plain_sha256(artifact: Artifact):
    """SHA-256 of the 13 bytes of the second file, computed with the sha256sum program."""
    expected = "dbbd9c92f0a9fc8ec5968c1d825d1f3779567052b3286c91ed34f060ebe2f466"
    assert artifact.manifest.files["scores.jsonl"] == {"sha256": expected, "bytes": 13}


def _flip(folder: Path) -> None:
    path = folder / "adapter" / "weights.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def _truncate(folder: Path) -> None:
    (folder / "adapter" / "weights.bin").write_bytes(b"\x00")


def _edit_manifest(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**content, **changes}))

    return damage


@pytest.mark.parametrize(
    ("damage", "file", "found"),
    [
        (_flip, "adapter/weights.bin", "found 2048 bytes with SHA-256"),
        (_truncate, "adapter/weights.bin", "found 1 bytes"),
        (lambda folder: (folder / "scores.jsonl").unlink(), "scores.jsonl", "found no such file"),
        (lambda folder: (folder / "extra.bin").write_text(""), "extra.bin", "expected no such file"),
        (lambda folder: (folder / MANIFEST).unlink(), MANIFEST, "found none"),
        (lambda folder: (folder / MANIFEST).write_text('{"format"'), MANIFEST, "half-written"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"), MANIFEST, "half-written"),
        (lambda folder: (folder / MANIFEST).write_text("[1]"), MANIFEST, "format None"),
        (_edit_manifest(format=99), MANIFEST, "format 99"),
        (_edit_manifest(config={"seed": 6}), MANIFEST, "content with SHA-256"),
        (_edit_manifest(seal=None), MANIFEST, "content with SHA-256"),
    ],
)
def test_damage_is_refused_and_the_message_names_file_and_fix(
    artifact: Artifact, damage: Callable[[Path], None], file: str, found: str
):
    damage(artifact.folder)
    with pytest.raises(ArtifactError) as caught:
        read_artifact(artifact.folder)
    assert str(caught.value.value).startswith(f"{artifact.folder / file}: expected ")
    assert found in str(caught.value.value)
    assert caught.value.fix == f"Delete the folder {artifact.folder}, or run again with --rebuild."


def test_every_single_byte_of_a_payload_counts(artifact: Artifact):
    path = artifact.folder / "scores.jsonl"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x80]) + whole[position + 1 :])
        with pytest.raises(ArtifactError):
            read_artifact(artifact.folder)
    path.write_bytes(whole)
    assert read_artifact(artifact.folder) == artifact


def test_every_flipped_bit_of_a_manifest_is_refused_or_changes_nothing(artifact: Artifact):
    """The last digit of a float may be flipped without changing the number it stands for."""
    path = artifact.folder / MANIFEST
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            assert read_artifact(artifact.folder) == artifact
        except ArtifactError:
            refused += 1
    assert refused >= len(whole) - 1


def test_whole_artifact_under_another_name_is_refused(artifact: Artifact):
    other = artifact.folder.with_name("1" * 20)
    shutil.copytree(artifact.folder, other)
    with pytest.raises(ArtifactError, match=f"expected fingerprint {'1' * 20}, found {KEY.fingerprint}"):
        read_artifact(other, other.name)


def test_hidden_files_of_a_desktop_are_let_be(artifact: Artifact):
    (artifact.folder / "adapter" / ".DS_Store").write_text("x")
    assert read_artifact(artifact.folder) == artifact


def test_hidden_file_of_the_payload_is_verified(tmp_path: Path):
    made = write_artifact(tmp_path, KEY, lambda folder: (folder / ".hidden").write_text("x") and None)
    (made.folder / ".hidden").write_text("y")
    with pytest.raises(ArtifactError, match="hidden"):
        read_artifact(made.folder)


def test_digest_is_of_the_payload_alone(artifact: Artifact, tmp_path: Path):
    other = ArtifactKey(kind="student", version=4, config={})
    assert write_artifact(tmp_path, other, _payload).manifest.digest == artifact.manifest.digest
    third = ArtifactKey(kind="student", version=5, config={})
    changed = write_artifact(tmp_path, third, lambda folder: (folder / "x").write_text("") and None)
    assert changed.manifest.digest != artifact.manifest.digest


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, error: BaseException):
    def write(folder: Path) -> None:
        _payload(folder)
        raise error

    with pytest.raises(type(error)):
        write_artifact(tmp_path, KEY, write)
    assert list((tmp_path / "student").iterdir()) == []


def test_a_payload_may_not_bring_its_own_manifest(tmp_path: Path):
    with pytest.raises(UndertowError, match="that name is taken"):
        write_artifact(tmp_path, KEY, lambda folder: (folder / MANIFEST).write_text("{}") and None)
    assert list((tmp_path / "student").iterdir()) == []


@pytest.mark.parametrize(("same", "level"), [(True, logging.INFO), (False, logging.WARNING)])
def test_the_slower_of_two_writers_loses_gracefully(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, same: bool, level: int
):
    """While one process writes, another finishes the same artifact: that one is kept and both go on with it."""
    firsts: list[Artifact] = []

    def write(folder: Path) -> None:
        firsts.append(write_artifact(tmp_path, KEY, _payload))
        _payload(folder)
        if not same:
            (folder / "scores.jsonl").write_text("other")

    with caplog.at_level(logging.INFO, "undertow.store.artifacts"):
        assert write_artifact(tmp_path, KEY, write) == firsts[0]
    assert [record.levelno for record in caplog.records] == [level]
    assert len(list((tmp_path / "student").iterdir())) == 1


def test_a_full_disk_is_reported_as_such_and_leaves_nothing(tmp_path: Path):
    """Linux's /dev/full refuses every byte with the error of a full disk."""
    with pytest.raises(StorageError, match="No space is left"):
        write_artifact(tmp_path, KEY, lambda _: Path("/dev/full").write_text("x") and None)
    assert list((tmp_path / "student").iterdir()) == []


def test_a_store_that_is_a_file_is_reported_as_such(tmp_path: Path):
    (tmp_path / "store").write_text("x")
    with pytest.raises(StorageError, match="file where a folder should be"):
        write_artifact(tmp_path / "store", KEY, _payload)


def test_a_manifest_that_may_not_be_read_is_a_fault_of_the_disk(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StorageError, match=MANIFEST):
        read_manifest(artifact.folder)


def test_a_corrupt_artifact_can_be_removed_and_made_again(artifact: Artifact, tmp_path: Path):
    _flip(artifact.folder)
    remove_artifact(artifact.folder)
    assert not artifact.folder.exists()
    again = write_artifact(tmp_path, KEY, _payload)
    assert again.manifest.files == artifact.manifest.files


def test_removing_what_may_not_be_removed_is_a_fault_of_the_disk(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    def refuse(source: Path, _: Path) -> None:
        raise OSError(30, "Read-only file system", str(source))

    monkeypatch.setattr("undertow.store.disk.os.rename", refuse)
    with pytest.raises(StorageError, match="read-only disk"):
        remove_artifact(artifact.folder)


@pytest.mark.parametrize("change", [{"more": 1}, {"files": 3}, {"files": {"a": {}}}, {"files": {"a": 3}}])
def test_a_manifest_whose_seal_is_right_and_whose_entries_are_not_is_corrupt(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {
        "format": 1, "kind": "rows", "version": 1, "config": {}, "parents": {}, "fingerprint": "f",
        "parent_digests": {}, "seeds": {}, "libraries": {}, "git_revision": None, "created": "c", "wall_s": 1.0,
        "cost": 1.0, "files": {}, **change,
    }  # fmt: skip
    seal = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({**fields, "seal": seal}))
    with pytest.raises(ArtifactError):
        read_manifest(tmp_path)
