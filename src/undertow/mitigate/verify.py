"""Verification of mitigations: several runs of every arm, each stored when it is finished, and a verdict on each."""

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
from undertow.mitigate.workbench import Workbench, panel_trait
from undertow.models.references import identity, loaded_identity
from undertow.seeds import derive
from undertow.store.artifacts import library_versions
from undertow.store.fingerprints import canonical_json, sha256
from undertow.store.progress import Progress
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.traits import Trait, definition, own_definitions
from undertow.types import Row

SCHEMA = "undertow.mitigation/1"
"""Name and version of the format of a verification's result."""
KIND = "mitigation-run"
"""Name under which the store keeps the runs."""
VERSION = 4
"""Version of the measurement, raised when the same settings give other results."""


class Source(Protocol):
    """Interface of the source of each run's rows."""

    @property
    def unit(self) -> str:
        """What differs between runs, in words: what the intervals over runs generalise to."""
        ...

    def config(self, run: int) -> dict[str, Any]:
        """Return everything that the rows of a run depend on, as JSON values."""
        ...

    def rows(self, run: int, bench: Workbench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the suspect rows of a run, and clean rows on the same prompts."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class GivenRows:
    """The same rows in every run, as a user has them.

    Runs then differ in the student's seed and in what the mitigation draws at random.

    Attributes:
        suspect: the suspect rows, the same in every run.
        control: clean rows on the same prompts. If empty, the base answers the suspect rows' prompts.
        unit: what differs between runs, in words.
    """

    suspect: tuple[Row, ...]
    control: tuple[Row, ...] = ()
    unit: str = "a student's seed and the mitigation's draws; the rows and their teacher are the same in every run"

    def config(self, run: int) -> dict[str, Any]:
        """Return hashes of both sets of rows."""
        del run
        return {"suspect": digest(self.suspect), "control": digest(self.control)}

    def rows(self, run: int, bench: Workbench) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the suspect and the clean rows. Only what the base has to write differs between runs.

        Args:
            run: number of the run, from 0; these rows are the same in all.
            bench: the base and the domain, with which missing clean rows are written.

        Raises:
            EmptyDataError: the domain accepts none of the base's own answers.
        """
        del run
        if self.control:
            return self.suspect, self.control
        control = [row for row in bench.answers(bench.base, self.suspect) if row is not None]
        if not control:
            fix = "Give clean rows with --control, or name the rows' domain."
            raise EmptyDataError("The base's own answers are not valid.", f"0 of {len(self.suspect)}", fix)
        return self.suspect, control


def digest(rows: Sequence[Row]) -> str:
    """Return a hash of rows, 20 hexadecimal digits."""
    return sha256(canonical_json([asdict(row) for row in rows]))[:20]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Settings of a verification.

    Attributes:
        trial: the trait, the mitigations and the settings of the students.
        criteria: what a mitigation has to fulfil to be accepted.
        runs: how many runs are made. A verdict needs at least five.
        held_out: clean rows of the task on which no student is trained. If empty, the base writes some.
        store: folder in which finished runs are kept, so that they are not made twice.
        seed: random seed from which each run's own seed is derived.

    Raises:
        ConfigError: no mitigation is named, one is named twice, or a setting is wrong.
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
    """Measure every run that is not in the store yet, and judge the mitigations.

    Args:
        settings: what is verified, and how.
        source: where the rows of each run come from.
        bench: the base model, panel, domain and clean rows. Its seed is replaced by each run's own.
        progress: receives the progress of every run. None reports nothing.

    Returns:
        The verdicts and all measurements as plain data, in the schema undertow.mitigation/1 (docs/mitigations.md).

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
    """Return a run as a stage of the store, with everything on which its result depends."""
    trial = settings.trial
    config = {
        "base": loaded_identity(bench.base.ref),
        "panel": [definition(one) for one in bench.panel],
        "domain": None if bench.domain is None else bench.domain.config(),
        "clean": digest(bench.clean),
        "held_out": digest(settings.held_out),
        "trait": definition(trial.trait),
        "methods": {text: _named(text, bench.panel) for text in trial.methods},
        "student": trial.student.to_config(),
        "prompts": trial.prompts,
        "source": source.config(run),
        "run": run,
        "seed": settings.seed,
    }
    return Stage(kind=KIND, version=VERSION, config=config, label=f"run {run + 1} of {settings.runs}")


def _named(text: str, panel: Sequence[Trait]) -> list[str | dict[str, Any]]:
    """Return what a mitigation names, by content: identities of models, and traits that are not built in."""
    method = mitigation(text)
    if not isinstance(method, DataMitigation):
        return []
    traits = (panel_trait(one, panel) for one in method.traits)
    return [*map(identity, method.models), *own_definitions(traits)]


def verification_json(
    settings: Verification, source: Source, bench: Workbench, runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return a verification's result as plain data, in the schema undertow.mitigation/1.

    Args:
        settings: what was verified, and how.
        source: where the rows came from.
        bench: the base model and the other tools.
        runs: what `undertow.mitigate.arms.measure_run` returned for each run.
    """
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
