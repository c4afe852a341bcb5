"""The runner: runs the missing stages of a graph one after another, and keeps whatever is finished."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undertow.errors import ArtifactError, UndertowError, UserError, out_of_memory, unknown_name
from undertow.store.artifacts import Artifact, read_artifact, remove_artifact, write_artifact
from undertow.store.disk import remove_leftovers, storage_errors
from undertow.store.progress import Progress, SilentProgress, TimeLeft
from undertow.store.stages import Estimates, Expected, PlannedStage, Stage, order
from undertow.types import Advance

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """What an executor, the function that does the work of a stage, is given.

    Attributes:
        config: settings of the stage, as JSON values.
        parents: folders of the parents' results by role; they are verified, and only to be read.
        out: empty folder for the result; everything written into it becomes the payload.
        advance: progress callback, to be called with (steps done, steps in all) as often as you like.
    """

    config: Mapping[str, Any]
    parents: Mapping[str, Path]
    out: Path
    advance: Advance


Executor = Callable[[StageContext], None]
"""Function that does the work of one kind of stage; equal config and parents must give equal bytes."""

Finished = Callable[[Stage, Path], None]
"""Callback for every stage whose result is there, called with the stage and the folder of the result."""


def _no_one(stage: Stage, folder: Path) -> None:
    """Ignore a result; the default callback."""


@final
class Runner:
    """Runs stages against one store: what is there is read, what is missing is made.

    Args:
        store: folder of all artifacts, made when the first one is written.
        executors: the function that does the work, for each kind of stage.
        progress: display that is told about every stage; None for a silent one.
        rebuild: whether results are replaced that are corrupt, or were made from other parents than those that are
            there now; otherwise they raise an error.
        rates: seconds per unit of cost for each kind of stage, used for estimates until the store holds a result of
            that kind. None for no rates.
        forecast: returns the expected seconds of a stage of an `hf:` base, whose rates are its own; None for no
            forecast.

    Attributes:
        finished: callback for every result that a run finds or makes, as soon as it is there; set it after
            construction.
    """

    def __init__(
        self,
        store: Path,
        executors: Mapping[str, Executor],
        progress: Progress | None = None,
        rebuild: bool = False,
        rates: Mapping[str, float] | None = None,
        forecast: Expected | None = None,
    ) -> None:
        self.store = store
        self.executors = executors
        self.progress = progress or SilentProgress()
        self._rebuild = rebuild
        self.rates = rates or {}
        self.forecast = forecast
        self.finished: Finished = _no_one

    def plan(self, targets: Iterable[Stage]) -> list[PlannedStage]:
        """Return what a run would do with each stage, in order; nothing is written.

        Args:
            targets: the stages that would be finished; all they depend on is planned too.

        Raises:
            StorageError: the store may not be read.
        """
        planned: list[PlannedStage] = []
        found: dict[Stage, Artifact] = {}
        estimates = Estimates(self.store, self.rates, self.forecast)
        for stage in order(targets):
            problem = None
            try:
                if artifact := find_stage(stage, self.store):
                    _check_parents(stage, artifact, found)
                    found[stage] = artifact
            except ArtifactError as error:
                problem = f"{error.what} {error.value}"
            cached = stage in found
            estimate_s = 0.0 if cached else estimates.of(stage)
            planned.append(PlannedStage(stage=stage, cached=cached, estimate_s=estimate_s, problem=problem))
        return planned

    def run(self, targets: Iterable[Stage]) -> dict[str, Path]:
        """Make every missing result.

        If the run is interrupted or fails, everything finished so far is kept, and the next run goes on from there.

        Args:
            targets: the stages to finish, with all that they depend on.

        Returns:
            The folder of each result by fingerprint, those of the parents included, in the order of the stages.

        Raises:
            UnknownNameError: a stage is of a kind that has no executor.
            ArtifactError: a stored result cannot be used and `rebuild` is off.
            StorageError: the store may not be read or written.
            UserError: a stage stopped for a reason that the user can fix; the message names the stage.
            UndertowError: a stage failed; the message names it and the cause is chained.
        """
        stages, done = self._checked(targets)
        self.progress.start(len(stages))
        try:
            self._finish_all(stages, done)
        finally:
            self.progress.close()
        return {stage.fingerprint: done[stage].folder for stage in stages}

    def missing(self, targets: Iterable[Stage]) -> list[Stage]:
        """Return every stage that has no result yet, in order.

        The checks and the errors are those of `run`.

        Args:
            targets: the stages to finish, with all that they depend on.
        """
        stages, found = self._checked(targets)
        done: dict[Stage, Artifact] = {}
        for stage in stages:
            artifact = found.get(stage)
            if artifact and self._rebuild and any(parent not in done for parent in stage.parents.values()):
                remove_artifact(artifact.folder)  # made from bytes that are made anew, perhaps as others
            elif artifact and self._fits(stage, artifact, done):
                done[stage] = artifact
        return [stage for stage in stages if stage not in done]

    def _checked(self, targets: Iterable[Stage]) -> tuple[Sequence[Stage], dict[Stage, Artifact]]:
        """Return all stages in order, and the results that are there already, each verified.

        Everything is checked before the first stage runs, so that a corrupt result does not surface hours later.
        """
        stages = order(targets)
        for stage in stages:
            if stage.kind not in self.executors:
                raise unknown_name("kind of stage", stage.kind, self.executors)
        remove_leftovers(self.store)
        return stages, {stage: artifact for stage in stages if (artifact := self._usable(stage))}

    def _finish_all(self, stages: Sequence[Stage], done: dict[Stage, Artifact]) -> None:
        """Make what is missing, and add it to `done`."""
        missing = set(stages) - set(done)
        estimates = Estimates(self.store, self.rates, self.forecast)
        for index, stage in enumerate(stages):
            # Another process may have made it meanwhile.
            artifact = done.pop(stage, None) or self._usable(stage)
            if artifact and self._fits(stage, artifact, done):
                logger.info("%s is finished already: %s", stage.label, artifact.folder)
                self.progress.skip(stage.label, index, len(stages))
            else:
                later_s = estimates.total(later for later in stages[index + 1 :] if later in missing)
                left = TimeLeft(stage_s=estimates.of(stage), later_s=later_s)
                self.progress.begin_stage(stage.label, index, len(stages), left)
                artifact = build_stage(stage, self.store, self.executors, self.progress.advance)
                self.progress.end_stage()
                estimates.learn(artifact.manifest)
            done[stage] = artifact
            self.finished(stage, artifact.folder)

    def _usable(self, stage: Stage) -> Artifact | None:
        """Return the verified result of a stage, or None; a corrupt one is removed if the runner rebuilds."""
        try:
            return find_stage(stage, self.store)
        except ArtifactError as error:
            self._remove(stage, error)
            return None

    def _fits(self, stage: Stage, artifact: Artifact, done: Mapping[Stage, Artifact]) -> bool:
        """Tell whether a result was made from the parents that are there now.

        If not, it is removed if the runner rebuilds; otherwise this raises ArtifactError.
        """
        try:
            _check_parents(stage, artifact, done)
        except ArtifactError as error:
            self._remove(stage, error)
            return False
        return True

    def _remove(self, stage: Stage, error: ArtifactError) -> None:
        if not self._rebuild:
            raise error
        logger.warning("Rebuilding %s. %s", stage.label, error.value)
        remove_artifact(stage.key.folder(self.store))


def find_stage(stage: Stage, store: Path) -> Artifact | None:
    """Return the verified result of a stage, or None if there is none.

    Raises:
        ArtifactError: the result is corrupt.
        StorageError: the result may not be read.
    """
    folder = stage.key.folder(store)
    with storage_errors(folder):
        found = folder.exists()
    return read_artifact(folder, stage.fingerprint) if found else None


def build_stage(stage: Stage, store: Path, executors: Mapping[str, Executor], advance: Advance) -> Artifact:
    """Make the result of one stage whose parents' results are in the store.

    Args:
        stage: the stage whose result is made.
        store: folder of all artifacts, in which the parents' results lie.
        executors: the function that does the work, for each kind of stage.
        advance: progress callback, called with (steps done, steps in all).

    Raises:
        UserError: the stage stopped for a reason that the user can fix; the message names the stage.
        UndertowError: the stage failed; the message names it, and the cause is chained.
    """

    def write(out: Path) -> None:
        executors[stage.kind](StageContext(config=stage.config, parents=folders, out=out, advance=advance))

    try:
        parents = {
            role: read_artifact(parent.key.folder(store), parent.fingerprint) for role, parent in stage.parents.items()
        }
        folders = {role: parent.folder for role, parent in parents.items()}
        digests = {role: parent.manifest.digest for role, parent in parents.items()}
        return write_artifact(store, stage.key, write, parent_digests=digests, cost=stage.cost)
    except Exception as error:
        raise _naming(stage, error) from error


def _check_parents(stage: Stage, artifact: Artifact, known: Mapping[Stage, Artifact]) -> None:
    """Raise ArtifactError if a result was made from other bytes than its known parents hold now."""
    for role, parent in stage.parents.items():
        used = artifact.manifest.parent_digests.get(role)
        if parent in known and used != known[parent].manifest.digest:
            raise ArtifactError(
                f"A stored artifact was made from another {role} than the one that is there now.",
                f"{artifact.folder}: expected {role} {used}, found {known[parent].manifest.digest}",
                f"Delete the folder {artifact.folder}, or run again with --rebuild.",
            )


def _naming(stage: Stage, error: Exception) -> UndertowError:
    error = out_of_memory(error, f"{type(error).__name__}: {str(error)[:200]}") or error
    if isinstance(error, UserError):
        return type(error)(f"Stage '{stage.label}' stopped: {error.what}", error.value, error.fix)
    name = f"'{stage.label}' ({stage.kind}/{stage.fingerprint})"
    return UndertowError(f"Stage {name} failed: {type(error).__name__}: {error}")
