"""Stages: pieces of work, what they depend on, and how long they will take.

A stage names a piece of work by its kind, version, config and parents; its fingerprint says where the result lies. The
code that does the work is found by the kind at run time (`undertow.store.runner`), so a stage is plain data. How long
it takes is estimated from how long stages of its kind took before.
"""

import contextlib
import heapq
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, final

from undertow.errors import ConfigError, UserError
from undertow.store.artifacts import Manifest, read_manifest
from undertow.store.fingerprints import ArtifactKey
from undertow.types import known_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One piece of work; stages of equal fingerprint are equal.

    Attributes:
        kind: kind of work, which decides the executor (the function that does it).
        version: version of that executor's code; raise it when the same config gives another result.
        config: all settings, as JSON values; they are copied, so later changes to the original do not reach the stage.
        parents: the stages whose results it reads, by the role that each plays, such as "rows".
        label: name that the user sees while it runs; by default the kind. Not part of the fingerprint.
        cost: amount of work in any unit that running time is proportional to within one kind, such as steps times
            students; used for estimates only and not part of the fingerprint.
        key: key of the artifact that it makes; computed.
        fingerprint: hash of kind, version, config and the parents' fingerprints; computed.

    Raises:
        ConfigError: the config holds something without a stable text form, or the cost is not positive.
    """

    kind: str = field(compare=False)
    version: int = field(compare=False)
    config: Mapping[str, Any] = field(compare=False, repr=False)
    parents: Mapping[str, "Stage"] = field(default_factory=dict[str, "Stage"], compare=False, repr=False)
    label: str = field(default="", compare=False)
    cost: float = field(default=1.0, compare=False)
    key: ArtifactKey = field(init=False, compare=False, repr=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.cost > 0:
            raise ConfigError(
                "The cost of a stage is not positive.", self.cost, "Leave it out or give a number above 0."
            )
        parents = dict(self.parents)
        fingerprints = {role: parent.fingerprint for role, parent in parents.items()}
        key = ArtifactKey(kind=self.kind, version=self.version, config=self.config, parents=fingerprints)
        derived = {"parents": parents, "config": key.config, "key": key, "fingerprint": key.fingerprint}
        for name, value in {**derived, "label": self.label or self.kind}.items():
            object.__setattr__(self, name, value)


def order(targets: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return the targets and all that they depend on, each once and after its parents.

    The order is depth first, so that the first target is finished before work begins that only the second one needs: an
    interrupted run has whole replicates to show.
    """
    ordered: dict[Stage, None] = {}
    pending = list(reversed(list(targets)))
    while pending:
        missing = [parent for parent in pending[-1].parents.values() if parent not in ordered]
        if missing:
            pending.extend(reversed(missing))
        else:
            ordered[pending.pop()] = None
    return tuple(ordered)


def makespan(seconds: Mapping[Stage, float], workers: int) -> float:
    """Return after how many seconds some stages are finished if several are made at once.

    Each begins as soon as its parents are finished and a worker is free; if several can begin, the first of them does.

    Args:
        seconds: how many seconds each stage takes; parents that are not among them count as finished.
        workers: how many stages are made at once.
    """
    stages = list(seconds)
    places = {stage: place for place, stage in enumerate(stages)}
    sorter = TopologicalSorter({one: [parent for parent in one.parents.values() if parent in places] for one in stages})
    sorter.prepare()
    now, ready, running = 0.0, list[int](), list[tuple[float, int]]()
    while sorter.is_active():
        for stage in sorter.get_ready():
            heapq.heappush(ready, places[stage])
        while ready and len(running) < workers:
            place = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[stages[place]], place))
        now, place = heapq.heappop(running)
        sorter.done(stages[place])
    return now


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """What a run would do with one stage.

    Attributes:
        stage: the stage that is planned.
        cached: whether a verified result is there, so that the stage would be skipped.
        estimate_s: expected duration in seconds; 0 if cached, None if nothing is known about its kind.
        problem: why the result that is there cannot be used; None if there is no such problem.
    """

    stage: Stage
    cached: bool
    estimate_s: float | None
    problem: str | None = None


Expected = Callable[[Stage], float | None]
"""Function that returns the expected seconds of a stage, or None where nothing is known."""


@final
class Estimates:
    """Expected durations of stages: cost times the median seconds per unit of cost of earlier results of that kind.

    Args:
        store: folder of all artifacts, whose manifests say how long each took.
        rates: seconds per unit of cost for each kind of stage, for kinds of which the store holds no result.
        forecast: returns the expected seconds of a stage of an `hf:` base of which the store holds no result, or None.

    All embedded models count as equally fast, but each `hf:` base has rates of its own.
    """

    def __init__(self, store: Path, rates: Mapping[str, float], forecast: Expected | None = None) -> None:
        self._store = store
        self._rates = rates
        self._forecast = forecast
        self._measured: dict[str, dict[str, list[float]]] = {}

    def of(self, stage: Stage) -> float | None:
        """Return the expected duration of a stage in seconds, or None if nothing is known about its kind."""
        base = _own_base(stage.config)
        measured = self._of_kind(stage.kind).get(base)
        if base and not measured:
            return None if self._forecast is None else self._forecast(stage)
        rate = statistics.median(measured) if measured else self._rates.get(stage.kind)
        return None if rate is None else rate * stage.cost

    def total(self, stages: Iterable[Stage]) -> float | None:
        """Return the expected duration of all stages in seconds, or None if it is unknown for one of them."""
        return known_sum(map(self.of, stages))

    def learn(self, manifest: Manifest) -> None:
        """Take the duration of a stage into account that has just been finished."""
        self._take(self._of_kind(manifest.kind), manifest)

    def _take(self, measured: dict[str, list[float]], manifest: Manifest) -> None:
        measured.setdefault(_own_base(manifest.config), []).append(manifest.wall_s / manifest.cost)

    def _of_kind(self, kind: str) -> dict[str, list[float]]:
        if kind not in self._measured:
            self._measured[kind] = {}
            for folder in sorted((self._store / kind).glob("[0-9a-f]*")):
                with contextlib.suppress(UserError):  # a damaged manifest is reported where its artifact is read
                    self._take(self._measured[kind], read_manifest(folder))
        return self._measured[kind]


def _own_base(config: Mapping[str, Any]) -> str:
    """Return the `hf:` base whose speed decides, or "" for a stage of an embedded model or of none."""
    base = str(config.get("base", ""))
    return base if base.startswith("hf:") else ""
