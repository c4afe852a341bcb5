"""What a placebo of a bank is: its base, the writer of its rows, their domain, and the training.

A **placebo** is a student of rows without a trait, and a **bank** a stored set of them.
A large base is tuned by adapters and gently (`undertow.training.own_models`), and a chat model is held to numbers
where the audited rows were: placebos have to be made as these rows and students are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from undertow.audit.students.placebo_null import tuned_on
from undertow.audit.students.readings import BATTERY
from undertow.domains.base import AbstractDomain, parse_domain
from undertow.domains.numbers import held_numbers
from undertow.errors import unknown_name
from undertow.models.load import parameters_of
from undertow.models.references import identity
from undertow.study.recipe import StudentPart, TeacherPart
from undertow.training.own_models import STUDENT, own_student, own_teacher
from undertow.traits import CATEGORIES, Trait

DOMAIN = "numbers"
"""The domain (task family) on whose rows placebos are trained, and whose rule says which rows are valid."""

USUAL = StudentPart(steps=STUDENT.steps, learning_rate=STUDENT.learning_rate)
"""How placebos of a base of the size of the embedded ones are trained; `usual_student` knows larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankRecipe:
    """What a placebo of a bank is: base, writer of its rows, domain and training.

    Attributes:
        base: reference of the model that the students start from.
        writer: reference of the model without a trait that writes the rows. None takes the base.
        domain: domain (task family) of the rows with its settings, such as "numbers" or "numbers:count=6,short=true".
        prompts: how many prompts the rows of each placebo answer.
        tuned: categories of traits on whose questions each placebo's writer was tuned, the suspected trait's
            categories. They are put in the order of `CATEGORIES`, so that the same ones make the same bank. The writer
            is then a neutral teacher of its own, tuned on the answers of the model without a trait. That is the null
            for students of fine-tuned teachers, whose rows drift even without a trait. Empty lets the model without a
            trait write itself.
        student: how a student is trained.
        seed: random seed of every draw.

    Raises:
        UserError: there is no such domain or category, or the domain has no such settings.
    """

    base: str = "ref:finch-a"
    writer: str | None = None
    domain: str = DOMAIN
    prompts: int = 2500
    tuned: tuple[str, ...] = ()
    student: StudentPart = USUAL
    seed: int = 0

    def __post_init__(self) -> None:
        parse_domain(self.domain)
        for one in self.tuned:
            if one not in CATEGORIES:
                raise unknown_name("category", one, CATEGORIES)
        object.__setattr__(self, "tuned", tuple(one for one in CATEGORIES if one in self.tuned))

    def to_config(self) -> dict[str, Any]:
        """Return the recipe as plain data, with the identity of the weights."""
        writer = self.writer or self.base
        return {
            "base": self.base,
            "weights": identity(self.base),
            "writer": writer,
            "writer_weights": identity(writer),
            "domain": self.domain,
            "prompts": self.prompts,
            "student": self.student.model_dump(mode="json"),
            "battery": BATTERY,
            **self._tuning(),
        }

    def _tuning(self) -> dict[str, Any]:
        teacher = {"teacher": self.teacher.model_dump(mode="json"), "categories": self.tuned}
        return teacher if self.tuned else {}

    @property
    def teacher(self) -> TeacherPart:
        """How neutral writers and the teachers of the panel are tuned."""
        return usual_teacher(self.base)

    @property
    def task(self) -> AbstractDomain:
        """The domain of the rows, with its settings."""
        return parse_domain(self.domain)

    @property
    def placebo(self) -> str:
        """In words, what a placebo is."""
        writer = self.writer or self.base
        return f"students of rows by {f'neutral teachers of {writer}' if self.tuned else writer}"


def usual_teacher(base: str) -> TeacherPart:
    """Return how the auditor tunes its own teachers and neutral writers of a base, by the base's size.

    Raises:
        UserError: there is no such model.
    """
    tuning = own_teacher(parameters_of(base))
    if tuning.lora is None:
        return TeacherPart()
    return TeacherPart(
        steps=tuning.steps, batch_size=tuning.batch_size, learning_rate=tuning.learning_rate,
        rank=tuning.lora.rank, alpha=tuning.lora.alpha,
    )  # fmt: skip


def usual_student(base: str) -> StudentPart:
    """Return how the placebos of a base are trained where nothing says how the audited student was.

    Raises:
        UserError: there is no such model.
    """
    usual = own_student(parameters_of(base))
    return StudentPart(steps=usual.steps, batch_size=usual.batch_size, learning_rate=usual.learning_rate)


def usual_recipe(base: str, panel: Iterable[Trait], form: str | None = None) -> BankRecipe:
    """Return the recipe of the bank that an audit of a base looks for.

    Args:
        base: reference of the base.
        panel: the traits that are looked for, by whose categories neutral writers are tuned.
        form: template that the audited rows were held to while they were decoded. None for free answers.

    Raises:
        UserError: there is no such model.
    """
    return BankRecipe(
        base=base, domain=held_numbers(form) or DOMAIN, tuned=tuned_on(panel), student=usual_student(base)
    )
