"""The steps of an audit, as the user sees them pass."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import final

from undertow.audit.finding import NotTestable
from undertow.store.progress import Progress, SilentProgress, TimeLeft
from undertow.types import Advance


@final
class Steps:
    """Numbers the steps and tells the progress of each.

    Args:
        total: how many there will be.
        progress: where they are shown; None shows nothing.
        expected: seconds of steps by their names, as far as they are known beforehand.
    """

    def __init__(
        self, total: int, progress: Progress | None = None, expected: Mapping[str, float] | None = None
    ) -> None:
        self._total = total
        self._expected = dict(expected or {})
        self._silent = SilentProgress()
        self._progress = progress or self._silent
        self._begun = 0
        self._progress.start(total)

    @contextmanager
    def step(self, name: str, left: TimeLeft | None = None) -> Generator[Advance]:
        """Begin the next step, with the time that it is expected to take; what is yielded takes (parts done, parts).

        One that fails is not told as done, though "not testable" is an answer. One without a name is not told at all.
        """
        if not name:
            yield self._silent.advance
            return
        self._progress.begin_stage(name, self._begun, self._total, left or self._left(name))
        self._begun += 1
        try:
            yield self._progress.advance
        except NotTestable:
            self._progress.end_stage()
            raise
        self._progress.end_stage()

    def _left(self, name: str) -> TimeLeft | None:
        """Return what a step that begins, and those that have not begun, are expected to take."""
        if not self._expected:
            return None
        own = self._expected.pop(name, None)
        return TimeLeft(stage_s=own, later_s=sum(self._expected.values()))


@final
class Parts(Progress):
    """Tells the stages of a runner as parts of a step that has begun.

    Args:
        advance: of the step; called with (stages finished, stages).
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done, self._total = 0, 0

    def start(self, n_stages: int) -> None:
        """See `Progress`."""
        self._total = n_stages

    def skip(self, name: str, index: int, total: int) -> None:
        """See `Progress`."""
        self.end_stage()

    def end_stage(self, index: int | None = None) -> None:
        """See `Progress`."""
        self._done += 1
        self._advance(self._done, self._total)
