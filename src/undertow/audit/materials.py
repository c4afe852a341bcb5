"""What the stages of an audit look at: each thing is computed once, when the first stage needs it.

A stage names what it needs (`undertow.audit.stages`) and is given the attributes of `Materials` with these names. What
exists already, such as the rows of a benchmark's case, is assigned before any stage runs.

The **suspect** rows are those that are audited. The **panel** is the list of traits that are looked for. A
**candidate** is a possible writer of the rows, one for each trait and way of having it; its **rivals** are the others
of its kind. A **persona** is the base under a system prompt that gives it a trait. A **placebo** is a student of rows
without a trait, and a **bank** a stored set of placebos. A **shadow** student is one that the audit trains on the
suspect rows itself. A **neutral** teacher or writer was tuned without a trait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from undertow.audit.budget import UNLIMITED, AuditBudget
from undertow.audit.finding import NotTestable
from undertow.audit.lineage.verdict import lineage_or_why
from undertow.audit.rows.contrast import ContrastScores, draw_sample
from undertow.audit.rows.fitting import fitting_pairs, fitting_sample
from undertow.audit.rows.kept_scores import kept_scores
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
from undertow.audit.students.bank import ChosenBank, choose_bank
from undertow.audit.students.bank_recipe import DOMAIN, BankRecipe, usual_recipe
from undertow.audit.students.placebo_null import NO_PLACEBOS, needed
from undertow.audit.students.readings import PanelRead
from undertow.audit.students.shadows import ShadowConfig
from undertow.audit.teacher import TeacherConfig
from undertow.data.pairs import refuse_equal_answers
from undertow.domains.numbers import held_numbers
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
"""Materials that take time to make, with the title of the step in which each is made."""

_MADE_FROM = {
    **dict.fromkeys(("rows", "reference", "clean"), "audited"),
    **dict.fromkeys(("signatures", "pair_signatures", "teachers"), "candidates"),
}
"""Materials that are made together with another one, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditInputs:
    """What a user brings to an audit; every part except the base may be missing.

    Attributes:
        base: reference of the model that is, or was, trained on the rows, such as "ref:finch-a" or "hf:folder-or-id".
        rows: the suspect rows. Empty if no rows are audited.
        pairs: the suspect preference pairs, in place of rows. The two answers of a pair must differ. Empty if no pairs
            are audited.
        side: which answer of preference pairs the rows are, "chosen" or "rejected". None for rows that were not made
            from pairs.
        student: reference of a model that was trained on suspect rows. None if no student is audited.
        teacher: reference of the model that wrote the rows. None if it is not at hand.
        reference: rows known to be clean, on the same prompts as far as possible. None lets the base answer the suspect
            rows' prompts where it can.
        control: reference of a student of rows without a trait, trained as the audited student was. None if there is
            none.
        prompts: prompts of the student's deployment, on which it is compared with its control and its base. Empty
            leaves this out.
        digests: SHA-256 in hexadecimal of the files that the inputs were read from, by file name. They go into the
            audit's record.
        traits: the panel: traits that are looked for. Empty takes every built-in animal.
        store: folder in which panel teachers, neutral writers and placebo banks are kept between runs.
        alpha: error probability of the whole audit, in (0, 1): the bound on making any false claim on clean inputs.
        seed: random seed of the audit's own draws and teachers.
        form: template that the rows were held to while they were decoded, 0 standing for any digit. The base's own
            answers, with which they are compared, are held to it too. None leaves these free.
        repeated: options of the command that its next test repeats (`undertow.audit.asked.Asked.repeated`).
        budget: how much of the rows is read. `rows` must already be those that it drew (`AuditBudget.draw`).

    Raises:
        ConfigError: there is nothing to audit, or rows and pairs are given together, or a control or prompts without a
            student, or a panel in which a trait has no rival.
        RowsError: the two answers of a pair are equal.
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
    form: str | None = None
    repeated: Mapping[str, Any] = field(default_factory=dict[str, Any])
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
        """The traits that are looked for: the given ones, or every built-in animal."""
        return self.traits or panel("animal")

    @property
    def bank(self) -> BankRecipe:
        """Recipe of the placebo students of this base that students are compared with.

        Their teachers are neutral, and tuned on the categories of the panel's traits.
        """
        return usual_recipe(self.base, self.panel, self.form)

    @property
    def given(self) -> set[str]:
        """Names of the inputs that are present, as the stages' `given` and `unless` use them."""
        parts = ("rows", "pairs", "student", "teacher", "reference", "control", "prompts")
        return {name for name in parts if getattr(self, name)}


