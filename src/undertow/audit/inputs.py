"""What a user brings to an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from undertow.audit.bank import BankRecipe
from undertow.audit.panel import check_panel
from undertow.errors import ConfigError
from undertow.traits import Trait, panel
from undertow.types import Prompt, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is audited; every part but the base may be missing.

    Attributes:
        base: reference of the model that is, or was, trained on the rows.
        rows: the suspect rows.
        student: reference of a model that was trained on suspect rows.
        teacher: reference of the model that wrote the rows.
        reference: rows known to be clean, on the same prompts as far as possible; without them the base answers the
            suspect's prompts.
        control: reference of a student of untraited rows, trained as the student was.
        prompts: of the deployment, on which the student is compared with its control and base.
        digests: SHA-256 of the files that these were read from, by name; they go into the card.
        traits: the panel; empty takes every animal.
        store: where panel teachers, neutral writers and placebo banks are kept.
        alpha: error of the whole audit.
        seed: the auditor's own.
    """

    base: str
    rows: Sequence[Row] = ()
    student: str | None = None
    teacher: str | None = None
    reference: Sequence[Row] | None = None
    control: str | None = None
    prompts: Sequence[Prompt] = ()
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    traits: tuple[Trait, ...] = ()
    store: Path = Path("runs/store")
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rows and self.student is None and self.teacher is None:
            fix = "Give rows, a student, a teacher, or several of them."
            raise ConfigError("There is nothing to audit.", "no rows, no student and no teacher", fix)
        if self.student is None and (self.control is not None or self.prompts):
            raise ConfigError("There is no student to compare.", "a control or prompts", "Give the student too.")
        if self.rows:
            check_panel(self.panel)

    @property
    def panel(self) -> tuple[Trait, ...]:
        """The traits that are looked for."""
        return self.traits or panel("animal")

    @property
    def bank(self) -> BankRecipe:
        """The placebos that students are compared with: of neutral teachers, tuned on the panel's categories."""
        return BankRecipe(base=self.base, tuned=tuple(dict.fromkeys(one.category for one in self.panel)))
