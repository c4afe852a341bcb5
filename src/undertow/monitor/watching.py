"""Raising the alarms of a server while it runs: evidence that reached its bound, and too many failures.

It reads the database alone, so canaries that another process asks, and evidence of an earlier run, raise their alarms
too.
"""

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from undertow.errors import ConfigError, UserError
from undertow.monitor.alarms import (
    ITSELF,
    AlarmCause,
    close_alarm,
    keep_alarms,
    open_alarms,
    owed_alarms,
    raise_once,
    raise_while,
    tellings,
)
from undertow.monitor.counts import evidence_now, forget_old, traffic
from undertow.monitor.database import connect
from undertow.monitor.telling import Teller
from undertow.monitor.webhooks import Receiver
from undertow.stats.checks import check_positive

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
QUIET_S = 15.0
"""Seconds after which an idle server is checked all the same, since exchanges leave the window of the rates."""
_HOUR_S = 3600.0
_FAILED_OUTCOMES = ("upstream_failed", "cut", "fault")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRules:
    """When failures are too many.

    Attributes:
        alarm_unjudged: share of the screened exchanges that some detector could not judge above which an alarm is
            raised.
        alarm_failed: share of all exchanges that ended in an error of the server, ours or the upstream's, above which
            an alarm is raised.
        alarm_least: least number of exchanges of which a share is taken.
        alarm_minutes: number of minutes whose exchanges are counted together.
    """

    alarm_unjudged: float = 0.05
    alarm_failed: float = 0.1
    alarm_least: int = 20
    alarm_minutes: int = 5


def alarm_rules(settings: Iterable[str]) -> tuple[AlarmRules, list[str]]:
    """Split settings of the form `key=value` into the rules of alarms and all other settings.

    Raises:
        ConfigError: a value is not a positive number, or a share is above 1.
    """
    kinds: dict[str, type[Any]] = {one.name: type(one.default) for one in fields(AlarmRules)}
    given: dict[str, Any] = {}
    rest: list[str] = []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in kinds:
            rest.append(setting)
            continue
        try:
            given[key] = kinds[key](value)
        except ValueError as error:
            raise ConfigError(f"The setting {key} is not a number.", setting, f"Write {key}=20.") from error
        check_positive(f"setting {key}", given[key])
        if kinds[key] is float and given[key] > 1:
            raise ConfigError(f"The setting {key} is no share.", setting, f"Write {key}=0.1 for a tenth.")
    return AlarmRules(**given), rest


@dataclass(frozen=True, slots=True)
class AlarmPlan:
    """When a server raises alarms, and who is told.

    Attributes:
        rules: when failures are too many.
        webhooks: receivers that are told of each alarm; empty for none.
    """

    rules: AlarmRules = AlarmRules()
    webhooks: Sequence[Receiver] = ()


def subject_of(name: str) -> str:
    """Return the subject of the alarm that the evidence of this name raises."""
    return f"evidence {name}"


def evidence_findings(evidence: Mapping[str, Mapping[str, Any]]) -> Iterator[AlarmCause]:
    """Yield the cause of an alarm for each evidence that reached its bound.

    The evidence is given as `counts.evidence_now` returns it.
    """
    for name, one in evidence.items():
        if not one["alarmed"]:
            continue
        if one["seen"] is not None:
            yield drift_finding(name, one["seen"])
            continue
        needed = -math.log(one["alpha"])
        headline = (
            f"{one['hits']:,} of {one['n']:,} texts count against {one['null']!r}: evidence {one['highest']:.1f},"
            f" {needed:.1f} are needed (chance of a false alarm at most {one['alpha']:g})"
        )
        counts = {key: one[key] for key in ("null", "n", "hits", "alpha")}
        details = {"detector": name, **counts, "log_e": one["highest"], "needed": needed}
        yield AlarmCause(subject=subject_of(name), kind="mention", headline=headline, details=details)


def drift_finding(name: str, seen: Mapping[str, Any]) -> AlarmCause:
    """Return the cause of the alarm of canaries that reached their bound.

    Args:
        name: name under which their evidence is stored.
        seen: numbers for the alarm, as `CanaryWatch.alert` returns them.
    """
    place = f" at {seen['place']}" if seen.get("place") else ""
    headline = (
        f"drift of {seen['model']}{place}: {seen['word']} in {seen['share']:.2%} of {seen['replies']:,} canary replies,"
        f" signed off at most {seen['signed_off_at_most']:.2%} (chance of a false alarm at most {seen['alpha']:g})"
    )
    return AlarmCause(subject=subject_of(name), kind="drift", headline=headline, details=seen)


