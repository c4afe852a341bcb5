"""What stages of an audit took before, by the store's own results."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from undertow.errors import UserError
from undertow.store.artifacts import read_manifest


def stored_times(store: Path, kind: str, config: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], float | None]:
    """Return the settings of the artifacts of a kind that have these settings among theirs, and their median seconds.

    Args:
        store: folder of all artifacts.
        kind: of the artifacts.
        config: settings that they have to have.
    """
    found: list[tuple[Mapping[str, Any], float]] = []
    for folder in sorted((store / kind).glob("[0-9a-f]*")):
        with contextlib.suppress(UserError):  # a damaged artifact is reported by the stage that needs it
            manifest = read_manifest(folder)
            own = manifest.config
            if all(own.get(name) == value for name, value in config.items()):
                found.append((own, manifest.wall_s / manifest.cost))
    return [one for one, _ in found], median([seconds for _, seconds in found]) if found else None
