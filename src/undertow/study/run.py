"""Runs a recipe from beginning to end and writes its run folder.

<runs>/store/                    every stage's artifact, shared by all runs
<runs>/<recipe>-<fingerprint>/   config.yaml, results.json, kept.jsonl, dropped.jsonl
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.data.rows import read_rows, write_rows
from undertow.store.progress import Progress
from undertow.store.run_folder import make_run_folder, write_run
from undertow.store.runner import Runner
from undertow.store.stages import PlannedStage
from undertow.study.executors import EXECUTORS
from undertow.study.recipe import Recipe
from undertow.study.results import compute_results
from undertow.study.study import Study, build_study
from undertow.training.trl import require_trl
from undertow.types import Row

SCHEMA = "undertow.run/1"


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
    if recipe.student.backend == "trl":
        require_trl()  # before hours go into rows that no student can then be trained on
    study = build_study(recipe)
    folders = Runner(runs / "store", EXECUTORS, progress, rebuild, RATES).run(study.targets)
    found = compute_results(study, folders)
    path = _write_rows(study, folders, make_run_folder(recipe, runs))
    found = {**found, "rows": {**found["rows"], "path": str(path)}}
    return write_run(recipe, runs, found, schema=SCHEMA, started=started)


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
