"""Runs a recipe from beginning to end and writes its run folder.

<runs>/store/                    every stage's artifact, shared by all runs
<runs>/<recipe>-<fingerprint>/   config.yaml, results.json, kept.jsonl, dropped.jsonl
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from undertow.experiment.estimates import PlannedStage
from undertow.experiment.executors import EXECUTORS
from undertow.experiment.progress import Progress
from undertow.experiment.recipe import Recipe
from undertow.experiment.results import compute_results
from undertow.experiment.runner import Runner
from undertow.experiment.study import Study, build_study
from undertow.fingerprints import canonical_json, sha256
from undertow.provenance import library_versions
from undertow.rows import read_rows, write_rows
from undertow.storage import storage_errors
from undertow.types import Row

SCHEMA = "undertow.run/1"


class NamedRecipe(Protocol):
    """What a run folder is named after."""

    @property
    def name(self) -> str:
        """Name of the recipe."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return every setting as plain data."""
        ...


RATES = {
    "prompts": 0.02,
    "teacher": 0.006,
    "rows": 5.2e-4,
    "filter": 0.06,
    "shuffle": 0.05,
    "mix": 0.1,
    "tokens": 3.0,
    "students": 3.7e-4,
    "scores": 0.03,
}
"""Seconds per unit of cost with an embedded model on two free cores (medians of the runs of 2026-11-24), until a store
holds measured ones."""


def run_folder(recipe: NamedRecipe, runs: Path) -> Path:
    """Return where the results of a recipe lie; the name holds a hash of all its settings."""
    return runs / f"{recipe.name}-{sha256(canonical_json(recipe.model_dump(mode='json')))[:8]}"


def plan_recipe(recipe: Recipe, runs: Path) -> list[PlannedStage]:
    """Return which stages are finished, which would run and how long they would take; nothing is written."""
    return Runner(runs / "store", EXECUTORS, rates=RATES).plan(build_study(recipe).targets)


def run_recipe(
    recipe: Recipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False
) -> dict[str, Any]:
    """Run what is missing of a recipe, and write its run folder.

    Args:
        recipe: the study.
        runs: folder of all runs.
        progress: told about every stage.
        rebuild: replace corrupt artifacts instead of refusing them.

    Returns:
        The content of results.json.

    Raises:
        UserError: a stage stopped for a reason the user can fix, or the disk did.
    """
    started = time.perf_counter()
    study = build_study(recipe)
    folders = Runner(runs / "store", EXECUTORS, progress, rebuild, RATES).run(study.targets)
    found = compute_results(study, folders)
    folder = run_folder(recipe, runs)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = _write_rows(study, folders, folder)
    results = {
        "schema": SCHEMA,
        "run_dir": str(folder),
        "wall_s": time.perf_counter() - started,
        **found,
        "rows": {**found["rows"], "path": str(path)},
        "versions": dict(library_versions()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(folder / "config.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    write_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    return results


def _write_rows(study: Study, folders: Mapping[str, Path], folder: Path) -> Path:
    """Copy the rows of all teachers with a trait into the run folder, kept and dropped apart; return the kept."""
    for name in ("dropped.jsonl", "kept.jsonl"):
        write_rows(folder / name, _rows(study, folders, name))
    return folder / "kept.jsonl"


def _rows(study: Study, folders: Mapping[str, Path], name: str) -> Iterator[Row]:
    for source in study.sources:
        if source.teacher in study.recipe.traits and source.hop == 1:
            where = f"{source.teacher}-{source.base.removeprefix('ref:')}-{source.replicate}"
            for row in read_rows(folders[source.kept.fingerprint] / name):
                yield replace(row, id=f"{where}-{row.id}")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with storage_errors(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
