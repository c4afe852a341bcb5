"""Stored studies, banks and teachers are found again: their fingerprints are those of the golden file.

Fingerprints hold kinds, versions and settings, never module paths, so code may move as it likes. Whoever changes what a
stage computes raises its version and writes the file anew in the same commit:

    UNDERTOW_GOLDEN=write python -m pytest tests/truth/test_golden_fingerprints.py
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from undertow.audit.rows.panel import panel_teacher
from undertow.audit.rows.writers import writer_stages
from undertow.audit.students.bank import panel_stage, placebo_stages
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.teacher import TeacherConfig, audit_teacher
from undertow.mitigate.arms import Trial
from undertow.mitigate.verify import GivenRows, Verification, verify
from undertow.mitigate.workbench import Workbench
from undertow.models.load import load_model
from undertow.store.fingerprints import canonical_json, sha256
from undertow.store.runner import Runner
from undertow.store.stages import Stage, order
from undertow.study.load import load_recipe, plan_study
from undertow.study.recipe import packaged_recipes
from undertow.traits import trait
from undertow.types import Row

GOLDEN = Path(__file__).parent / "golden" / "fingerprints.json"
NOT_EMBEDDED = (
    "qwen-7b",
    "real-cross",
    "real-logits",
    "real-numbers",
    "real-teachers",
)  # their fingerprints hold the identity of weights that are not here
EMBEDDED = sorted(set(packaged_recipes()) - set(NOT_EMBEDDED))


def summed_up(stages: Iterable[Stage]) -> dict[str, str]:
    """Return a digest of the fingerprints of each kind, with their number: short, and it says which kind changed."""
    kinds: dict[str, list[str]] = {}
    for stage in order(stages):
        kinds.setdefault(f"{stage.kind}@{stage.version}", []).append(stage.fingerprint)
    return {kind: f"{len(found)} {sha256(canonical_json(found))[:16]}" for kind, found in sorted(kinds.items())}


class Planned(Exception):
    """Stops a function at the point where its stages would run."""


@pytest.fixture
def stages_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Stage]]:
    """Return the stages that a function would run, without running them."""
    found: list[Stage] = []

    def stop(self: Runner, targets: Iterable[Stage]) -> Any:
        found.extend(targets)
        raise Planned

    monkeypatch.setattr(Runner, "run", stop)

    def record(function: Callable[[], object]) -> list[Stage]:
        found.clear()
        with pytest.raises(Planned):
            function()
        return list(found)

    return record


def agrees(name: str, found: dict[str, str]) -> None:
    """Hold what was found to the golden file, or write it there."""
    golden: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("UNDERTOW_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps({**golden, name: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == golden[name]


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_recipe_in_every_tier(name: str, tmp_path: Path) -> None:
    for tier in ("quick", "full"):
        planned = plan_study(load_recipe(name, tier=tier), tmp_path)
        agrees(f"recipe {name} {tier}", summed_up(one.stage for one in planned))


@pytest.mark.parametrize("tuned", [(), ("animal", "tree")])
def test_banks_and_writers(tuned: tuple[str, ...]) -> None:
    recipe = BankRecipe(base="ref:finch-b", tuned=tuned)
    stages = [*placebo_stages(recipe, 60), panel_stage(recipe), *writer_stages(recipe, 60)]
    agrees(f"bank {'neutral' if tuned else 'plain'}", summed_up(stages))


def test_teachers_of_audits(stages_of: Callable[..., list[Stage]], tmp_path: Path) -> None:
    base = load_model("ref:finch-a")
    panel = stages_of(lambda: panel_teacher(base, trait("owl"), 0, tmp_path))
    config = TeacherConfig(neutral=19, store=tmp_path)
    neutral = stages_of(lambda: audit_teacher(base, base, config=config))
    agrees("teachers of audits", summed_up([*panel, *neutral]))


def test_runs_of_a_verification(stages_of: Callable[..., list[Stage]], tmp_path: Path) -> None:
    base = load_model("ref:finch-a")
    rows = (Row(id="0", prompt=(), completion="1, 2, 3"),)
    plan = Verification(trial=Trial(trait=trait("owl"), methods=("mix", "kl")), store=tmp_path)
    stages = stages_of(lambda: verify(plan, GivenRows(suspect=rows, control=rows), Workbench(base=base, clean=rows)))
    agrees("verification", summed_up(stages))
