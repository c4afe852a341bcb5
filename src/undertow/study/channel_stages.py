"""The stages that a channel adds to a study: pairs of answers, and teachers whose probabilities are learnt.

In the channel rows a student depends on its teacher's rows alone, and nothing is added here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from undertow.seeds import derive
from undertow.store.stages import Stage
from undertow.study.executors import VERSIONS
from undertow.study.recipe import Recipe
from undertow.study.teacher_rows import TeacherRows
from undertow.training.channels.settings import ROWS, Distilling, PreferenceChannel


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """What the stage of a group of students needs besides their rows.

    Attributes:
        members: further settings of each student.
        config: further settings of the group.
        parents: further stages that the group depends on, by role.
    """

    members: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parents: Mapping[str, Stage] = field(default_factory=dict[str, Stage])


@final
class ChannelStages:
    """Lays out the stages that a recipe's channel adds.

    Args:
        recipe: recipe of the study whose students learn by the channel.
        models: what a stage's configuration says about each base.
        filtered: function that returns the stage which filters the rows of a given stage.
    """

    def __init__(
        self, recipe: Recipe, models: Mapping[str, Mapping[str, Any]], filtered: Callable[[Stage], Stage]
    ) -> None:
        self._recipe, self._models, self._filtered = recipe, models, filtered
        self._channel = recipe.student.channel

    def data(self, source: TeacherRows) -> Stage:
        """Return the stage of which students of a teacher learn: its rows, or pairs of answers.

        Args:
            source: the rows of the teacher.
        """
        channel = self._channel
        if not isinstance(channel, PreferenceChannel):
            return source.data
        other = self._untraited(source, "rejected")
        config: dict[str, Any] = {"how": channel.pairs}
        if channel.pairs == "written":
            parents = {"chosen": source.kept, "rejected": other}
        else:
            parents = {"first": self._untraited(source, "second"), "second": other, **_weights(source)}
            config |= {**self._models[source.base], "system": source.rows.config["system"]}
        label = f"pair answers for the {source.teacher} teacher {source.replicate + 1}"
        return Stage(kind="pairs", version=VERSIONS["pairs"], config=config, parents=parents, label=label)

    def _untraited(self, source: TeacherRows, which: str) -> Stage:
        """Return the stage with the untouched base's answers to a teacher's prompts, drawn with a seed of its own."""
        written = source.rows
        seed = derive(self._recipe.seed, which, source.replicate)
        config = {**self._models[source.base], "system": None, "sampling": written.config["sampling"], "seed": seed}
        label = f"{source.base} answers once more ({which}) {source.replicate + 1}"
        parents = {"prompts": written.parents["prompts"]}
        cost = self._recipe.domain.prompts
        rows = Stage(kind="rows", version=VERSIONS["rows"], config=config, parents=parents, label=label, cost=cost)
        return self._filtered(rows)

    def teaching(self, sources: Sequence[TeacherRows]) -> Teaching:
        """Return what a group of students needs besides its rows.

        Args:
            sources: the rows of each student's teacher.
        """
        channel = self._channel
        if channel == ROWS:
            return Teaching(members=[{} for _ in sources])
        config: dict[str, Any] = {"channel": channel.model_dump(mode="json")}
        if not isinstance(channel, Distilling):
            return Teaching(members=[{} for _ in sources], config=config)
        stages = dict.fromkeys(stage for source in sources for stage in _weights(source).values())
        roles = {stage: f"teacher-{place:02d}" for place, stage in enumerate(stages)}
        members = [
            {
                "teacher": next((roles[stage] for stage in _weights(source).values()), None),
                "taught_by": source.base,
                "system": source.rows.config["system"],
            }
            for source in sources
        ]
        bases = {source.base: self._models[source.base]["weights"] for source in sources}
        domain = self._recipe.domain
        config |= {"teacher_bases": bases, "domain": domain.config, "sampling": domain.sampling.to_json()}
        return Teaching(members=members, config=config, parents={role: stage for stage, role in roles.items()})


def _weights(source: TeacherRows) -> Mapping[str, Stage]:
    """Return the stage that made the teacher's weights, by role. Empty if it has none of its own."""
    return {role: stage for role, stage in source.rows.parents.items() if role == "teacher"}