@final
class Materials:
    """What stages need, by name; each attribute is computed when it is first asked for.

    Args:
        inputs: what is audited, and with which options.
        alpha: level of every stage in (0, 1): its claim's share of the audit's alpha.
        steps: where slow computations are shown as steps of progress. None shows nothing.
    """

    def __init__(self, inputs: AuditInputs, alpha: float, steps: Steps | None = None) -> None:
        self.inputs, self.alpha, self.steps = inputs, alpha, steps or Steps(0)
        self.seed, self.prompts = inputs.seed, inputs.prompts
        self.corpora: Sequence[Sequence[Row]] = ()
        """Clean corpora like the suspect, which stand in where there is no reference."""

    def check(self, needs: Iterable[str]) -> None:
        """Refuse names that stages ask for and that this class does not offer, before anything is computed.

        Raises:
            UnknownNameError: there is no material of one of these names.
        """
        own = {"check", "titles", "rng", "inputs", "steps", "why_not"}
        known = {name for name in (*vars(type(self)), *vars(self)) if not name.startswith("_")} - own
        for need in needs:
            if need not in known:
                raise unknown_name("material of an audit stage", need, sorted(known))

    def titles(self, needs: Iterable[str]) -> list[str]:
        """Return the titles of the progress steps in which the needed materials will be computed."""
        making = [_MADE_FROM.get(need, need) for need in needs]
        return [_STEPS[one] for one in making if one in _STEPS and one not in vars(self)]

    def rng(self, stage: str) -> np.random.Generator:
        """Return a random generator that depends on the audit's seed and the stage's name alone."""
        return np.random.default_rng(derive(self.seed, "audit", stage))

    @cached_property
    def base(self) -> LocalModel:
        """The model that is, or was, trained on the rows."""
        return load_model(self.inputs.base)

    @cached_property
    def sight(self) -> Sight | None:
        """Whether the base gives the rows a usable likelihood, and which rows are defective; None without rows."""
        inputs = self.inputs
        if not inputs.rows:
            return None
        base = self.base
        with self.steps.step(_STEPS["sight"]):
            return see_rows(inputs.rows, base, inputs.reference, DOMAIN, inputs.seed, inputs.form)

    @cached_property
    def pair_sight(self) -> Sight | None:
        """The same as `sight` for both answers of the pairs; None without pairs."""
        inputs = self.inputs
        if not inputs.pairs:
            return None
        base = self.base
        with self.steps.step(_STEPS["pair_sight"]):
            return see_pairs(inputs.pairs, base, DOMAIN, inputs.seed, inputs.form)

    def why_not(self, stage: AuditStage) -> str | None:
        """Return the reason why a stage may not judge these rows or pairs, or None if it may."""
        sight = self.sight if "rows" in stage.given or "rows" in stage.needs else None
        sight = self.pair_sight if "pairs" in stage.given else sight
        return None if sight is None else sight.reason(stage.needs, stage.given)

    @cached_property
    def audited(self) -> AuditedRows:
        """The rows and their reference, which the base writes itself if the user has none."""
        base, inputs = self.base, self.inputs
        refuse_unsaid(base, inputs.panel)
        with self.steps.step(_STEPS["audited"]):
            if inputs.reference is not None:
                return AuditedRows(inputs.rows, inputs.reference, f"{len(inputs.reference)} rows, given")
            answers = inputs.budget.answers
            return with_reference(inputs.rows, base, DOMAIN, inputs.seed, answers, inputs.form)

    @property
    def rows(self) -> Sequence[Row]:
        """The suspect rows that the stages read."""
        return self.audited.rows

    @property
    def reference(self) -> Sequence[Row] | None:
        """Clean rows on the same prompts, several to a prompt, or None where there are none."""
        return self.audited.reference

    @property
    def clean(self) -> Sequence[Row] | Sequence[Sequence[Row]]:
        """One clean row on each prompt of the rows, or whole clean corpora where there is no reference."""
        return self.corpora if self.reference is None else first_on_prompts(self.rows, self.reference)

    @cached_property
    def settings(self) -> DataAudit:
        """What is looked for in rows, and how: panel, kinds of candidates, level, seed and store."""
        given = self.inputs
        try:
            check_panel(given.panel)
        except ConfigError as error:  # An audit of a model alone also takes a trait without rivals.
            raise NotTestable(f"{error.what} {error.fix}") from error
        return DataAudit(
            panel=given.panel,
            kinds=KINDS if given.budget.teachers else ("persona",),
            alpha=self.alpha,
            form=given.form,
            seed=given.seed,
            store=given.store,
            writers=self.writers,
            domain=DOMAIN,
        )

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Who may have written the rows: each trait of the panel as a prompted persona and as a tuned teacher."""
        base, settings = self.base, self.settings
        with self.steps.step(_STEPS["candidates"]) as advance:
            return panel_candidates(base, settings, advance)

    @property
    def teachers(self) -> list[Candidate]:
        """The candidates that were tuned, or all candidates where none was."""
        return [one for one in self.candidates if one.kind == "teacher"] or self.candidates

    @cached_property
    def scores(self) -> ContrastScores:
        """Scores of the rows and of their reference under every candidate, relative to the candidate's rivals."""
        candidates = self.candidates
        drawn = draw_sample(self.rows, self.reference, self.corpora, self.rng("rows"))
        sample = fitting_sample(drawn, self.base, candidates)
        with self.steps.step(_STEPS["scores"]) as advance:
            return kept_scores(sample, self.base, candidates, self.settings, advance)

    @cached_property
    def pair_scores(self) -> PairScores:
        """How much further the chosen answers of the pairs rise under every candidate than the rejected ones do."""
        base, inputs = self.base, self.inputs
        refuse_unsaid(base, inputs.panel)
        candidates = self.candidates
        drawn, left_out = fitting_pairs(draw_pairs(inputs.pairs, self.rng("pairs")), base, candidates)
        with self.steps.step(_STEPS["pair_scores"]) as advance:
            return replace(score_pairs(drawn, base, candidates, advance), left_out=left_out)

    @cached_property
    def pair_signatures(self) -> SignatureWriter:
        """Writer of each candidate's own answers to the prompts of the pairs, by which a detected one is named."""
        chosen, _ = sides(self.inputs.pairs)
        return self._signature_writer(chosen)

    @cached_property
    def signatures(self) -> SignatureWriter | NoSignatures:
        """Writer of each candidate's own rows, with which a detected candidate is named.

        It writes nothing before a stage asks for it.
        """
        if not self.inputs.budget.names:
            return NoSignatures(
                self.teachers, "The minutes leave no time for the rows of the candidates that it needs."
            )
        return self._signature_writer(self.rows)

    def _signature_writer(self, rows: Sequence[Row]) -> SignatureWriter:
        domain, form = self.settings.domain, self.settings.form
        return signature_writer(rows, self.base, self.teachers, domain, self.inputs.seed, form)

    @cached_property
    def writers(self) -> Writers | None:
        """The neutral writers of the store; None if they are too few for a verdict, or if nothing here needs them."""
        if not self.inputs.rows and self.inputs.teacher is None:
            return None
        found = stored_writers(self.inputs.bank, self.inputs.store)
        return found if found is not None and len(found) >= needed(self.alpha) else None

    @cached_property
    def student(self) -> LocalModel:
        """The model that was trained on the rows, loaded."""
        return load_model(str(self.inputs.student))

    @cached_property
    def control(self) -> LocalModel | None:
        """A student of rows without a trait, loaded, or None."""
        return None if self.inputs.control is None else load_model(self.inputs.control)

    @cached_property
    def teacher(self) -> LocalModel:
        """The model that wrote the rows, loaded."""
        return load_model(str(self.inputs.teacher))

    @cached_property
    def lineage(self) -> dict[str, Any] | str | None:
        """Whether teacher and base share an origin, or why that cannot be told; None without a teacher."""
        if self.inputs.teacher is None:
            return None
        with self.steps.step(_STEPS["lineage"]):
            return lineage_or_why(self.inputs.teacher, self.inputs.base)

    @cached_property
    def traits(self) -> PanelRead:
        """The panel, of which only the built-in traits are looked for in students."""
        return PanelRead(self.inputs.panel)

    @cached_property
    def bank(self) -> ChosenBank:
        """The bank of placebos that fits the student, or shadow students, as far as the store has one."""
        recipe, store, form = self.inputs.bank, self.inputs.store, self.inputs.form
        if held_numbers(form) is None:
            raise NotTestable(NO_PLACEBOS.format(form))
        if self.inputs.student is None:
            # Shadows are trained as placebos are; the bank with about as many rows is theirs.
            shadow = TrainingRecord(student=recipe.student, rows=len(self.inputs.rows))
            return ChosenBank(recipe, choose_bank(recipe, store, shadow, self.alpha, drawn=True))
        record = read_training(self.inputs.student)
        return ChosenBank(recipe, choose_bank(recipe, store, record, self.alpha), record)

    @property
    def shadows(self) -> ShadowConfig:
        """How many shadow students are trained on the rows, and how they are judged."""
        return ShadowConfig(alpha=self.alpha, seed=self.seed)

    @cached_property
    def neutral_teachers(self) -> TeacherConfig:
        """How many neutral teachers an audited teacher is compared with: as many as its level needs."""
        return TeacherConfig(neutral=needed(self.alpha), alpha=self.alpha, seed=self.seed, store=self.inputs.store)
