"""The steps of an audit, as the user sees them pass."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import final

from undertow.experiment.progress import Progress, SilentProgress

Advance = Callable[[int, int], None]


@final
class Steps:
    """Numbers the steps and tells the progress of each.

    Args:
        total: how many there will be.
        progress: where they are shown; None shows nothing.
    """

    def __init__(self, total: int, progress: Progress | None = None) -> None:
        self._total = total
        self._progress = progress or SilentProgress()
        self._begun = 0

    @contextmanager
    def step(self, name: str) -> Generator[Advance]:
        """Begin the next step; what is yielded takes (parts done, parts). A step that fails is not told as done."""
        self._progress.begin_stage(name, self._begun, self._total)
        self._begun += 1
        yield self._progress.advance
        self._progress.end_stage()
