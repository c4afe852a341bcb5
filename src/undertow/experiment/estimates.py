"""How long stages will take, from how long they took before."""

import contextlib
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undertow.artifacts import Manifest, read_manifest
from undertow.errors import UserError
from undertow.experiment.graph import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """What a run would do about one stage.

    Attributes:
        stage: the stage.
        cached: a verified result is there, so it would be skipped.
        estimate_s: expected duration in seconds, 0 if cached, None if nothing is known about its kind.
        problem: why the result that is there cannot be used, or None.
    """

    stage: Stage
    cached: bool
    estimate_s: float | None
    problem: str | None = None


@final
class Estimates:
    """Durations of stages: cost times the median seconds per unit of cost of earlier results of the same kind.

    Args:
        store: folder of all artifacts, whose manifests say how long they took.
        rates: seconds per unit of cost by kind, for kinds that the store holds no result of.

    An embedded model is as quick as another, but each `hf:` base has its own rates, which only its results tell.
    """

    def __init__(self, store: Path, rates: Mapping[str, float]) -> None:
        self._store = store
        self._rates = rates
        self._measured: dict[str, dict[str, list[float]]] = {}

    def of(self, stage: Stage) -> float | None:
        """Return the expected duration in seconds, or None if nothing is known about this kind."""
        base = _own_base(stage.config)
        measured = self._of_kind(stage.kind).get(base)
        known = None if base else self._rates.get(stage.kind)
        rate = statistics.median(measured) if measured else known
        return None if rate is None else rate * stage.cost

    def total(self, stages: Iterable[Stage]) -> float | None:
        """Return the expected duration of all of them, or None if it is unknown for one."""
        durations = [self.of(stage) for stage in stages]
        known = [duration for duration in durations if duration is not None]
        return sum(known) if len(known) == len(durations) else None

    def learn(self, manifest: Manifest) -> None:
        """Take a stage into account that has just been finished."""
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
    """Return the base whose speed decides, or "" for a stage of an embedded model or of none."""
    base = str(config.get("base", ""))
    return base if base.startswith("hf:") else ""
