"""What an audit is asked, known before any model is loaded: sizes of files, names of models, content of the store.

From this the time that an audit will take is estimated, and missing inputs are named. The **panel** is the list of
traits that are looked for. A **placebo** is a student of rows without a trait, and a **bank** a stored set of placebos.
**Neutral** teachers and writers were tuned without a trait.
"""

import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, cast

from undertow.audit.budget import UNLIMITED, AuditBudget
from undertow.audit.finding import Claim
from undertow.audit.verdict import CLAIMS, Plan, declare
from undertow.data.census import Census
from undertow.data.pairs import PairCensus
from undertow.data.reading import split_source
from undertow.data.shapes import NAMES
from undertow.data.writer_record import WriterRecord
from undertow.domains.base import DOMAINS, domain
from undertow.models.gguf_files import unpacked_before
from undertow.models.references import SMALL, adapter_folder, gguf_file, model_folder
from undertow.traits import Trait, panel
from undertow.types import ModelRef, Row

DOMAIN = "numbers"
"""The domain (task family) whose prompts an audit can let the base answer, and on whose rows students of a bank are
trained."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be audited or ranked, and with which options.

    Attributes:
        base: reference of the model that is, or was, trained on the rows.
        rows: counts and a sample of the suspect rows. None if no rows are audited.
        pairs: counts of the suspect preference pairs. None if no pairs are audited.
        reference: counts of the clean rows that the suspect rows are compared with. None if there are none.
        student: reference of the audited student. None if no student is audited.
        teacher: reference of the audited teacher. None if no teacher is audited.
        control: reference of a student of rows without a trait. None if there is none.
        prompts: whether prompts of the student's deployment are given.
        traits: the panel. Empty takes every built-in animal.
        named: names of the panel's traits as the command gave them; commands that the audit suggests repeat them.
        store: folder in which panel teachers, neutral writers and placebo banks are kept.
        alpha: error probability of the whole audit, in (0, 1).
        seed: random seed of the audit's own draws and teachers.
        writer: what is known of the model that wrote the rows. None if nothing is.
        writer_file: path of the file that the knowledge of the writer came from. None if there is none.
        neutral: how many neutral teachers an audit of a teacher alone compares it with. None for any other audit.
        ranking: how rows are ranked, for a command that ranks them and claims nothing. None for an audit.
        out: path of the reference file that the suggested command would write.
        budget: how much of the rows is read. The default reads as much as an audit ever does.
    """

    base: str
    rows: Census | None = None
    pairs: PairCensus | None = None
    reference: Census | None = None
    student: str | None = None
    teacher: str | None = None
    control: str | None = None
    prompts: bool = False
    traits: tuple[Trait, ...] = ()
    named: tuple[str, ...] = ()
    store: Path = Path("runs/store")
    alpha: float = 0.05
    seed: int = 0
    writer: WriterRecord | None = None
    writer_file: Path | None = None
    neutral: int | None = None
    ranking: "Ranking | None" = None
    out: Path = Path("reference.jsonl")
    budget: AuditBudget = UNLIMITED

    @property
    def panel(self) -> tuple[Trait, ...]:
        """The traits that are looked for; in a ranking the one trait for which a teacher is trained, if any."""
        if self.ranking is not None:
            return () if self.ranking.own is None else (self.ranking.own,)
        return self.traits or panel("animal")

    @property
    def form(self) -> str | None:
        """Template that the rows were held to while they were decoded, as the writer's record says; None for none."""
        return None if self.writer is None else self.writer.form

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims between which alpha is split; an audit of a teacher alone has only expression."""
        return CLAIMS if self.neutral is None else ("expression",)

    @property
    def share(self) -> float:
        """The alpha of one claim: the audit's alpha divided by the number of claims."""
        return self.alpha / len(self.claims)

    @property
    def given(self) -> set[str]:
        """Names of the inputs that are present, as the stages' `given` and `unless` use them."""
        parts = ("rows", "pairs", "student", "teacher", "reference", "control", "prompts")
        return {name for name in parts if getattr(self, name)}

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that make a reference on the rows' prompts and audit the rows with it; empty without rows."""
        if self.rows is None:
            return ()
        source, base, out = (shlex.quote(str(one)) for one in (self.rows.source, self.base, self.out))
        known = "" if self.writer_file is None else f" --writer {shlex.quote(str(self.writer_file))}"
        panel = "".join(f" --trait {shlex.quote(one)}" for one in self.named)
        return (
            f"undertow generate {out} --prompts {source} --model {base}{known}",
            f"undertow audit data {source} --base {base} --reference {out}{panel}{known}",
        )

    @property
    def repeated(self) -> dict[str, Any]:
        """What the command gave that the audit's next test repeats; empty where it gave nothing of it."""
        writer = {} if self.writer_file is None else {"writer": str(self.writer_file)}
        return {**({"traits": list(self.named)} if self.named else {}), **writer}

    @property
    def side(self) -> str | None:
        """Which answer of preference pairs the rows are, "chosen" or "rejected"; None for other rows."""
        return None if self.rows is None else split_source(self.rows.source, NAMES)[1].side

    @property
    def answers(self) -> Census | None:
        """Counts of the texts that are read: the rows, or the chosen answers of the pairs."""
        return self.rows if self.pairs is None else self.pairs.chosen

    @cached_property
    def stored(self) -> "Stored":
        """What the store holds for this audit, looked up once."""
        return look_into_store(self)

    @cached_property
    def plan(self) -> Plan:
        """The stages that will run and the stage that decides each claim; no stages where rows are only ranked."""
        if self.ranking is not None:
            return Plan(stages=(), alpha=self.alpha)
        writers = {"writers"} if self.stored.writers else set[str]()
        return declare(self.given | writers, self.alpha, self.claims)

    @cached_property
    def accepted(self) -> dict[str, int]:
        """How many rows of the sample each domain (task family) accepts, by the domain's name."""
        return {} if self.rows is None else {name: accepted(self.rows.sample, name) for name in DOMAINS}

    @cached_property
    def folder(self) -> Path | None:
        """The local folder of the base's config and tokenizer; None for a GGUF file that was never unpacked."""
        ref = ModelRef.parse(self.base)
        packed = gguf_file(ref)
        return model_folder(ref, SMALL) if packed is None else unpacked_before(packed)

    @cached_property
    def has_template(self) -> bool | None:
        """Whether the base has a chat template; None where only loading it would tell."""
        ref, folder = ModelRef.parse(self.base), self.folder
        if folder is None:
            return None
        own = adapter_folder(ref)
        return ref.template is not None or has_template(folder) or (own is not None and has_template(own))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How rows are ranked by how much they seem to carry a trait.

    Attributes:
        own: the trait for which the auditor trains a teacher to rank by. None if a student or teacher is given to rank
            by.
        confirmed: whether the ranking is confirmed by training students without a part of the rows.
        ranked: whether rows are scored one by one. That is not needed where they are swapped by a key that the user
            gives.
        swapped: how rows are swapped for clean answers to find the subset that carries the trait, as (students before
            any subset is looked at, students of subsets, answers to each prompt). None if no rows are swapped.
    """

    own: Trait | None = None
    confirmed: bool = False
    ranked: bool = True
    swapped: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store holds for an audit.

    Attributes:
        writers: how many neutral writers it holds if they are enough for a verdict, else 0.
        placebos: how many placebo students are in the bank that would be chosen. 0 without a bank.
        placebo_rows: how many rows half of these students were trained on at least (median). 0 without a bank.
    """

    writers: int = 0
    placebos: int = 0
    placebo_rows: int = 0


