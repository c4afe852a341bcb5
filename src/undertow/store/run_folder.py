"""The folder of one run: the recipe as it was run (config.yaml) and the results (results.json)."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from undertow.store.artifacts import library_versions
from undertow.store.disk import storage_errors, write_file
from undertow.store.fingerprints import canonical_json, sha256


class NamedRecipe(Protocol):
    """What every kind of recipe (the description of an experiment as data) has."""

    @property
    def name(self) -> str:
        """Name of the recipe."""
        ...

    @property
    def question(self) -> str:
        """The question that the recipe asks, in one sentence."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return every setting as plain data."""
        ...


def run_folder(recipe: NamedRecipe, runs: Path) -> Path:
    """Return the folder for the results of a recipe; its name holds a hash of all settings."""
    return runs / f"{recipe.name}-{sha256(canonical_json(recipe.model_dump(mode='json')))[:8]}"


def write_run(
    recipe: NamedRecipe,
    runs: Path,
    found: Mapping[str, Any],
    *,
    schema: str,
    started: float,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the run folder of a recipe, and return the content of results.json.

    Args:
        recipe: the recipe that was run; written as config.yaml.
        runs: folder of all run folders.
        found: the results by name, which results.json holds beside facts on the run itself.
        schema: name and version of the format of the results, such as "undertow.run/1".
        started: value of `time.perf_counter` when the run began.
        files: further text files by name, written before the results; None for none.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    folder = run_folder(recipe, runs)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files or {}).items():
        write_file(folder / name, content)
    results = {
        "schema": schema,
        "recipe": recipe.name,
        "question": recipe.question,
        "run_dir": str(folder),
        "wall_s": time.perf_counter() - started,
        **found,
        "versions": dict(library_versions()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_file(folder / "config.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    write_file(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    return results
