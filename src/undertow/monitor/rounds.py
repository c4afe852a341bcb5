"""Asking rounds of canary questions: over outages, within the day's budget, and never two rounds at the same time.

The evidence lies in the database of events. A round is asked under a lock and begins with what is stored, so rounds of
several runs add up. A round that is cut short counts towards the budget alone.
"""

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from undertow.errors import ConfigError, EmptyDataError, ModelError, StorageError, UserError
from undertow.monitor.alarms import ITSELF, AlarmCause, close_alarm, keep_alarms, raise_once, raise_while
from undertow.monitor.baseline import TOGETHER, check_texts
from undertow.monitor.canaries import DAY_S, CanaryWatch
from undertow.monitor.database import connect
from undertow.monitor.events import save_evidence, stored_evidence
from undertow.monitor.locks import TakenError, sole
from undertow.monitor.watching import drift_finding
from undertow.store.fingerprints import sha256
from undertow.types import Prompt

AGAIN_S = 300.0
"""Longest pause in seconds after a round that failed."""

BLIND_ROUNDS = 3
"""Number of failed rounds in a row that raise an alarm."""

_BUSY_S = 5.0
_STORE_TRIES, _STORE_PAUSE_S = 5, 2.0


class AskRepeatedly(Protocol):
    """Function that returns a reply to each prompt, such as `DeployedModel.ask`."""

    def __call__(self, prompts: list[Prompt], done: Callable[[], None]) -> list[str]:
        """Return a reply to each prompt; `done` is called after each."""
        ...


class CanaryStore:
    """Keeps the evidence of a canary watch, and its alarms, in the database of events.

    Args:
        path: path of the database, which is made if it is missing.
        watch: the watch, which continues from what is stored under its name.

    Raises:
        StorageError, ArtifactError: as `undertow.monitor.events.connect`.
    """

    def __init__(self, path: Path, watch: CanaryWatch) -> None:
        self.path, self._watch = path, watch
        self.reload()

    def reload(self) -> None:
        """Let the watch continue from what is stored under its name.

        Raises:
            StorageError, ArtifactError: as the class.
        """
        with closing(connect(self.path)) as connection:
            keep_alarms(connection)
            stored = stored_evidence(connection).get(self._watch.name)
        if stored is not None:
            self._watch.resume(stored["state"])

    @contextmanager
    def turn(self) -> Generator[None]:
        """Hold the lock on this watch's evidence until the end of the block; it is read anew at the beginning.

        Raises:
            TakenError: another run is asking a round of this baseline.
            StorageError, ArtifactError: as the class.
        """
        with sole(self.path, f"canaries-{sha256(self._watch.deployment)[:8]}"):
            self.reload()
            yield

    def save(self) -> None:
        """Store the evidence, and the alarm if it reached its bound; a busy database is tried again for a while.

        Raises:
            StorageError: the database stays busy, or cannot be written.
        """
        evidence = asdict(self._watch.evidence())
        for left in range(_STORE_TRIES - 1, -1, -1):
            try:
                with closing(connect(self.path)) as connection, connection:
                    save_evidence(connection, self._watch.name, evidence)
                    if self._watch.alarmed:
                        raise_once(connection, drift_finding(self._watch.name, self._watch.alert()))
                return
            except (sqlite3.Error, StorageError) as error:
                if not left:
                    fix = "Give a file that can be written."
                    raise StorageError(f"The evidence cannot be stored ({error}).", self.path, fix) from error
                time.sleep(_STORE_PAUSE_S)

    def sees_nothing(self, failed: int, why: str) -> None:
        """Raise an alarm that the canaries see nothing, once `BLIND_ROUNDS` rounds in a row have failed.

        Args:
            failed: number of failed rounds in a row.
            why: reason of the last failure.
        """
        if failed >= BLIND_ROUNDS:
            model = self._watch.model
            place = f" at {self._watch.config.place}" if self._watch.config.place else ""
            headline = f"the canaries of {model}{place} see nothing: {why}"
            details = {"failed_rounds": failed, "model": model, "place": self._watch.config.place}
            with closing(connect(self.path)) as connection, connection:
                raise_while(
                    connection, AlarmCause(subject=self._blind, kind="rate", headline=headline, details=details)
                )

    def sees_again(self) -> None:
        """Close the alarm that the canaries see nothing."""
        with closing(connect(self.path)) as connection, connection:
            close_alarm(connection, {"subject": self._blind}, ITSELF)

    @property
    def _blind(self) -> str:
        return f"blind {self._watch.name}"


