"""Stages and what they depend on.

A stage names a piece of work by its kind, version, config and parents; its fingerprint says where the result lies. The
code that does the work is found by the kind at run time (`undertow.experiment.runner`), so a stage is plain data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from undertow.errors import ConfigError
from undertow.fingerprints import ArtifactKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One piece of work; stages of equal fingerprint are equal.

    Attributes:
        kind: which executor does the work.
        version: version of that executor; raise it when the same config gives another result.
        config: full settings, JSON values only; copied, so later changes to the original do not reach the stage.
        parents: the stages whose results it reads, by the role they play.
        label: what the user sees while it runs; the kind if not given. Not part of the fingerprint.
        cost: amount of work in any unit that running time is proportional to within one kind, such as steps times
            students; used for estimates only and not part of the fingerprint.
        key: the artifact it makes.
        fingerprint: of kind, version, config and the parents' fingerprints.

    Raises:
        ConfigError: the config holds something without a stable text form, or the cost is not positive.
    """

    kind: str = field(compare=False)
    version: int = field(compare=False)
    config: Mapping[str, Any] = field(compare=False, repr=False)
    parents: Mapping[str, "Stage"] = field(default_factory=dict[str, "Stage"], compare=False, repr=False)
    label: str = field(default="", compare=False)
    cost: float = field(default=1.0, compare=False)
    key: ArtifactKey = field(init=False, compare=False, repr=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.cost > 0:
            raise ConfigError(
                "The cost of a stage is not positive.", self.cost, "Leave it out or give a number above 0."
            )
        parents = dict(self.parents)
        fingerprints = {role: parent.fingerprint for role, parent in parents.items()}
        key = ArtifactKey(kind=self.kind, version=self.version, config=self.config, parents=fingerprints)
        derived = {"parents": parents, "config": key.config, "key": key, "fingerprint": key.fingerprint}
        for name, value in {**derived, "label": self.label or self.kind}.items():
            object.__setattr__(self, name, value)


def order(targets: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return the targets and all they depend on, each once and after its parents.

    Depth first, so that the first target is finished before work that only the second one needs begins: an
    interrupted run has whole replicates to show.
    """
    ordered: dict[Stage, None] = {}
    pending = list(reversed(list(targets)))
    while pending:
        missing = [parent for parent in pending[-1].parents.values() if parent not in ordered]
        if missing:
            pending.extend(reversed(missing))
        else:
            ordered[pending.pop()] = None
    return tuple(ordered)
