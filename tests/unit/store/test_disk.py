"""Temporary folders of the dead go, those of the living stay; disk faults name the place."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from undertow.errors import StorageError
from undertow.store.disk import (
    move_into_place,
    remove_folder,
    remove_leftovers,
    storage_errors,
    temporary_folder,
    whole_file,
    write_file,
)


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _leftover(store: Path, pid: int, host: str) -> Path:
    folder = store / "rows" / f".tmp-{'a' * 20}-{pid}-0011aabb@{host}"
    folder.mkdir(parents=True)
    (folder / "part.jsonl").write_text("half")
    return folder


def test_only_folders_of_dead_processes_are_removed(tmp_path: Path):
    dead = _leftover(tmp_path, _dead_pid(), platform.node())
    elsewhere = _leftover(tmp_path, _dead_pid(), "another-machine")
    mine = temporary_folder(tmp_path / "rows" / ("b" * 20))
    foreign = tmp_path / "rows" / ".tmp-notes"
    foreign.mkdir()
    remove_leftovers(tmp_path)
    assert not dead.exists()
    assert elsewhere.exists()
    assert mine.exists()
    assert foreign.exists()


def test_after_a_week_a_folder_of_another_machine_is_removed(tmp_path: Path):
    folder = _leftover(tmp_path, 1, "another-machine")
    os.utime(folder, (0, 0))
    remove_leftovers(tmp_path)
    assert not folder.exists()


def test_no_store_has_no_leftovers(tmp_path: Path):
    remove_leftovers(tmp_path / "none")


def test_second_writer_loses_and_changes_nothing(tmp_path: Path):
    final = tmp_path / "rows" / ("c" * 20)
    for content, first in [("one", True), ("two", False)]:
        temporary = temporary_folder(final)
        (temporary / "x").write_text(content)
        assert move_into_place(temporary, final) is first
    assert (final / "x").read_text() == "one"


def test_folder_is_removed_whole(tmp_path: Path):
    final = tmp_path / "rows" / ("d" * 20)
    final.mkdir(parents=True)
    remove_folder(final)
    assert list((tmp_path / "rows").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR])
def test_disk_faults_name_the_file_and_the_fix(number: int):
    with pytest.raises(StorageError) as caught, storage_errors(Path("/store")):
        raise OSError(number, os.strerror(number), "/store/rows/x")
    assert caught.value.value == "/store/rows/x"
    assert "run again" in caught.value.fix


def test_full_disk_reported_as_text_names_the_folder():
    """The safetensors library wraps the operating system's message in an exception of its own."""
    with pytest.raises(StorageError) as caught, storage_errors(Path("/store")):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert caught.value.value == Path("/store")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), KeyError("x"), OSError("no number")])
def test_other_errors_pass_unchanged(error: Exception):
    with pytest.raises(type(error)) as caught, storage_errors(Path("/store")):
        raise error
    assert caught.value is error


def test_move_fails_if_a_file_stands_in_the_way(tmp_path: Path):
    final = tmp_path / "rows" / ("e" * 20)
    temporary = temporary_folder(final)
    final.write_text("a file")
    with pytest.raises(StorageError), storage_errors(tmp_path):
        move_into_place(temporary, final)


@pytest.mark.parametrize("content", ["new \u00e9\n", b"\xff"])
def test_a_file_is_replaced_whole(tmp_path: Path, content: str | bytes):
    path = tmp_path / "report.json"
    path.write_text("old")
    write_file(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), KeyError("x")]
)
def test_a_file_that_breaks_off_stays_as_it_was(tmp_path: Path, fault: BaseException):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(StorageError if isinstance(fault, OSError) else type(fault)), whole_file(path) as stream:
        stream.write(b"half")
        raise fault
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_stands_in_the_way_of_a_file_is_said(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place, said in (
        ("none/x", "No such file"), ("folder", "Is a directory"), ("file/x", "file where a folder"),
        ("n" * 300, "too long"),
    ):  # fmt: skip
        with pytest.raises(StorageError, match=said) as caught:
            write_file(tmp_path / place, "text")
        assert str(tmp_path / place) in caught.value.value
