"""The folder of one run: the recipe as it was run (config.yaml) and what came out (results.json)."""

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
    """A recipe of any kind."""

    @property
    def name(self) -> str:
        """Name of the recipe."""
        ...

    @property
    def question(self) -> str:
        """What it asks, one sentence."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return every setting as plain data."""
        ...


def run_folder(recipe: NamedRecipe, runs: Path) -> Path:
    """Return where the results of a recipe lie; the name holds a hash of all its settings."""
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
    """Write the run folder of a recipe; return the content of results.json.

    Args:
        recipe: kept as config.yaml.
        runs: folder of all runs.
        found: what came out.
        schema: name and version of the results' form.
        started: of `time.perf_counter`.
        files: further text files by name, written before the results.

    Raises:
        StorageError: the disk is full or may not be written.
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
