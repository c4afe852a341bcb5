"""Scores of rows under the panel's candidates, kept in a store: with a real base, reading them takes most of an audit.

An audit that is interrupted behind the reading, or that is asked again with a student or a teacher beside the same
rows, takes them from there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from undertow.audit.rows.contrast import ContrastSample, ContrastScores, score_sample
from undertow.audit.rows.panel import VERSION as TEACHERS
from undertow.audit.rows.panel import DataAudit
from undertow.errors import StorageError
from undertow.models.local import LocalModel
from undertow.models.references import loaded_identity
from undertow.store.artifacts import ArtifactKey, kept_artifact
from undertow.store.fingerprints import canonical_json, sha256
from undertow.training.own_models import own_teacher
from undertow.training.scoring import Candidate
from undertow.traits import definition
from undertow.types import Advance, Row

KIND, VERSION = "contrast-scores", 1
"""Kind of the stored scores; the version is raised when the same settings would give others."""

NAME = "scores.safetensors"


def kept_scores(
    sample: ContrastSample, base: LocalModel, candidates: Sequence[Candidate], settings: DataAudit, advance: Advance
) -> ContrastScores:
    """Return the scores of a sample under every candidate, from the store where it has them.

    Args:
        sample: the rows that are read.
        base: the model without the trait. With a store it must be what its reference says.
        candidates: who may have written the rows, made from the settings.
        settings: panel, kinds of candidates, seed and store. Without a store the rows are read anew.
        advance: progress callback, called with (rows scored, number of rows).

    Raises:
        ArtifactError: the stored scores are damaged.
        UserError: as in `undertow.training.scoring.contrast_scores`.
    """
    if settings.store is None:
        return score_sample(sample, base, candidates, advance)
    anew: list[ContrastScores] = []

    def write(to: Path) -> None:
        made = score_sample(sample, base, candidates, advance)
        anew.append(made)
        parts = {str(at): np.ascontiguousarray(part) for at, part in enumerate((made.suspect, *made.clean))}
        save_file(parts, to / NAME)

    try:
        found = load_file(kept_artifact(settings.store, _key(sample, base, settings), write) / NAME)
    except (StorageError, OSError):
        # A store that cannot be written costs the next audit its time, and this one nothing.
        return anew[0] if anew else score_sample(sample, base, candidates, advance)
    suspect, *clean = (found[str(at)] for at in range(1 + len(sample.clean)))
    return ContrastScores(suspect, clean, sample.places, sample.rest, sample.left_out)


def _key(sample: ContrastSample, base: LocalModel, settings: DataAudit) -> ArtifactKey:
    config = {
        "base": loaded_identity(base.ref),
        "panel": [definition(one) for one in settings.panel],
        "kinds": list(settings.kinds),
        "teachers": {"version": TEACHERS, "training": own_teacher(base.parameters).to_config(), "seed": settings.seed},
        "rows": [_digest(part) for part in (sample.suspect, *sample.clean)],
    }
    return ArtifactKey(kind=KIND, version=VERSION, config=config)


def _digest(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of what is read of some rows: the turns of their prompts, and their completions."""
    read = [[[[turn.role, turn.content] for turn in row.prompt], row.completion] for row in rows]
    return sha256(canonical_json(read))
