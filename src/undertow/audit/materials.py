"""What the stages of an audit look at: each thing is made once, when the first stage needs it.

A stage names what it needs (`undertow.audit.stages`), and gets the attributes of these names. What is there already,
such as the rows of a benchmark's case, is assigned before any stage runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from undertow.audit.budget import UNLIMITED, AuditBudget
from undertow.audit.lineage.verdict import lineage_or_why
from undertow.audit.rows.contrast import ContrastScores, draw_sample, score_sample
from undertow.audit.rows.pair_sight import see_pairs
from undertow.audit.rows.pairs import PairScores, draw_pairs, score_pairs, sides
from undertow.audit.rows.panel import KINDS, DataAudit, check_panel, panel_candidates
from undertow.audit.rows.proposal import refuse_unsaid
from undertow.audit.rows.reference import AuditedRows, first_on_prompts, with_reference
from undertow.audit.rows.sight import Sight, see_rows
from undertow.audit.rows.signatures import NoSignatures, SignatureWriter, signature_writer
from undertow.audit.rows.writers import Writers, stored_writers
from undertow.audit.stages import AuditStage
from undertow.audit.steps import Steps
from undertow.audit.students.bank import BankRecipe, ChosenBank, choose_bank, tuned_on
from undertow.audit.students.placebo_null import needed
from undertow.audit.students.readings import PanelRead
from undertow.audit.students.shadows import ShadowConfig
from undertow.audit.teacher import TeacherConfig
from undertow.data.pairs import refuse_equal_answers
from undertow.errors import ConfigError, unknown_name
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.study.training_record import TrainingRecord, read_training
from undertow.training.scoring import Candidate
from undertow.traits import Trait, panel
from undertow.types import PreferencePair, Prompt, Row

_STEPS = {
    "lineage": "lineage of the teacher",
    "sight": "what the base reads",
    "audited": "reference",
    "candidates": "panel teachers",
    "scores": "contrast",
    "pair_sight": "what the base reads",
    "pair_scores": "contrast of pairs",
}
"""What takes time to make, with the title of its step."""

_MADE_FROM = {
    **dict.fromkeys(("rows", "reference", "clean"), "audited"),
    **dict.fromkeys(("signatures", "pair_signatures", "teachers"), "candidates"),
}
"""Materials that come with one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditInputs:
    """What a user brings to an audit; every part but the base may be missing.

    Attributes:
        base: reference of the model that is, or was, trained on the rows.
        rows: the suspect rows.
        pairs: the suspect preference pairs, in place of rows; their answers differ.
        side: which answer of preference pairs the rows are, "chosen" or "rejected"; None for rows of another kind.
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
        budget: how much of them is read; `rows` are those that it drew (`AuditBudget.draw`).

    Raises:
        ConfigError: there is nothing to audit, or rows and pairs at once, or a control or prompts without a student, or
            a panel without rivals.
        RowsError: the answers of a pair are equal.
    """

    base: str
    rows: Sequence[Row] = ()
    pairs: Sequence[PreferencePair] = ()
    side: str | None = None
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
    budget: AuditBudget = UNLIMITED

    def __post_init__(self) -> None:
        if not self.rows and not self.pairs and self.student is None and self.teacher is None:
            fix = "Give rows, a student, a teacher, or several of them."
            raise ConfigError("There is nothing to audit.", "no rows, no student and no teacher", fix)
        if self.pairs and (self.rows or self.reference is not None):
            fix = "Audit them apart; the rejected answers of pairs are their reference."
            raise ConfigError("Pairs are audited without rows.", "pairs, and rows or a reference", fix)
        refuse_equal_answers(self.pairs)
        if self.student is None and (self.control is not None or self.prompts):
            raise ConfigError("There is no student to compare.", "a control or prompts", "Give the student too.")
        if self.rows or self.pairs:
            check_panel(self.panel)

    @property
    def panel(self) -> tuple[Trait, ...]:
        """The traits that are looked for."""
        return self.traits or panel("animal")

    @property
    def bank(self) -> BankRecipe:
        """The placebos that students are compared with: of neutral teachers, tuned on the panel's categories."""
        return BankRecipe(base=self.base, tuned=tuned_on(self.panel))

    @property
    def given(self) -> set[str]:
        """Names of the parts that are there."""
        parts = ("rows", "pairs", "student", "teacher", "reference", "control", "prompts")
        return {name for name in parts if getattr(self, name)}