def rate_findings(rows: Sequence[Mapping[str, Any]], rules: AlarmRules) -> dict[str, AlarmCause | None]:
    """Return for each rate of failures the cause of an alarm, or None if the rate is low.

    A rate of too few exchanges raises no alarm: it is left out if it is high, and ends an alarm if it is low.

    Args:
        rows: counts of the last minutes by outcome, as `counts.traffic` returns them.
        rules: when a rate is too high.
    """
    everything = sum(row["count"] for row in rows)
    screened = sum(row["screened"] for row in rows)
    unjudged = sum(row["detector_failures"] for row in rows)
    failed = sum(row["count"] if row["outcome"] in _FAILED_OUTCOMES else row["errors"] for row in rows)
    looked_at = (
        ("rate unjudged", "could not be judged by some detector", unjudged, screened, rules.alarm_unjudged),
        ("rate failed", "ended in an error of a server", failed, everything, rules.alarm_failed),
    )
    found: dict[str, AlarmCause | None] = {}
    for subject, words, count, of, most in looked_at:
        if of < rules.alarm_least:
            if count <= most * of:
                found[subject] = None
            continue
        minutes = rules.alarm_minutes
        details = {"count": count, "of": of, "share": count / of, "most": most, "minutes": minutes}
        headline = (
            f"{count:,} of {of:,} exchanges of the last {minutes} minutes {words}; at most {most:.0%} are expected"
        )
        finding = AlarmCause(subject=subject, kind="rate", headline=headline, details=details)
        found[subject] = finding if count / of > most else None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmCounts:
    """How many alarms there are at one moment.

    Attributes:
        open: number of alarms that nobody has closed.
        untold: number of alarms that some receiver has not taken yet.
    """

    open: int = 0
    untold: int = 0


class AlarmWatch:
    """A thread that raises alarms: it checks the database once a second if something was written, until it is closed.

    Args:
        path: path of the database, which is made if it is missing.
        plan: when alarms are raised, and who is told.

    Attributes:
        counts: number of alarms at the last check, all of one moment.
    """

    def __init__(self, path: Path, plan: AlarmPlan) -> None:
        self.counts = AlarmCounts()
        self._path, self._plan = path, plan
        self._teller = Teller(path, plan.webhooks)
        self._stop = threading.Event()
        self._lost: Callable[[], int] = lambda: 0
        self._lost_before, self._forgot = 0, 0.0
        self._version, self._due = -1, 0.0
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def start(self, lost: Callable[[], int]) -> None:
        """Start the thread; `lost` returns the number of events that could not be stored."""
        self._lost = lost
        self._thread.start()

    def close(self) -> None:
        """Check and tell a last time, and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        more = True
        while more:
            more = not self._stop.is_set()
            try:
                connection = connection or connect(self._path)
                if not more or self._is_due(connection):
                    wait = self._look(connection)
                    self._due = time.monotonic() + (QUIET_S if wait is None else min(QUIET_S, wait or PERIOD_S))
            except (sqlite3.Error, UserError, OSError) as error:
                logger.warning("The alarms could not be looked at, and will be again: %s", error)
                connection, self._due = None, time.monotonic() + PERIOD_S
            if more:
                self._stop.wait(max(0.0, min(PERIOD_S, self._due - time.monotonic())))
        if connection is not None:
            connection.close()

    def _is_due(self, connection: sqlite3.Connection) -> bool:
        """Tell whether to check: another connection wrote since the last check, events were lost, or it is time."""
        before, self._version = self._version, connection.execute("PRAGMA data_version").fetchone()[0]
        changed = before != self._version or self._lost() != self._lost_before
        return changed or time.monotonic() >= self._due

    def _look(self, connection: sqlite3.Connection) -> float | None:
        """Raise and close alarms, and tell receivers; return the seconds until one must be told again."""
        keep_alarms(connection)
        now = time.time()
        opened = {one.finding.subject for one in open_alarms(connection)}
        with connection:
            for finding in evidence_findings(evidence_now(connection)):
                raise_once(connection, finding)
            for subject, finding in self._rates(connection, now).items():
                if finding is None and subject in opened:  # an update takes the database's lock, even of no row
                    close_alarm(connection, {"subject": subject}, ITSELF)
                elif finding is not None and subject not in opened:
                    raise_while(connection, finding)
            if time.monotonic() - self._forgot > _HOUR_S or not self._forgot:
                self._forgot = time.monotonic()
                forget_old(connection, now)
        self.counts = count_alarms(connection, self._plan.webhooks)  # before a slow receiver is waited for
        wait = self._teller.tell(connection)
        self.counts = count_alarms(connection, self._plan.webhooks)
        return wait

    def _rates(self, connection: sqlite3.Connection, now: float) -> dict[str, AlarmCause | None]:
        found = rate_findings(traffic(connection, self._plan.rules.alarm_minutes, now), self._plan.rules)
        lost = self._lost()
        if lost > self._lost_before:
            headline = f"{lost - self._lost_before:,} events could not be stored"
            details = {"lost": lost}
            found["rate lost"] = AlarmCause(subject="rate lost", kind="rate", headline=headline, details=details)
        self._lost_before = lost
        return found


def count_alarms(connection: sqlite3.Connection, receivers: Sequence[Receiver]) -> AlarmCounts:
    """Return how many alarms are open, and how many some of these receivers have not taken yet."""
    owed = {one.id for one in owed_alarms(connection)}
    untold: set[int] = set()
    for receiver in receivers:
        untold |= owed - {told.alarm for told in tellings(connection, receiver.key) if told.at is not None}
    return AlarmCounts(open=len(open_alarms(connection)), untold=len(untold))
