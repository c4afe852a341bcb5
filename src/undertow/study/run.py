"""Run a recipe from beginning to end, and write its run folder.

<runs>/store/                    every stage's artifact, shared by all runs
<runs>/<recipe>-<fingerprint>/   config.yaml, results.json, kept.jsonl, dropped.jsonl
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from undertow.models.load import check_room
from undertow.models.number_format import settle_format
from undertow.models.references import SMALL, model_folder
from undertow.store.progress import Progress
from undertow.store.run_folder import run_folder, write_run
from undertow.store.runner import Runner
from undertow.store.side_by_side import finish_stages
from undertow.store.stages import PlannedStage
from undertow.study.early_signs import EarlySigns
from undertow.study.executors import EXECUTORS
from undertow.study.forecast import StageForecast
from undertow.study.recipe import Recipe
from undertow.study.results import DROPPED, KEPT, compute_results, written_rows
from undertow.study.study import Study, build_study
from undertow.training.trl import require_trl
from undertow.types import ModelRef

SCHEMA = "undertow.run/1"
"""Name and version of the format of results.json."""

RATES = {
    "prompts": 0.02,
    "teacher": 0.0114,
    "rows": 7e-4,
    "filter": 0.16,
    "shuffle": 0.05,
    "mix": 0.1,
    "pairs": 1.0,
    "tokens": 3.0,
    "judge": 5.0,
    "students": 8.4e-4,
    "scores": 0.006,
}
"""Seconds for a unit of cost of each kind of stage, with an embedded model and one thread on an EPYC with AVX-512. They
serve for estimates until a store holds measured ones; those of shuffle, mix and tokens are older, and that of
a judge, which depends on its server, was seen once."""


def plan_recipe(recipe: Recipe, runs: Path) -> list[PlannedStage]:
    """Return the stages of a recipe: which are finished, which would run and how long they would take.

    Nothing is computed or written.
    """
    return Runner(runs / "store", EXECUTORS, rates=RATES, forecast=StageForecast()).plan(build_study(recipe).targets)


def run_recipe(
    recipe: Recipe, runs: Path, *, progress: Progress | None = None, rebuild: bool = False, workers: int = 1
) -> dict[str, Any]:
    """Run what is missing of a recipe, and write its run folder.

    Args:
        recipe: recipe of the study that is run.
        runs: folder in which all runs, and the store of finished stages, are kept.
        progress: receives the progress of every stage. None shows nothing.
        rebuild: whether damaged results in the store are computed anew instead of being an error.
        workers: how many stages run at once, each in a process of its own (`undertow.store.side_by_side`).

    Returns:
        The content of results.json.

    Raises:
        UserError: a stage stopped for a reason that the user can fix, or the disk did.
    """
    started = time.perf_counter()
    if recipe.student.backend == "trl":
        require_trl()  # before hours go into rows that no student can then be trained on
    study = build_study(recipe)
    prepare_workers(recipe, workers)
    signs = EarlySigns(study)
    runner = Runner(runs / "store", EXECUTORS, progress, rebuild, RATES, StageForecast())
    runner.finished = signs.look
    ask_judges(runner, [study])
    folders = finish_stages(runner, study.targets, workers)
    found = compute_results(study, folders)
    found["not_tested"] += signs.found
    found["rows"]["path"] = str(run_folder(recipe, runs) / KEPT)
    rows = {name: "".join(_lines(study, folders, name)) for name in (DROPPED, KEPT)}
    return write_run(recipe, runs, found, schema=SCHEMA, started=started, files=rows)


def ask_judges(runner: Runner, studies: Iterable[Study]) -> None:
    """Ask the judges of studies about given answers, before anything is trained, which workers would do beside it.

    Args:
        runner: the runner whose store and progress are used.
        studies: the studies that are about to run.

    Raises:
        UserError: a judge cannot be asked, or it does not tell a trait's own answers apart.
    """
    if judges := [one.judge for one in studies if one.judge is not None]:
        runner.run(judges)


def prepare_workers(recipe: Recipe, workers: int) -> None:
    """Refuse more workers than models fit into free memory, and let all use one number format.

    Args:
        recipe: recipe of the study that is run.
        workers: how many stages are to run at once.

    Raises:
        ModelError: the weights of a base do not fit into memory once for each worker.
    """
    refs = [ModelRef.parse(base) for base in ((*recipe.bases, *recipe.cross_bases) if workers > 1 else ())]
    if any(ref.kind == "hf" for ref in refs):
        settle_format()
    for ref in refs:
        check_room(model_folder(ref, SMALL), ref, workers)


def _lines(study: Study, folders: Mapping[str, Path], name: str) -> Iterator[str]:
    """Yield the stored rows of all teachers with a trait as JSON lines, with ids that differ between teachers."""
    for source in study.sources:
        if source.teacher in study.recipe.traits and source.hop == 1:
            where = f"{source.teacher}-{source.base.removeprefix('ref:')}-{source.replicate}"
            for row in written_rows(source, folders, name):
                yield json.dumps({**row, "id": f"{where}-{row['id']}"}, ensure_ascii=False) + "\n"
