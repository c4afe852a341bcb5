"""The signals that end a server: after the first one everything under way finishes, the second one ends it at once.

A signal never raises an exception here. An exception inside `Thread.join` makes the next join of that thread return at
once on Python 3.11 and 3.12, and a server that was waited for like that is cut off in the middle of its replies.
"""

import contextlib
import queue
import signal
from collections.abc import Generator

STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopNotice:
    """What the main thread waits for: a signal, or the end of the server."""

    def __init__(self) -> None:
        # Its `put` may be called from a signal handler, whatever the interrupted thread was doing.
        self._said: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def stop(self) -> None:
        """Note that a signal came."""
        self._said.put(True)

    def ended(self) -> None:
        """Note that the server has ended."""
        self._said.put(False)

    def wait(self) -> bool:
        """Wait for the next signal or the end of the server; return True for a signal."""
        return self._said.get()


@contextlib.contextmanager
def stop_signals() -> Generator[StopNotice]:
    """Catch SIGINT and SIGTERM until the end of the block; only for the main thread."""
    told = StopNotice()
    before = {one: signal.signal(one, lambda number, frame: told.stop()) for one in STOPPING}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
