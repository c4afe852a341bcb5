"""The steps of an audit, as a progress display shows them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import final

from undertow.audit.finding import NotTestable
from undertow.store.progress import Progress, SilentProgress, TimeLeft
from undertow.types import Advance


@final
class Steps:
    """Numbers the steps and reports the progress of each.

    Args:
        total: how many steps there will be.
        progress: display in which the steps are shown. None shows nothing.
        expected: seconds that steps are expected to take, by their names, as far as they are known. None shows no
            times.
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
        """Begin the next step; what is yielded is a callback that takes (parts done, all parts).

        A step that fails is not shown as done, but "not testable" counts as an answer. A step with an empty name is not
        shown at all.

        Args:
            name: name of the step. Empty shows nothing.
            left: time that this step and the later ones are expected to take. None takes it from the expected seconds.
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
        """Return the seconds that a step that begins, and those that have not begun, are expected to take."""
        if not self._expected:
            return None
        own = self._expected.pop(name, None)
        return TimeLeft(stage_s=own, later_s=sum(self._expected.values()))


@final
class Parts(Progress):
    """Reports the stages of a runner as parts of a step that has begun.

    Args:
        advance: callback of the step that takes (stages finished, all stages).
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