def ask_round(watch: CanaryWatch, ask: AskRepeatedly, store: CanaryStore, now: Callable[[], float] = time.time) -> bool:
    """Ask one round, count its replies and store the evidence.

    A round that is cut short counts towards the budget alone.

    Args:
        watch: the evidence that is continued.
        ask: function that asks the model.
        store: where the evidence is kept.
        now: returns the Unix time in seconds.

    Returns:
        Whether it was asked; not if another run raised the alarm or used up the budget meanwhile.

    Raises:
        TakenError: another run is asking a round.
        ModelError: the endpoint gave no replies, as for `DeployedModel.ask`.
        EmptyDataError: too many replies have no text.
        StorageError: the evidence cannot be stored.
    """
    with store.turn():
        if watch.alarmed or watch.wait_s(now()) > 0:
            return False
        recent = [(at, n) for at, n in watch.asked if at > now() - DAY_S]
        answered = 0

        def done() -> None:
            nonlocal answered
            answered += 1

        # Written before anything is sent, so that the budget holds even if this run is killed.
        watch.asked = [*recent, (now(), watch.per_round)]
        store.save()
        try:
            texts = ask(watch.prompts(), done)
        except ModelError:
            watch.asked = [*recent, (now(), min(watch.per_round, answered + TOGETHER))]
            store.save()
            raise
        check_texts(texts, {})
        watch.after(texts)
        store.save()
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """How many rounds are asked, and how often.

    Attributes:
        rounds: number of rounds; None asks for ever.
        pause_s: seconds between two rounds if they are asked for ever.
        say: callback for one line on each round, and on what delays it.
        sleep: function that waits a number of seconds.
    """

    rounds: int | None
    pause_s: float
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep


def ask_rounds(watch: CanaryWatch, ask: AskRepeatedly, store: CanaryStore, plan: RoundPlan) -> bool:
    """Ask rounds until the alarm is raised or they are done; return whether the day's budget ended them.

    If rounds are asked for ever, a failure is reported and the next round tried later. Only a failure before any round
    succeeded that is no outage is raised.

    Args:
        watch: the evidence that is continued.
        ask: function that asks the model.
        store: where the evidence is kept.
        plan: how many rounds are asked, and how often.

    Raises:
        ConfigError: another run is asking a round, and this one has a limited number of rounds.
        ModelError, EmptyDataError, StorageError: as `ask_round`.
    """
    done = failed = 0
    while not watch.alarmed and (plan.rounds is None or done < plan.rounds):
        if (wait := watch.wait_s(time.time())) > 0:
            plan.say(f"the budget allows the next round in {wait / 3600:.1f} h")
            if plan.rounds is not None:
                return True
            plan.sleep(wait)
        try:
            done += ask_round(watch, ask, store)
        except TakenError:
            _wait_for_other(store, plan)
            continue
        except (ModelError, EmptyDataError, StorageError) as error:
            failed += 1
            if plan.rounds is not None or not (done or watch.rounds or is_outage(error)):
                raise
            _outlive(store, failed, error, plan)
            continue
        failed = _sees(store, failed, plan)
        _say_round(watch, plan.say)
        if plan.rounds is None and not watch.alarmed:
            plan.sleep(plan.pause_s)
    return False


def is_outage(error: UserError) -> bool:
    """Tell whether waiting may help: nothing answers, or the server is at fault; not a wrong key or address."""
    return isinstance(error, StorageError) or error.what.startswith("The endpoint does not answer")


def _wait_for_other(store: CanaryStore, plan: RoundPlan) -> None:
    if plan.rounds is not None:
        fix = "Wait until it has ended; its rounds and yours add up."
        raise ConfigError("Another run asks these canaries at this moment.", store.path, fix) from None
    plan.say("another run asks these canaries at this moment; waiting for it")
    plan.sleep(_BUSY_S)


def _sees(store: CanaryStore, failed: int, plan: RoundPlan) -> int:
    """Close the alarm of failed rounds if any failed; return how many are still to be reported."""
    try:
        if failed:
            store.sees_again()
    except (sqlite3.Error, UserError) as fault:
        plan.say(f"the alarm of the failed rounds could not be closed: {fault}")
        return failed
    return 0


def _outlive(store: CanaryStore, failed: int, error: UserError, plan: RoundPlan) -> None:
    wait = min(plan.pause_s, AGAIN_S)
    plan.say(f"this round failed, the next try is in {wait / 60:.1f} min: {error.what} {error.value}")
    try:
        store.sees_nothing(failed, error.what)
    except (sqlite3.Error, UserError) as fault:
        plan.say(f"the alarm for it could not be stored: {fault}")
    plan.sleep(wait)


def _say_round(watch: CanaryWatch, say: Callable[[str], None]) -> None:
    found = watch.alert()
    if not watch.rounds:
        return
    seen = f"{found['word']} in {found['share']:.2%} (signed off at most {found['signed_off_at_most']:.2%})"
    say(f"round {watch.rounds}: {seen}; evidence {found['log_e']:.1f} of {found['needed']:.1f}")
