"""The rows of one teacher of a study, as stages."""

from dataclasses import dataclass

from undertow.store.stages import Stage

CONTROL, NEUTRAL = "control", "neutral"
"""Teachers without a trait: the untouched base, and the base tuned on its own answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRows:
    """The rows of one teacher.

    Attributes:
        teacher: its trait, "control" or "neutral".
        base: where it started.
        replicate: from 0.
        hop: 1 for a teacher, 2 for its student that teaches, and so on.
        rows: all that it wrote.
        kept: what the filter kept.
        data: what students see: the kept rows, or those mixed or shuffled.
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
