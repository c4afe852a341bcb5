"""The rows of one teacher of a study, as stages that are still to be run."""

from dataclasses import dataclass

from undertow.store.stages import Stage

CONTROL, NEUTRAL = "control", "neutral"
"""Names of the teachers without a trait: the untouched base, and the base tuned on its own answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRows:
    """The rows of one teacher.

    Attributes:
        teacher: name of the teacher's trait, or "control" or "neutral".
        base: reference of the base from which the teacher started.
        replicate: number of the independent repetition, from 0.
        hop: generation: 1 for a teacher, 2 for its student that teaches in turn, and so on.
        rows: the stage with everything that the teacher wrote.
        kept: the stage with the rows that are valid.
        data: the stage with what students see: the valid rows, or those with clean rows mixed in or tokens left out.
    """

    teacher: str
    base: str
    replicate: int
    hop: int = 1
    rows: Stage
    kept: Stage
    data: Stage

    @property
    def traited(self) -> bool:
        """Whether the teacher has a trait."""
        return self.teacher not in (CONTROL, NEUTRAL)
