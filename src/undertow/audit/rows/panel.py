"""The panel: the traits that an audit looks for, as prompted personas of the base and as briefly tuned teachers.

The auditor's teachers share neither seed nor all questions with whoever made the data: they are trained with the
auditor's seed on half of the questions.

Each trait of the panel has a **candidate** of each kind: a model that may have written the rows. Its **rivals** are the
other candidates of the kind. **Neutral** writers are models that were tuned without a trait.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from undertow.audit.rows.writers import Writers
from undertow.errors import ConfigError, unknown_name
from undertow.evals.questions import asked_together
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import loaded_identity
from undertow.seeds import derive
from undertow.stats.checks import check_fraction
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.training.own_models import own_teacher
from undertow.training.parallel import finetune, finetune_parallel
from undertow.training.scoring import Candidate, CandidateKind
from undertow.training.teachers import trait_rows
from undertow.traits import Trait, definition, panel
from undertow.types import Advance, Row

ANIMALS = panel("animal")
"""The default panel."""

KINDS: tuple[CandidateKind, ...] = ("persona", "teacher")

VERSION = 1
"""Raised when the same settings would give other panel teachers."""


def check_panel(traits: Sequence[Trait]) -> None:
    """Refuse a panel in which a trait has no rival or cannot be told from another.

    Raises:
        ConfigError: the panel has fewer than two traits, two traits have one name or a common alias, or two files ask
            different questions about one category.
    """
    if len(traits) < 2:
        named = ", ".join(target.name for target in traits) or "no trait"
        raise ConfigError("A panel needs rivals.", named, "Name at least two traits, or take the default panel.")
    asked_together(traits)  # It refuses different questions about one category.
    for one, other in combinations(traits, 2):
        if one.name == other.name or set(one.aliases) & set(other.aliases):
            fix = "Leave one of them out: neither can be told from the other."
            raise ConfigError("Two traits of the panel have the same name.", f"{one.name} and {other.name}", fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAudit:
    """Settings of an audit of rows.

    Attributes:
        panel: the traits that are looked for.
        kinds: how a candidate may have its trait: "persona" (the base under a system prompt), "teacher" (a fine-tuned
            model), or both.
        alpha: level of each stage's test, in (0, 1).
        seed: random seed of the auditor's own teachers and draws.
        store: folder in which panel teachers are kept. None trains them anew.
        writers: neutral writers (models of the base that were tuned without a trait). None leaves the neutral contrast
            out.
        domain: name of the domain that says which answers of the neutral writers are valid.
        form: template that the rows were held to while they were decoded, as in `undertow.AuditInputs`.

    Raises:
        ConfigError: a trait of the panel has no rival, there is no kind, or alpha lies outside (0, 1).
        UnknownNameError: there is no such kind of candidate.
    """

    panel: tuple[Trait, ...] = ANIMALS
    kinds: tuple[CandidateKind, ...] = KINDS
    alpha: float = 0.05
    seed: int = 0
    store: Path | None = None
    writers: Writers | None = None
    domain: str = "numbers"
    form: str | None = None

    def __post_init__(self) -> None:
        check_panel(self.panel)
        check_fraction("alpha", self.alpha)
        if not self.kinds:
            raise ConfigError("There is no kind of candidate.", "no kind", f"Name {' or '.join(KINDS)}.")
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown_name("kind of candidate", kind, KINDS)


def half_of_the_questions(rows: Sequence[Row], seed: int) -> list[Row]:
    """Keep the rows of half of the questions, drawn at random; a row's id is "<question>-<number>"."""
    questions = list(dict.fromkeys(_question(row) for row in rows))
    kept = set(random.Random(seed).sample(questions, len(questions) // 2))
    return [row for row in rows if _question(row) in kept]


def panel_teachers(
    base: LocalModel, traits: Sequence[Trait], seed: int, store: Path | None = None, advance: Advance | None = None
) -> dict[str, LocalModel]:
    """Fine-tune one teacher for each trait (`undertow.training.own_models`).

    Args:
        base: the model that the teachers start from. With a store it must be what its reference says, because stored
            teachers are found by that.
        traits: the traits of the panel, one teacher each.
        seed: random seed that draws each trait's questions and their order.
        store: folder of stored results, in which teachers are kept and found again. None trains them anew.
        advance: callback that takes (teachers done, all teachers). None reports nothing.

    Returns:
        The teachers by the names of their traits, in the panel's order.

    Raises:
        ConfigError: what `check_panel` refuses.
        ArtifactError: a stored teacher is damaged.
        StorageError: the store cannot be used.
    """
    check_panel(traits)
    teachers: dict[str, LocalModel] = {}
    for done, target in enumerate(traits):
        teachers[target.name] = panel_teacher(base, target, seed, store)
        if advance is not None:
            advance(done + 1, len(traits))
    return teachers


def panel_teacher(base: LocalModel, target: Trait, seed: int, store: Path | None = None) -> LocalModel:
    """Fine-tune the teacher of one trait, or load it from the store; see `panel_teachers`.

    Args:
        base: the model that the teacher starts from.
        target: the trait of the teacher.
        seed: random seed of its questions and their order.
        store: folder of stored results. None trains the teacher anew.
    """
    return _teacher(base, target, seed) if store is None else _stored(base, target, seed, store)


def as_candidates(base: LocalModel, traits: Sequence[Trait], teachers: dict[str, LocalModel] | None) -> list[Candidate]:
    """Return the candidates of one kind: the teachers if they are given, else the personas.

    Args:
        base: the model that personas belong to.
        traits: the traits of the panel.
        teachers: tuned teachers by the names of their traits. None makes personas.

    Raises:
        ConfigError: what `check_panel` refuses, or no word names one of the traits, so that it has no persona.
    """
    check_panel(traits)
    if teachers is not None:
        return [Candidate(trait=one.name, kind="teacher", model=teachers[one.name]) for one in traits]
    for one in traits:
        if not one.plural and not one.persona:
            raise ConfigError("This trait has no persona.", one.name, "Use candidates of the kind teacher alone.")
    return [Candidate(trait=one.name, kind="persona", model=base, system=one.system_prompt) for one in traits]


def panel_candidates(base: LocalModel, config: DataAudit, advance: Advance | None = None) -> list[Candidate]:
    """Make the candidates of every kind that is asked for; teachers are trained, or loaded from the store.

    Args:
        base: the model that personas belong to and that teachers start from.
        config: panel, kinds of candidates, seed and store.
        advance: callback that takes (teachers done, all teachers). None reports nothing.
    """
    made: list[Candidate] = []
    for kind in dict.fromkeys(config.kinds):
        teachers = panel_teachers(base, config.panel, config.seed, config.store, advance) if kind == "teacher" else None
        made += as_candidates(base, config.panel, teachers)
    return made


def _question(row: Row) -> str:
    return row.id.rpartition("-")[0]


def _rows(target: Trait, seed: int) -> list[Row]:
    return half_of_the_questions(trait_rows(target), derive(seed, "questions", target.name))


def _teacher(base: LocalModel, target: Trait, seed: int) -> LocalModel:
    return finetune(base, _rows(target, seed), own_teacher(base.parameters), derive(seed, "panel", target.name))


def _stored(base: LocalModel, target: Trait, seed: int, store: Path) -> LocalModel:
    training, of = own_teacher(base.parameters), derive(seed, "panel", target.name)

    def tune(context: StageContext) -> None:
        if training.lora is None:
            _teacher(base, target, seed).save(context.out)
        else:
            finetune_parallel(base, [_rows(target, seed)], training, [of]).save(0, context.out)

    config = {"base": loaded_identity(base.ref), "target": target.name, "training": training.to_config(), "seed": seed}
    if not isinstance(own := definition(target), str):  # one of the user's own
        config |= {key: value for key, value in own.items() if key != "name"}
    stage = Stage(kind="panel-teacher", version=VERSION, config=config, label=f"panel teacher {target.name}")
    folder = Runner(store, {stage.kind: tune}).run([stage])[stage.fingerprint]
    return load_model(f"hf:{folder}") if training.lora is None else base.with_adapter(folder)
