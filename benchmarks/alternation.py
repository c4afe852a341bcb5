"""Timing of rivals in one process, in turns, so that a slow minute of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timed(Generic[Result]):
    """Wall times of one rival, in seconds, and what its last repetition returned."""

    seconds: tuple[float, ...]
    result: Result

    @property
    def least(self) -> float:
        """The shortest repetition."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The middle repetition."""
        return statistics.median(self.seconds)


def alternate(
    rivals: Mapping[str, Callable[[], Result]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timed[Result]]:
    """Run every rival once per repetition; every other repetition runs them in the opposite order.

    Args:
        rivals: what is timed, by name.
        repeats: how often.
        clock: tells the time in seconds; `time.process_time` where others use the processor too.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    results: dict[str, Result] = {}
    for repeat in range(repeats):
        for name in list(rivals)[:: 1 if repeat % 2 == 0 else -1]:
            start = clock()
            results[name] = rivals[name]()
            seconds[name].append(clock() - start)
    return {name: Timed(tuple(seconds[name]), results[name]) for name in rivals}
