"""What a server keeps while it runs: the log of events, its detectors' evidence over restarts, and the alarms."""

import contextlib
import logging
from collections.abc import Generator, Sequence
from pathlib import Path

from undertow.monitor.detectors.base import AbstractDetector, GatheredEvidence
from undertow.monitor.events import EventLog, read_evidence
from undertow.monitor.locks import only_server
from undertow.monitor.watching import AlarmPlan, AlarmWatch

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def gathering(
    path: Path, detectors: Sequence[AbstractDetector], keep_days: float, plan: AlarmPlan
) -> Generator[tuple[EventLog, AlarmWatch]]:
    """Log events, keep the detectors' evidence and raise alarms until the end of the block.

    No other server may use the same database meanwhile.

    Args:
        path: path of the database, which is made if it is missing.
        detectors: the detectors, each of which continues from what an earlier process gathered under its name.
        keep_days: age in days at which events are deleted.
        plan: when alarms are raised, and who is told.

    Raises:
        ConfigError: another server writes this database.
        StorageError, ArtifactError: the events cannot be stored.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_server(path))
        _resume(path, detectors)
        watch = AlarmWatch(path, plan)
        stack.callback(watch.close)
        events = EventLog(path, lambda: _gathered(detectors), keep_days)
        stack.callback(events.close)
        watch.start(lambda: events.lost)
        yield events, watch


def _gathered(detectors: Sequence[AbstractDetector]) -> dict[str, GatheredEvidence]:
    found = {one.name: one.evidence() for one in detectors}
    return {name: evidence for name, evidence in found.items() if evidence is not None}


def _resume(path: Path, detectors: Sequence[AbstractDetector]) -> None:
    """Let each detector continue from what an earlier process gathered under its name."""
    stored = read_evidence(path)
    for one in detectors:
        try:
            if one.name in stored:
                one.resume(stored[one.name]["state"])
        except Exception:
            logger.warning("The evidence of %s cannot be read and begins anew.", one.name)
