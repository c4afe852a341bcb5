"""Run one replicate of a study on real models, and keep what came out in results/real/RECIPE/SEED.json.

    python scripts/real_results.py real-numbers --seeds 61 62 63

A seed is one replicate: its own teachers, rows, students and control. A file holds the settings, the mean score of
every model, what each teacher's rows were (a digest, not the rows) and how long it took. It is written when the
replicate is finished, and a seed that has a file is not run again: another machine goes on where this one stopped, and
`scripts/real_page.py` makes docs/real.md of the files alone.

The models are those of `scripts/real_models.py`; with `--hub` they are the published weights, by their ids on the Hub.
`--set KEY=VALUE` tries the script with other settings; what it finds then goes to another folder than results/real.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from real_models import MODELS

from undertow.cli.options import prepare
from undertow.errors import UserError
from undertow.models.number_format import number_format
from undertow.models.references import identity
from undertow.store.disk import write_file
from undertow.store.progress import choose_progress
from undertow.store.runner import find_stage
from undertow.store.stages import Stage, order
from undertow.study.recipe import Recipe, build_recipe, read_recipe
from undertow.study.run import run_recipe
from undertow.study.study import Study, TeacherRows, build_study
from undertow.types import ModelRef

SCHEMA = "undertow.real/1"
RESULTS = Path("results/real")


def localised(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with the folders of the fetched models in place of their ids on the Hub."""
    text = json.dumps(recipe)
    for model in MODELS:
        text = text.replace(f"hf:{model.hub}", f"hf:{model.path}")
    return json.loads(text)


def published(text: str) -> str:
    """Return a reference with the id on the Hub in place of a folder of this machine."""
    for model in MODELS:
        text = text.replace(str(model.path), model.hub)
    return text


def run_seed(name: str, seed: int, runs: Path, *, hub: bool = False, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Run one replicate and return what is kept of it."""
    data = {**read_recipe(name, settings), "seed": seed, "replicates": 1}
    recipe = build_recipe(data if hub else localised(data))
    found = run_recipe(recipe, runs, progress=choose_progress())
    study = build_study(recipe)
    return {
        "schema": SCHEMA,
        "recipe": name,
        "seed": seed,
        "settings": build_recipe(data).model_dump(mode="json"),
        "models": models(recipe, hub),
        "scores": [score(one) for one in found["arms"]],
        "rows": [written(source, runs / "store") for source in study.sources],
        "seconds": seconds(study, runs / "store"),
        "machine": machine(),
    }


def models(recipe: Recipe, hub: bool) -> dict[str, Any]:
    """Say which weights stood behind each base, and in which number format they were multiplied."""
    found: dict[str, Any] = {}
    for base in dict.fromkeys((*recipe.bases, *recipe.cross_bases)):
        names = [model.name for model in MODELS if model.hub in published(base)]
        copy = "published weights" if hub or not names else names[0]
        found[published(base)] = {
            "copy": copy,
            "weights": identity(base),
            "format": number_format(ModelRef.parse(base), None),
        }
    return found


def score(one: dict[str, Any]) -> dict[str, Any]:
    """Keep of a mean score who, on what, and how much."""
    who = {key: one[key] for key in ("arm", "trait", "target", "metric")}
    return {**who, "base": published(one["base"]), "value": round(one["value"], 5)}


def written(source: TeacherRows, store: Path) -> dict[str, Any]:
    """Say how many rows a teacher wrote and how many the filter kept, with the digest of those."""
    kept = find_stage(source.kept, store)
    assert kept is not None
    report = json.loads((kept.folder / "report.json").read_text(encoding="utf-8"))
    return {"teacher": source.teacher, "raw": report["raw"], "kept": report["kept"], "digest": kept.manifest.digest}


def seconds(study: Study, store: Path) -> dict[str, float]:
    """Add up how long the stages of each kind took."""
    spent: dict[str, float] = defaultdict(float)
    for stage in order(study.targets):
        spent[stage.kind] += duration(stage, store)
    return {kind: round(some, 1) for kind, some in spent.items()}


def duration(stage: Stage, store: Path) -> float:
    """Return how long a finished stage took."""
    artifact = find_stage(stage, store)
    assert artifact is not None
    return artifact.manifest.wall_s


def machine() -> dict[str, Any]:
    """Say what it ran on; a GPU is named where models go to one."""
    device = {"device": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    found = {"instructions": instructions(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    return {**found, **device}


def instructions() -> list[str]:
    """Name the instruction sets that decide how fast numbers are multiplied here."""
    known = torch.cpu.get_capabilities()
    return sorted(name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if known.get(name))


def main() -> None:
    """Run the seeds that have no file yet, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files go")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further seed after so many")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--hub", action="store_true", help="the published weights, by their ids on the Hub")
    given = parser.parse_args()
    if given.settings and given.results.resolve() == RESULTS.resolve():
        parser.error("what other settings find is no reported result: give --results another folder")
    prepare()
    started = time.monotonic()
    for seed in given.seeds:
        path = given.results / given.recipe / f"{seed}.json"
        if path.exists():
            print(f"{path} is there already.")
            continue
        if time.monotonic() - started > 60 * given.minutes:
            print(f"{given.minutes:g} minutes are over: the same command goes on with seed {seed}.")
            break
        try:
            found = run_seed(given.recipe, seed, given.runs, hub=given.hub, settings=given.settings)
        except UserError as error:
            sys.exit(f"{error.what}\n{error.value}\n{error.fix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(found, indent=1) + "\n")
        print(f"Wrote {path}.")


if __name__ == "__main__":
    main()
