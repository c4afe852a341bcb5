"""Runs detectors so that none of them can hold up, change or lose an exchange.

Each detector has one daemon thread: a slow one delays nobody but itself, a stuck one fails at once until it comes back,
and neither keeps the process from ending.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from undertow.monitor.detectors.base import MOST_CHARACTERS, AbstractDetector, Side, Verdict

MOST_WAITING = 1000
"""Texts that may wait for one detector; further ones count as failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextJudgement:
    """What came of one detector and one text.

    Attributes:
        detector: its name.
        side: "request" or "reply".
        flagged: as the verdict says; False for a failure.
        why: the rule.
        score: of the verdict.
        failure: what went wrong, empty if nothing did. The kind of error alone: its message could quote the text.
    """

    detector: str
    side: Side
    flagged: bool = False
    why: str = ""
    score: float | None = None
    failure: str = ""


@dataclass(slots=True)
class _Job:
    text: str
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Verdict | str]"


class _Worker:
    """One detector and its thread."""

    def __init__(self, detector: AbstractDetector) -> None:
        self.detector = detector
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._since: float | None = None
        threading.Thread(target=self._run, name=f"detector {detector.name}", daemon=True).start()

    def refusal(self, text: str, timeout_s: float) -> str:
        """Say why this text is not judged; empty if it is."""
        since = self._since
        if len(text) > MOST_CHARACTERS:
            return f"longer than {MOST_CHARACTERS} characters"
        if since is not None and time.monotonic() - since > timeout_s:
            return "stuck"
        return "too many texts are waiting" if self._jobs.qsize() >= MOST_WAITING else ""

    def submit(self, text: str) -> "asyncio.Future[Verdict | str]":
        loop = asyncio.get_running_loop()
        job = _Job(text, loop, loop.create_future())
        self._jobs.put(job)
        return job.answer

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job.answer.cancelled():
                continue
            self._since = time.monotonic()
            found = self._judge(job.text)
            self._since = None
            with contextlib.suppress(RuntimeError):  # The loop has ended, so nobody waits.
                job.loop.call_soon_threadsafe(_settle, job.answer, found)

    def _judge(self, text: str) -> "Verdict | str":
        """Return the verdict, or the kind of error."""
        try:
            verdict = self.detector.judge(text)
        except BaseException as error:  # A detector that asks for the end of the process is broken too.
            return type(error).__name__
        # Others write detectors, and types are not checked while they run.
        return verdict if isinstance(verdict, Verdict) else "no verdict"  # pyright: ignore[reportUnnecessaryIsInstance]


def _settle(answer: "asyncio.Future[Verdict | str]", found: "Verdict | str") -> None:
    if not answer.done():
        answer.set_result(found)


class Screen:
    """Every detector behind one call.

    Args:
        detectors: with different names.
        timeout_s: for one text, waiting included.
    """

    def __init__(self, detectors: Sequence[AbstractDetector], timeout_s: float) -> None:
        self.detectors = tuple(detectors)
        self._timeout_s = timeout_s
        self._workers = [_Worker(detector) for detector in detectors]

    def covers(self, side: Side) -> bool:
        """Tell whether any detector judges this side."""
        return any(side in detector.sides for detector in self.detectors)

    async def judge(self, side: Side, text: str) -> list[TextJudgement]:
        """Ask every detector of this side at once; nothing is raised, failures are in the answer."""
        asked: dict[str, asyncio.Future[Verdict | str]] = {}
        judged: list[TextJudgement] = []
        for worker in self._workers:
            if side in worker.detector.sides:
                if failure := worker.refusal(text, self._timeout_s):
                    judged.append(TextJudgement(detector=worker.detector.name, side=side, failure=failure))
                else:
                    asked[worker.detector.name] = worker.submit(text)
        if asked:
            await asyncio.wait(asked.values(), timeout=self._timeout_s)
        return judged + [_judgement(name, side, answer) for name, answer in asked.items()]


def unreadable(side: Side, why: str) -> TextJudgement:
    """Return the failure of a body that no detector could read."""
    return TextJudgement(detector="reader", side=side, failure=why)


def _judgement(name: str, side: Side, answer: "asyncio.Future[Verdict | str]") -> TextJudgement:
    if not answer.done():
        answer.cancel()
        return TextJudgement(detector=name, side=side, failure="took too long")
    if isinstance(verdict := answer.result(), str):
        return TextJudgement(detector=name, side=side, failure=verdict)
    return TextJudgement(detector=name, side=side, flagged=verdict.flagged, why=verdict.why, score=verdict.score)
