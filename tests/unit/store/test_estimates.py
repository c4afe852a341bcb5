"""Durations come from measured rates, then from the table, and are unknown otherwise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from undertow.store import stages as estimates
from undertow.store.artifacts import MANIFEST, Manifest, write_artifact
from undertow.store.stages import Estimates, Stage


def stage(seed: int, cost: float = 1.0, kind: str = "students") -> Stage:
    return Stage(kind=kind, version=1, config={"seed": seed}, cost=cost)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_artifact(tmp_path / "other", stage(0).key, lambda out: None).manifest


def test_the_table_serves_until_something_was_measured(tmp_path: Path, manifest: Manifest) -> None:
    found = Estimates(tmp_path, {"students": 0.5})
    assert found.of(stage(1, cost=100)) == 50.0
    found.learn(replace(manifest, wall_s=20.0, cost=10.0))
    assert found.of(stage(1, cost=100)) == 200.0


def test_median_seconds_per_unit_of_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> None:
    """Three stored results took 1, 2 and 30 s per unit; a damaged fourth and a temporary folder are passed over."""
    walls = {stage(seed).fingerprint: wall_s for seed, wall_s in ((1, 4.0), (2, 2.0), (3, 60.0))}
    for name in [*walls, ".tmp-00"]:
        (tmp_path / "students" / name).mkdir(parents=True)
    read: Callable[[Path], Manifest] = estimates.read_manifest
    monkeypatch.setattr(
        estimates,
        "read_manifest",
        lambda folder: replace(manifest, wall_s=walls[folder.name], cost=2.0) if folder.name in walls else read(folder),
    )
    (tmp_path / "students" / "ffff").mkdir()
    (tmp_path / "students" / "ffff" / MANIFEST).write_text("{")
    assert Estimates(tmp_path, {}).of(stage(4, cost=3)) == 3 * 2.0


def test_what_nothing_is_known_about(tmp_path: Path) -> None:
    found = Estimates(tmp_path, {"rows": 2.0})
    assert found.of(stage(1)) is None
    assert found.total([stage(1), stage(1, kind="rows")]) is None
    assert found.total([stage(1, kind="rows"), stage(2, kind="rows", cost=3)]) == 8.0
    assert found.total([]) == 0


def test_another_base_is_not_as_quick_as_an_embedded_one(tmp_path: Path, manifest: Manifest) -> None:
    found = Estimates(tmp_path, {"students": 0.5})
    large = Stage(kind="students", version=1, config={"base": "hf:large"}, cost=2.0)
    assert found.of(large) is None and found.of(stage(1, cost=2.0)) == 1.0
    found.learn(replace(manifest, config={"base": "hf:large"}, wall_s=80.0, cost=2.0))
    assert found.of(large) == 80.0 and found.of(stage(1, cost=2.0)) == 1.0