@final
class Materials:
    """What stages need, by name.

    Args:
        inputs: what is audited.
        alpha: level of every stage, its claim's share of the audit's.
        steps: where the steps are shown in which something is made.
    """

    def __init__(self, inputs: AuditInputs, alpha: float, steps: Steps | None = None) -> None:
        self.inputs, self.alpha, self.steps = inputs, alpha, steps or Steps(0)
        self.seed, self.prompts = inputs.seed, inputs.prompts
        self.corpora: Sequence[Sequence[Row]] = ()
        """Clean corpora like the suspect, which stand in where there is no reference."""

    def check(self, needs: Iterable[str]) -> None:
        """Refuse a need before anything is made.

        Raises:
            UnknownNameError: nothing of this name is made.
        """
        own = {"check", "titles", "rng", "inputs", "steps", "why_not"}
        known = {name for name in (*vars(type(self)), *vars(self)) if not name.startswith("_")} - own
        for need in needs:
            if need not in known:
                raise unknown_name("material of an audit stage", need, sorted(known))

    def titles(self, needs: Iterable[str]) -> list[str]:
        """Return the titles of the steps in which what is needed will be made."""
        making = [_MADE_FROM.get(need, need) for need in needs]
        return [_STEPS[one] for one in making if one in _STEPS and one not in vars(self)]

    def rng(self, stage: str) -> np.random.Generator:
        """Return the generator of a stage."""
        return np.random.default_rng(derive(self.seed, "audit", stage))

    @cached_property
    def base(self) -> LocalModel:
        """The model that is, or was, trained on the rows."""
        return load_model(self.inputs.base)

    @cached_property
    def sight(self) -> Sight | None:
        """Whether the base reads the rows, and their defects; None without rows."""
        inputs = self.inputs
        if not inputs.rows:
            return None
        base = self.base
        with self.steps.step(_STEPS["sight"]):
            return see_rows(inputs.rows, base, inputs.reference, inputs.bank.domain, inputs.seed)

    @cached_property
    def pair_sight(self) -> Sight | None:
        """Whether the base reads both answers of the pairs, and their defects; None without pairs."""
        inputs = self.inputs
        if not inputs.pairs:
            return None
        base = self.base
        with self.steps.step(_STEPS["pair_sight"]):
            return see_pairs(inputs.pairs, base, inputs.bank.domain, inputs.seed)

    def why_not(self, stage: AuditStage) -> str | None:
        """Return why a stage may not speak of these rows, or None."""
        sight = self.sight if "rows" in stage.given or "rows" in stage.needs else None
        sight = self.pair_sight if "pairs" in stage.given else sight
        return None if sight is None else sight.reason(stage.needs, stage.given)

    @cached_property
    def audited(self) -> AuditedRows:
        """The rows and their reference, which the base writes if the user has none."""
        base, inputs = self.base, self.inputs
        refuse_unsaid(base, inputs.panel)
        with self.steps.step(_STEPS["audited"]):
            return with_reference(
                inputs.rows, base, inputs.reference, inputs.bank.domain, inputs.seed, inputs.budget.answers
            )

    @property
    def rows(self) -> Sequence[Row]:
        """The suspect rows."""
        return self.audited.rows

    @property
    def reference(self) -> Sequence[Row] | None:
        """Clean rows on the same prompts, or None."""
        return self.audited.reference

    @property
    def clean(self) -> Sequence[Row] | Sequence[Sequence[Row]]:
        """One clean row on each prompt, or clean corpora where there is no reference."""
        return self.corpora if self.reference is None else first_on_prompts(self.rows, self.reference)

    @cached_property
    def settings(self) -> DataAudit:
        """What is looked for in rows, and how."""
        given = self.inputs
        return DataAudit(
            panel=given.panel,
            kinds=KINDS if given.budget.teachers else ("persona",),
            alpha=self.alpha,
            seed=given.seed,
            store=given.store,
            writers=self.writers,
            domain=given.bank.domain,
        )

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Who may have written the rows: the panel as personas and as teachers of the base."""
        base, settings = self.base, self.settings
        with self.steps.step(_STEPS["candidates"]) as advance:
            return panel_candidates(base, settings, advance)

    @property
    def teachers(self) -> list[Candidate]:
        """The candidates that were tuned; all where none was."""
        return [one for one in self.candidates if one.kind == "teacher"] or self.candidates

    @cached_property
    def scores(self) -> ContrastScores:
        """How the rows and their reference score under every candidate."""
        candidates = self.candidates
        sample = draw_sample(self.rows, self.reference, self.corpora, self.rng("rows"))
        with self.steps.step(_STEPS["scores"]) as advance:
            return score_sample(sample, self.base, candidates, advance)

    @cached_property
    def pair_scores(self) -> PairScores:
        """How the chosen answers of the pairs stand above the rejected ones under every candidate."""
        base, inputs = self.base, self.inputs
        refuse_unsaid(base, inputs.panel)
        candidates, drawn = self.candidates, draw_pairs(inputs.pairs, self.rng("pairs"))
        with self.steps.step(_STEPS["pair_scores"]) as advance:
            return score_pairs(drawn, base, candidates, advance)

    @cached_property
    def pair_signatures(self) -> SignatureWriter:
        """Who writes what a candidate's own answers to the prompts of the pairs look like."""
        chosen, _ = sides(self.inputs.pairs)
        return signature_writer(chosen, self.base, self.teachers, self.settings.domain, self.inputs.seed)

    @cached_property
    def signatures(self) -> SignatureWriter | NoSignatures:
        """Who writes what a candidate's own rows look like; nothing is written before a stage asks for it."""
        if not self.inputs.budget.names:
            return NoSignatures(
                self.teachers, "The minutes leave no time for the rows of the candidates that it needs."
            )
        return signature_writer(self.rows, self.base, self.teachers, self.settings.domain, self.inputs.seed)

    @cached_property
    def writers(self) -> Writers | None:
        """The neutral writers of the store, if there are enough of them for a verdict."""
        if not self.inputs.rows and self.inputs.teacher is None:
            return None
        found = stored_writers(self.inputs.bank, self.inputs.store)
        return found if found is not None and len(found) >= needed(self.alpha) else None

    @cached_property
    def student(self) -> LocalModel:
        """The model that was trained on the rows."""
        return load_model(str(self.inputs.student))

    @cached_property
    def control(self) -> LocalModel | None:
        """A student of untraited rows, or None."""
        return None if self.inputs.control is None else load_model(self.inputs.control)

    @cached_property
    def teacher(self) -> LocalModel:
        """The model that wrote the rows."""
        return load_model(str(self.inputs.teacher))

    @cached_property
    def lineage(self) -> dict[str, Any] | str | None:
        """Whether the teacher and the base share an origin, or why nobody can tell; None without a teacher."""
        if self.inputs.teacher is None:
            return None
        with self.steps.step(_STEPS["lineage"]):
            return lineage_or_why(self.inputs.teacher, self.inputs.base)

    @cached_property
    def traits(self) -> PanelRead:
        """The panel, of which models are asked the built-in traits."""
        return PanelRead(self.inputs.panel)

    @cached_property
    def bank(self) -> ChosenBank:
        """The placebos of the student's recipe, or of shadow students, as far as the store has them."""
        recipe, store = self.inputs.bank, self.inputs.store
        if self.inputs.student is None:
            # Shadows are trained as placebos are; the bank with about as many rows is theirs.
            shadow = TrainingRecord(student=recipe.student, rows=len(self.inputs.rows))
            return ChosenBank(recipe, choose_bank(recipe, store, shadow))
        record = read_training(self.inputs.student)
        return ChosenBank(recipe, choose_bank(recipe, store, record), record)

    @property
    def shadows(self) -> ShadowConfig:
        """How many shadow students are trained on the rows, and how they are judged."""
        return ShadowConfig(alpha=self.alpha, seed=self.seed)

    @cached_property
    def neutral_teachers(self) -> TeacherConfig:
        """How many neutral teachers a teacher is compared with: as many as its level takes; a store keeps them."""
        return TeacherConfig(neutral=needed(self.alpha), alpha=self.alpha, seed=self.seed, store=self.inputs.store)
