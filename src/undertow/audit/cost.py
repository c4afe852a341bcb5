"""How long stages of an audit took before, according to the results in the store."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from undertow.errors import UserError
from undertow.store.artifacts import read_manifest


def stored_times(store: Path, kind: str, config: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], float | None]:
    """Return the settings of matching stored results, and the median of the seconds that they took.

    The seconds are per unit of a result's cost; None where nothing matches.

    Args:
        store: folder of all stored results.
        kind: kind of the stored results, such as "panel-teacher".
        config: settings that a result must have among its own to match.
    """
    found: list[tuple[Mapping[str, Any], float]] = []
    for folder in sorted((store / kind).glob("[0-9a-f]*")):
        with contextlib.suppress(UserError):  # a damaged artifact is reported by the stage that needs it
            manifest = read_manifest(folder)
            own = manifest.config
            if all(own.get(name) == value for name, value in config.items()):
                found.append((own, manifest.wall_s / manifest.cost))
    return [one for one, _ in found], median([seconds for _, seconds in found]) if found else None
