"""Verification: several runs of every arm, kept as they are finished, and a verdict on each mitigation."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, final

from undertow.errors import ConfigError, EmptyDataError
from undertow.mitigate.arms import Trial, measure_run
from undertow.mitigate.base import DataMitigation
from undertow.mitigate.judgement import Criteria, judge_runs
from undertow.mitigate.registry import mitigation
from undertow.mitigate.workbench import Workbench
from undertow.models.references import identity, loaded_identity
from undertow.seeds import derive
from undertow.store.artifacts import library_versions
from undertow.store.fingerprints import canonical_json, sha256
from undertow.store.progress import Progress
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.types import Row

SCHEMA = "undertow.mitigation/1"
KIND = "mitigation-run"
VERSION = 3
"""Raised when the same settings give other measurements."""


class Source(Protocol):
    """Where the rows of each run come from."""

    @property
    def unit(self) -> str:
        """What a run is, in words: what its interval generalises over."""
        ...

    def config(self, run: int) -> dict[str, Any]:
        """Return what the rows of a run depend on, JSON values only."""
        ...

    def rows(self, run: int, bench: Workbench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the suspect rows of a run and clean rows on the same prompts."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class GivenRows:
    """The same rows in every run, as a user has them: runs differ in the student's seed and in the mitigation's draws.

    Attributes:
        suspect: the rows.
        control: clean rows on the same prompts; empty lets the base answer the suspect rows' prompts.
    """

    suspect: tuple[Row, ...]
    control: tuple[Row, ...] = ()
    unit: str = "a student's seed and the mitigation's draws; the rows and their teacher are the same in every run"

    def config(self, run: int) -> dict[str, Any]:
        """Return digests of both row sets."""
        del run
        return {"suspect": digest(self.suspect), "control": digest(self.control)}

    def rows(self, run: int, bench: Workbench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the rows; the same in every run but for what the base has to write."""
        del run
        if self.control:
            return self.suspect, self.control
        control = [row for row in bench.answers(bench.base, self.suspect) if row is not None]
        if not control:
            fix = "Give clean rows with --control, or name the rows' domain."
            raise EmptyDataError("The base's own answers are not valid.", f"0 of {len(self.suspect)}", fix)
        return self.suspect, control


def digest(rows: Sequence[Row]) -> str:
    """Return a hash of rows."""
    return sha256(canonical_json([asdict(row) for row in rows]))[:20]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is verified, and how.

    Attributes:
        trial: the trait, the mitigations and the students.
        criteria: what is asked of a mitigation.
        runs: how many; five are the least that a verdict needs.
        held_out: clean rows of the task that no arm is trained on; empty lets the base write some.
        store: where finished runs are kept.
        seed: of all runs.
    """

    trial: Trial
    criteria: Criteria = field(default_factory=Criteria)
    runs: int = 5
    held_out: tuple[Row, ...] = ()
    store: Path = Path("runs/store")
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.trial.methods:
            raise ConfigError("There is nothing to verify.", "no mitigation", "Name one with --method.")
        if len(set(self.trial.methods)) < len(self.trial.methods):
            raise ConfigError("A mitigation is named twice.", ", ".join(self.trial.methods), "Name each once.")
        for text in self.trial.methods:
            mitigation(text)


def verify(
    settings: Verification, source: Source, bench: Workbench, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure every run that is not finished yet, and judge.

    Args:
        settings: what is verified.
        source: the rows of each run.
        bench: the base, the panel, the domain and clean rows; its seed is replaced by each run's.
        progress: told about every run.

    Returns:
        Plain data, schema undertow.mitigation/1.

    Raises:
        UserError: a mitigation does not fit the rows, or the store cannot be used.
    """
    stages = [_stage(settings, source, bench, run) for run in range(settings.runs)]
    place = {stage.fingerprint: run for run, stage in enumerate(stages)}

    def execute(context: StageContext) -> None:
        run = context.config["run"]
        own = replace(bench, seed=derive(settings.seed, "run", run))
        rows, control = source.rows(run, own)
        found = measure_run(settings.trial, own, rows, control, settings.held_out, context.advance)
        (context.out / "run.json").write_text(json.dumps(found), encoding="utf-8")

    folders = Runner(settings.store, {KIND: execute}, progress).run(stages)
    ordered = sorted(folders.items(), key=lambda item: place[item[0]])
    runs = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for _, folder in ordered]
    return verification_json(settings, source, bench, runs)


def _stage(settings: Verification, source: Source, bench: Workbench, run: int) -> Stage:
    trial = settings.trial
    config = {
        "base": loaded_identity(bench.base.ref),
        "panel": [one.name for one in bench.panel],
        "domain": None if bench.domain is None else bench.domain.config(),
        "clean": digest(bench.clean),
        "held_out": digest(settings.held_out),
        "trait": trial.trait.name,
        "methods": {text: [identity(name) for name in _models(text)] for text in trial.methods},
        "student": trial.student.to_config(),
        "prompts": trial.prompts,
        "source": source.config(run),
        "run": run,
        "seed": settings.seed,
    }
    return Stage(kind=KIND, version=VERSION, config=config, label=f"run {run + 1} of {settings.runs}")


def _models(text: str) -> tuple[str, ...]:
    method = mitigation(text)
    return method.models if isinstance(method, DataMitigation) else ()


def verification_json(
    settings: Verification, source: Source, bench: Workbench, runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return a verification as plain data, schema undertow.mitigation/1."""
    trait = settings.trial.trait.name
    return {
        "schema": SCHEMA,
        "trait": trait,
        "base": str(bench.base.ref),
        "runs": len(runs),
        "unit": source.unit,
        "seed": settings.seed,
        "criteria": asdict(settings.criteria),
        "mitigations": judge_runs(runs, trait, settings.criteria),
        "arms": [
            {"run": place, **{key: one[key] for key in ("method", "arm", "margins", "in_context", "prompted", "task")}}
            for place, run in enumerate(runs)
            for one in run["arms"]
        ],
        "about": {
            "panel": [one.name for one in bench.panel],
            "domain": None if bench.domain is None else bench.domain.name,
            "student": json.loads(canonical_json(settings.trial.student.to_config())),
            "undertow": library_versions().get("undertow", "unknown"),
        },
    }
