"""Telling receivers of alarms until each has taken them: over failures, restarts and several processes.

What was told is stored in the database, so a process that starts later continues where another ended. Only one process
at a time tells. One that is killed between the receiver's answer and its note tells once more, which the receiver can
see by the `id` in the body.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from undertow.monitor.alarms import Alarm, Telling, note_telling, owed_alarms, tellings
from undertow.monitor.locks import TakenError, sole
from undertow.monitor.webhooks import Receiver

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
"""Seconds between the attempts for one alarm and receiver: the first pause and the longest. Each is twice as long as
the last."""

_BUSY_S = 1.0


class Teller:
    """Tells receivers of the alarms in one database.

    Args:
        path: path of the database, beside which a lock file is made.
        receivers: the receivers that are told of every alarm.
        longest_s: longest pause in seconds between two attempts.
        clock: returns the seconds of a clock that never goes back.

    Attributes:
        failure: what went wrong in the last attempt that failed; "" if none did.
    """

    def __init__(
        self,
        path: Path,
        receivers: Sequence[Receiver],
        longest_s: float = LONGEST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._receivers, self._longest_s, self._clock = path, tuple(receivers), longest_s, clock
        self.failure = ""
        self._due: dict[tuple[int, str], float] = {}
        self._failed: dict[tuple[int, str], int] = {}

    def tell(self, connection: sqlite3.Connection) -> float | None:
        """Make all attempts that are due.

        Returns:
            The seconds until the next try, or None once every alarm was taken by every receiver.

        Raises:
            sqlite3.Error: the database cannot be read or written.
        """
        if not self._receivers:
            return None
        try:
            with sole(self._path, "telling"):
                waits = [self._tell(connection, one) for one in self._receivers]
        except TakenError:
            self.failure = "another process is telling it"
            return _BUSY_S
        return min((wait for wait in waits if wait is not None), default=None)

    def _tell(self, connection: sqlite3.Connection, receiver: Receiver) -> float | None:
        known = {one.alarm: one for one in tellings(connection, receiver.key)}
        waits: list[float] = []
        for alarm in owed_alarms(connection):
            told = known.get(alarm.id) or Telling(alarm=alarm.id, shown=receiver.shown, at=None, tries=0, failure="")
            if told.at is None and (wait := self._try(connection, receiver, alarm, told)) > 0:
                waits.append(wait)
        return min(waits, default=None)

    def _try(self, connection: sqlite3.Connection, receiver: Receiver, alarm: Alarm, told: Telling) -> float:
        """Tell a receiver of one alarm if it is due; return the seconds until the next attempt, 0 if it was taken."""
        place = (alarm.id, receiver.key)
        if (wait := self._due.get(place, 0.0) - self._clock()) > 0:
            return wait
        failure = receiver.post(alarm.to_json())
        self.failure = failure or self.failure
        at = None if failure else time.time()
        with connection:
            note_telling(
                connection,
                receiver.key,
                Telling(alarm=alarm.id, shown=receiver.shown, at=at, tries=told.tries + 1, failure=failure),
            )
        if not failure:
            return 0.0
        times = self._failed[place] = self._failed.get(place, 0) + 1
        pause = min(self._longest_s, FIRST_PAUSE_S * 2.0 ** min(times - 1, 20))
        self._due[place] = self._clock() + pause
        return pause


def tell_until(
    teller: Teller, connection: sqlite3.Connection, most_s: float, say: Callable[[str, float], None]
) -> bool:
    """Tell until every alarm was taken or the time is over; return whether every one was taken.

    Args:
        teller: the teller of the database.
        connection: connection to the database of that teller.
        most_s: most seconds that may pass.
        say: callback with the last failure, and the seconds until the next attempt.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    end = time.monotonic() + most_s
    while (wait := teller.tell(connection)) is not None:
        if time.monotonic() + wait > end:
            return False
        say(teller.failure, wait)
        time.sleep(wait)
    return True
