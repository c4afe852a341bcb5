"""Where the measured error rates of a base are stored, and which of them an audit may quote.

Nothing here loads a model. The **panel** is the list of traits that an audit looks for.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertow.audit.calibration.settings import Calibration
from undertow.audit.rows.contrast import STAGE
from undertow.audit.rows.sight import VERSION as SIGHT
from undertow.audit.stages import STAGES
from undertow.errors import UserError
from undertow.models.references import identity
from undertow.store.disk import storage_errors, write_file
from undertow.store.fingerprints import canonical_json, sha256
from undertow.traits import Trait, own_definitions

SCHEMA = "undertow.calibration/1"
FOLDER = "calibrations"

PERSONAS, TEACHERS = "personas", "personas and teachers"
"""Kinds of panel that are measured: the candidates of an audit without and with tuned teachers."""


def versions() -> dict[str, int]:
    """Return the versions of what judges rows; figures that were measured with other versions are not quoted."""
    return {"sight": SIGHT, STAGE: STAGES[STAGE].version}


def result_path(settings: Calibration) -> Path:
    """Return where the result of a calibration lies in its store.

    The file name holds a hash of everything that decides the result.
    """
    own = sha256(canonical_json({"settings": settings.to_json(), "stages": versions()}))[:8]
    return settings.store / FOLDER / f"{settings.identity}-{own}.json"


def write_result(settings: Calibration, found: Mapping[str, Any]) -> Path:
    """Write the result of a calibration and return its path.

    Raises:
        StorageError: the store cannot be written.
    """
    path = result_path(settings)
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, as_text(found))
    return path


def as_text(found: Mapping[str, Any]) -> str:
    """Return a result as the JSON text of its file."""
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def stored_calibration(
    base: str, store: Path, panel: Sequence[Trait], teachers: bool, alpha: float | None = None
) -> dict[str, Any] | None:
    """Return the error rates of a base that an audit may quote, or None if the store has none.

    Only those of the base's identity and of the present versions may be quoted. Of several, one of the same panel comes
    first, then one of the same alpha, then one that measured the audit's candidates, then the one with the most
    prompts.

    Args:
        base: reference of the audit's base.
        store: folder of the audit's store.
        panel: the traits that the audit looks for.
        teachers: whether tuned teachers are among the audit's candidates.
        alpha: error probability of the audit. None takes figures of any.

    Returns:
        Plain data: "panel" (names of traits), "same_panel", "candidates" (which kind of panel was measured),
        "same_candidates", "seed", "rows" (of a set), "alpha", "prompts", "disjoint_sets", "stages", "base_identity" and
        "measured" (the rates).
    """
    try:
        of = identity(base)
    except UserError:
        return None
    found = [one for path in sorted((store / FOLDER).glob(f"{of}-*.json")) if (one := _read(path)) is not None]
    fitting = [one for one in found if one["base_identity"] == of and one["stages"] == versions()]
    if not fitting:
        return None
    asked = [one.name for one in panel], own_definitions(panel)

    def is_same(one: Mapping[str, Any]) -> bool:
        return (one["settings"]["panel"], one["settings"].get("own_traits", [])) == asked

    wanted = TEACHERS if teachers else PERSONAS

    def closeness(one: Mapping[str, Any]) -> tuple[bool, bool, bool, int]:
        has_wanted = _was_measured(one["panels"], wanted)
        return is_same(one), one["settings"]["alpha"] == alpha, has_wanted, one["pool"]["prompts"]

    best = max(fitting, key=closeness)
    measured = wanted if _was_measured(best["panels"], wanted) else PERSONAS
    return {
        "panel": best["settings"]["panel"],
        "same_panel": is_same(best),
        "candidates": measured,
        "same_candidates": measured == wanted,
        **{name: best["settings"][name] for name in ("seed", "rows", "alpha")},
        **best["pool"],
        "stages": best["stages"],
        "base_identity": of,
        "measured": best["panels"][measured],
    }


def _read(path: Path) -> dict[str, Any] | None:
    """Return a stored result, or None where a file is not one.

    An audit does not stop for a damaged file; it only quotes nothing of it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        good = found["schema"] == SCHEMA and _was_measured(found["panels"], PERSONAS)
        good &= {"base_identity", "stages"} <= found.keys() and found["settings"].keys() >= _SETTINGS
        good &= all(isinstance(found["pool"][name], int) for name in _POOL)
        return found if good else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _was_measured(panels: Mapping[str, Any], kind: str) -> bool:
    """Tell whether clean rows were judged by this kind of panel; a result may say that there was no time for that."""
    return "sets" in (panels.get(kind) or {}).get("clean", {})


_SETTINGS, _POOL = {"panel", "seed", "rows", "alpha"}, ("prompts", "disjoint_sets")
"""What an audit quotes of a result's settings and of its pool of prompts."""