def accepted(rows: tuple[Row, ...], name: str) -> int:
    """Return how many rows a domain of this name accepts as valid answers."""
    task = domain(name)
    return sum(not task.reject_reasons(row.completion, row.question) for row in rows)


def has_template(folder: Path) -> bool:
    """Tell whether a model folder holds a chat template, in a file of its own or in the tokenizer's config."""
    files = ("chat_template.jinja", "chat_template.json")
    if any((folder / name).exists() for name in files) or any(folder.glob("additional_chat_templates/*.jinja")):
        return True
    try:
        found: Any = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool(cast(dict[str, Any], found).get("chat_template"))


def look_into_store(asked: Asked) -> Stored:
    """Return what the store holds for an audit.

    Nothing that is slow to import is imported for a kind of which the store has no folder.

    Raises:
        ArtifactError: a stored result is damaged.
    """
    asks_writers = asked.rows is not None or asked.teacher is not None
    writers = _writers(asked) if asks_writers and (asked.store / "neutral-writers").is_dir() else 0
    asks_placebos = asked.rows is not None or asked.student is not None
    placebos, rows = _placebos(asked) if asks_placebos and (asked.store / "placebos").is_dir() else (0, 0)
    return Stored(writers=writers, placebos=placebos, placebo_rows=rows)


def _writers(asked: Asked) -> int:
    from undertow.audit.rows.writers import stored_writers
    from undertow.audit.students.placebo_null import needed

    found = stored_writers(_bank(asked), asked.store)
    return len(found) if found is not None and len(found) >= needed(asked.share) else 0


def _placebos(asked: Asked) -> tuple[int, int]:
    """Return the number of placebos, and the median of the numbers of rows that they were trained on."""
    from undertow.audit.students.bank import choose_bank
    from undertow.study.training_record import TrainingRecord, read_training

    recipe = _bank(asked)
    if asked.student is not None:
        record = read_training(asked.student)
    else:
        # Shadows are trained on the rows that the budget draws.
        rows = 0 if asked.rows is None else asked.budget.taken(asked.rows.rows)
        record = TrainingRecord(student=recipe.student, rows=rows)
    found = choose_bank(recipe, asked.store, record, asked.share, drawn=asked.student is None)
    return (0, 0) if found is None else (len(found), int(median(found.rows)))


def _bank(asked: Asked) -> Any:
    from undertow.audit.students.bank_recipe import usual_recipe

    return usual_recipe(asked.base, asked.panel, asked.form)
