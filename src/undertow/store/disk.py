"""Atomic writes: files and folders that appear whole or not at all, and the faults of a disk in plain words.

Each is filled under a temporary name beside its final one, flushed to the disk and renamed once. A process that is
killed leaves either the whole or something temporary that nobody reads; a later run removes such folders. This needs a
POSIX file system.
"""

import contextlib
import errno
import logging
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, cast

from undertow.errors import StorageError

logger = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]+-(?P<pid>[0-9]+)-[0-9a-f]+@(?P<host>.+)")
_ABANDONED_S = 7 * 24 * 3600
"""Age in seconds at which a temporary folder counts as left behind, whoever made it. Whether a process on another
machine still runs cannot be asked."""

_FAULTS = {
    errno.ENOSPC: "No space is left on the disk.",
    errno.EDQUOT: "The disk quota is used up.",
    errno.EROFS: "The folder is on a read-only disk.",
    errno.EACCES: "The folder or file may not be read or written.",
    errno.EPERM: "The folder or file may not be read or written.",
    errno.ENOTDIR: "There is a file where a folder should be.",
}


@contextlib.contextmanager
def storage_errors(folder: Path) -> Generator[None]:
    """Turn the error of a full, read-only or forbidden disk into a `StorageError`.

    It names the path of the error, or else `folder`.
    """
    try:
        yield
    except Exception as error:
        fault = _FAULTS.get(_error_number(error))
        if fault is None:
            raise
        place = cast(str | None, getattr(error, "filename", None)) or folder
        fix = "Free some space or choose a folder you can write, and run again: everything finished so far is kept."
        raise StorageError(fault, place, fix) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Open a file for writing that replaces `path` once all of it is written; until then `path` stays as it was.

    Raises:
        StorageError: the folder is missing, full or may not be written, or a folder is in the way.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        fault = _FAULTS.get(_error_number(error), "The file cannot be written.")
        fix = "Check that the folder exists, has room left and may be written; the file is as it was."
        raise StorageError(fault, f"{path}: {error.strerror}", fix) from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text is encoded as UTF-8.

    Raises:
        StorageError: the same errors as for `whole_file`.
    """
    with whole_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def _error_number(error: Exception) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    # safetensors reports a full disk as its own exception, with the operating system's words in the message.
    return errno.ENOSPC if "No space left on device" in str(error) else 0


def temporary_folder(final: Path) -> Path:
    """Make an empty folder beside `final`, which `move_into_place` can rename to `final`.

    The name of `final` is in hexadecimal digits. The temporary name holds process and machine, so that
    `remove_leftovers` knows whether its owner still runs.
    """
    owner = f"{os.getpid()}-{secrets.token_hex(4)}@{platform.node()}"
    folder = final.parent / f".tmp-{final.name}-{owner}"
    folder.mkdir(parents=True)
    return folder


def move_into_place(temporary: Path, final: Path) -> bool:
    """Flush a temporary folder to the disk and rename it to its final name.

    It returns False, and renames nothing, if another process was first.

    Args:
        temporary: folder that `temporary_folder` made, now filled.
        final: the final name, in the same folder.
    """
    for path in [*temporary.rglob("*"), temporary]:
        _flush(path)
    try:
        os.rename(temporary, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    # The new name is an entry of the parent folder, which needs a flush of its own.
    _flush(final.parent)
    return True


def remove_folder(folder: Path) -> None:
    """Delete a folder.

    It is renamed first: a process that is killed meanwhile leaves a temporary folder, never a part of one under the
    final name.
    """
    temporary = temporary_folder(folder)
    os.rename(folder, temporary)
    shutil.rmtree(temporary)


def remove_leftovers(store: Path) -> None:
    """Delete the temporary folders in `<store>/*/` of processes that no longer run."""
    for folder in store.glob("*/.tmp-*"):
        owner = _TEMPORARY.fullmatch(folder.name)
        # An OSError: another run removes the same leftover, or the process is another user's, so it is alive.
        with contextlib.suppress(OSError):
            if owner and (_is_dead(owner) or time.time() - folder.stat().st_mtime > _ABANDONED_S):
                logger.info("Removing %s, left by a process that was killed.", folder)
                shutil.rmtree(folder)


def _is_dead(owner: re.Match[str]) -> bool:
    if owner["host"] != platform.node():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
