"""Running detectors so that none of them can hold up, change or lose an exchange.

Each detector has daemon threads of its own. A slow one delays nobody but itself, a stuck one fails at once until it
comes back, and neither keeps the process from ending. A text waits its turn for a limited time and is then not judged;
what that means for the exchange is decided by the mode.
"""

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undertow.monitor.detectors.base import MOST_CHARACTERS, AbstractDetector, Side, Verdict
from undertow.monitor.settings import Limits

MOST_WAITING = 1000
"""Largest number of texts that wait for one detector; further ones count as failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextJudgement:
    """What one detector said about one text, or why it failed.

    Attributes:
        detector: name of the detector; "reader" for a body that could not be read at all.
        side: which side of the exchange the text is of, "request" or "reply".
        flagged: whether the detector flagged the text; False for a failure.
        why: name of the rule that was broken; "" for none.
        score: score of the verdict; None if it has none.
        failure: what went wrong; "" if nothing did. It is the kind of the error alone, since its message could quote
            the text.
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
    began: float | None = None


class _Worker:
    """One detector with its threads and its queue of texts."""

    def __init__(self, detector: AbstractDetector, threads: int) -> None:
        self.detector = detector
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._since: list[float | None] = [None] * max(1, min(threads, detector.threads))
        for place in range(len(self._since)):
            threading.Thread(target=self._run, args=(place,), name=f"detector {detector.name}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Number of texts that no thread has begun to read."""
        return self._jobs.qsize()

    def refusal(self, text: str, timeout_s: float) -> str:
        """Return the reason why a text is not judged at all; "" if it is."""
        if len(text) > MOST_CHARACTERS:
            return f"longer than {MOST_CHARACTERS} characters"
        if self.is_stuck(timeout_s):
            return "stuck"
        return "too many texts are waiting" if self._jobs.qsize() >= MOST_WAITING else ""

    def is_stuck(self, timeout_s: float) -> bool:
        """Tell whether every thread has been reading one text for longer than the limit."""
        now = time.monotonic()
        return all(since is not None and now - since > timeout_s for since in list(self._since))

    def submit(self, text: str) -> _Job:
        loop = asyncio.get_running_loop()
        job = _Job(text, loop, loop.create_future())
        self._jobs.put(job)
        return job

    def _run(self, place: int) -> None:
        while True:
            job = self._jobs.get()
            if job.answer.cancelled():
                continue
            job.began = self._since[place] = time.monotonic()
            found = self._judge(job.text)
            self._since[place] = None
            with contextlib.suppress(RuntimeError):  # The loop has ended, so nobody waits.
                job.loop.call_soon_threadsafe(_settle, job.answer, found)

    def _judge(self, text: str) -> "Verdict | str":
        """Return the verdict, or the kind of the error."""
        try:
            return _plain(self.detector.judge(text))
        except BaseException as error:  # A detector that asks for the end of the process is broken too.
            return type(error).__name__


def _plain(verdict: Verdict) -> "Verdict | str":
    """Return a verdict whose values have plain types: others write detectors, and types are not checked at run time."""
    if not isinstance(verdict, Verdict) or not isinstance(verdict.why, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return "no verdict"
    score = None if verdict.score is None else float(verdict.score)
    return Verdict(bool(verdict.flagged), verdict.why[:200], score if score is None or math.isfinite(score) else None)


def _settle(answer: "asyncio.Future[Verdict | str]", found: "Verdict | str") -> None:
    if not answer.done():
        answer.set_result(found)


def any_detector(detector: AbstractDetector) -> bool:
    """Choose every detector, whichever it is."""
    del detector
    return True


class Screen:
    """All detectors behind one call.

    Args:
        detectors: the detectors; their names differ.
        timeout_s: seconds for one text, from when a detector begins to read it.
        wait_s: seconds that a text may wait until a detector begins to read it.
        threads: number of texts that one detector reads at once, if it can.
    """

    def __init__(
        self, detectors: Sequence[AbstractDetector], timeout_s: float, wait_s: float = 10.0, threads: int = 4
    ) -> None:
        self.detectors = tuple(detectors)
        self._timeout_s, self._wait_s = timeout_s, wait_s
        self._workers = [_Worker(detector, threads) for detector in detectors]

    @classmethod
    def of(cls, detectors: Sequence[AbstractDetector], limits: Limits) -> "Screen":
        """Make the screen with the time limits and threads of these limits."""
        return cls(detectors, limits.detector_s, limits.wait_s, limits.detector_threads)

    @property
    def waiting(self) -> dict[str, int]:
        """Number of texts that wait for each detector, by its name."""
        return {worker.detector.name: worker.waiting for worker in self._workers}

    def covers(self, side: Side) -> bool:
        """Tell whether any detector judges this side."""
        return any(side in detector.sides for detector in self.detectors)

    async def judge(
        self, side: Side, text: str, chosen: Callable[[AbstractDetector], bool] = any_detector
    ) -> list[TextJudgement]:
        """Ask every chosen detector of this side at once.

        Nothing is raised; failures are part of the answer.

        Args:
            side: which side of the exchange the text is of.
            text: the text that is judged.
            chosen: tells for each detector whether it is asked.
        """
        came, asked = time.monotonic(), list[tuple[_Worker, _Job]]()
        judged: list[TextJudgement] = []
        for worker in self._workers:
            if side in worker.detector.sides and chosen(worker.detector):
                if failure := worker.refusal(text, self._timeout_s):
                    judged.append(TextJudgement(detector=worker.detector.name, side=side, failure=failure))
                else:
                    asked.append((worker, worker.submit(text)))
        try:
            for worker, job in asked:
                await self._wait(worker, job, came)
        finally:
            for _, job in asked:
                job.answer.cancel()
        return judged + [_judgement(worker.detector.name, side, job) for worker, job in asked]

    async def _wait(self, worker: _Worker, job: _Job, came: float) -> None:
        """Wait for an answer as long as it may still come in time."""
        while not job.answer.done():
            began, now = job.began, time.monotonic()
            left = came + self._wait_s - now if began is None else began + self._timeout_s - now
            if left <= 0 or (began is None and worker.is_stuck(self._timeout_s)):
                return
            # A text that is waiting for its turn may begin to be read meanwhile, so look again no later than it could
            # have been read.
            await asyncio.wait((job.answer,), timeout=min(left, self._timeout_s))


def unreadable(side: Side, why: str) -> TextJudgement:
    """Return the judgement of a body that could not be read, so that no detector was asked."""
    return TextJudgement(detector="reader", side=side, failure=why)


def merged(judgements: Sequence[TextJudgement]) -> list[TextJudgement]:
    """Return one judgement for each detector and side, the worst: flagged, else failed, else the highest score."""
    worst: dict[tuple[str, Side], TextJudgement] = {}
    for one in judgements:
        place = (one.detector, one.side)
        if place not in worst or _badness(one) > _badness(worst[place]):
            worst[place] = one
    return list(worst.values())


def _badness(one: TextJudgement) -> tuple[bool, bool, float]:
    return one.flagged, bool(one.failure), -math.inf if one.score is None else one.score


def _judgement(name: str, side: Side, job: _Job) -> TextJudgement:
    if job.answer.cancelled():
        late = "waited too long" if job.began is None else "took too long"
        return TextJudgement(detector=name, side=side, failure=late)
    if isinstance(verdict := job.answer.result(), str):
        return TextJudgement(detector=name, side=side, failure=verdict)
    return TextJudgement(detector=name, side=side, flagged=verdict.flagged, why=verdict.why, score=verdict.score)
