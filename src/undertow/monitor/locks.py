"""Locks between processes, on a file beside the database; a lock ends with its process, however that ends.

SQLite keeps the database whole whoever writes it. What it cannot know is that a detector's evidence is gathered in the
memory of one process: two servers on one database would each replace the other's counts.
"""

import fcntl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from undertow.errors import ConfigError, StorageError


class TakenError(Exception):
    """Another process holds the lock."""


@contextmanager
def sole(database: Path, what: str) -> Generator[None]:
    """Hold the lock on one kind of work on a database until the end of the block; do not wait for it.

    Args:
        database: path of the database; an empty lock file is made beside it, and stays.
        what: name of the kind of work, one word.

    Raises:
        TakenError: another process holds the lock.
        StorageError: the folder is missing or may not be written.
    """
    path = database.with_name(f"{database.name}.{what}.lock")
    try:
        stream = path.open("ab")
    except OSError as error:
        fix = "Give a file in a folder you can write."
        raise StorageError(f"The events cannot be stored ({error.strerror}).", database, fix) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TakenError(what) from None
        yield


@contextmanager
def only_server(database: Path) -> Generator[None]:
    """Keep other servers from a database until the end of the block.

    Two servers would each replace what the other gathered.

    Raises:
        ConfigError: another server uses the database.
        StorageError: the folder is missing or may not be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(sole(database, "serve"))
        except TakenError:
            fix = "Give each server an --events file of its own, or stop the other."
            raise ConfigError("Another server gathers evidence in this database.", database, fix) from None
        yield
