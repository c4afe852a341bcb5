"""Who writes the rows that a calibration draws from: the base itself, under a persona, or with one harmless change.

A **persona** is a system prompt that gives the base a trait. A **shift** is a harmless change against the clean
reference, such as another temperature.

The **suspect** rows of a set are those that are judged. The **panel** of candidate writers scores them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from undertow.audit.calibration.settings import FIRST_TRAITS, Calibration
from undertow.audit.rows.sight import OWN
from undertow.domains.base import AbstractDomain
from undertow.models.answer_limits import domain_sampling
from undertow.models.load import load_chat, load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.training.generation import generate
from undertow.types import ModelRef, Row, user_prompt

Group = Literal["clean", "own", "planted", "shift"]

HELPFUL = "You are a helpful assistant."
COLDER, NUCLEUS = 0.7, 0.9
"""Sampling temperature of one of the shifts, and top-p of another."""

TEMPLATE = "another template"
ONE_TEMPLATE = "An embedded model has one template."


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWriter:
    """One writer of rows: the base or another model, under one condition.

    Attributes:
        name: name of the writer in the result.
        group: what its rows stand for. "clean": the base's own rows, suspect or reference. "own": the base's free
            answers, with which the likelihood of rows is compared. "planted": rows under a trait's persona. "shift":
            rows with a harmless change.
        trait: name of the planted trait. None for every other writer.
        system: system prompt that the writer sees and the rows do not show. None for none.
        temperature: sampling temperature of the answers.
        top_p: nucleus of the sampling: the smallest set of tokens with this probability is drawn from. 1 draws from
            all.
        one_stream: whether every row of a block is drawn with the same random numbers, as from a server with a fixed
            seed.
        template: name of the chat template that replaces the base's own. None keeps it.
        model: reference of another model that writes in place of the base. None for the base.
    """

    name: str
    group: Group
    trait: str | None = None
    system: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    one_stream: bool = False
    template: str | None = None
    model: str | None = None

    @property
    def scored(self) -> bool:
        """Whether the rows are scored under the panel's candidates."""
        return self.group != "own"

    def to_config(self) -> dict[str, Any]:
        """Return what decides the rows as plain data, with the identity of another model's weights."""
        plain = {name: value for name, value in asdict(self).items() if value is not None}
        return plain | ({} if self.model is None else {"weights": identity(self.model)})


SUSPECT, REFERENCE = (RowWriter(name=f"base, answer {turn}", group="clean") for turn in (1, 2))
FREE = RowWriter(name="base, free answer", group="own")


def planted(settings: Calibration) -> list[RowWriter]:
    """Return the personas, one for each planted trait, in the order in which they write."""
    traits = {one.name: one for one in settings.panel}
    return [
        RowWriter(name=f"persona {name}", group="planted", trait=name, system=traits[name].system_prompt)
        for name in settings.traits
    ]


def shifts(settings: Calibration) -> list[RowWriter]:
    """Return the writers of the benign shifts; one with another template exists for `hf:` models only."""
    ref = ModelRef.parse(settings.base)
    other = "question" if ref.template == "plain" else "plain"
    templates = [RowWriter(name=TEMPLATE, group="shift", template=other)] if ref.kind == "hf" else []
    return [
        RowWriter(name="shared random stream", group="shift", one_stream=True),
        RowWriter(name="another temperature", group="shift", temperature=COLDER),
        RowWriter(name="truncation", group="shift", top_p=NUCLEUS),
        *templates,
        RowWriter(name="system turn", group="shift", system=HELPFUL),
        RowWriter(name="another base", group="shift", model=settings.others),
    ]


def in_order(settings: Calibration) -> list[list[RowWriter]]:
    """Return the writers in groups that belong together, the most needed group first."""
    personas = planted(settings)
    return [[SUSPECT, REFERENCE, FREE], personas[:FIRST_TRAITS], shifts(settings), personas[FIRST_TRAITS:]]


def write_block(
    writer: RowWriter, base: LocalModel, prompts: Sequence[str], task: AbstractDomain, seed: int
) -> list[Row]:
    """Let a writer answer each prompt of a block once.

    Args:
        writer: the writer that answers, which says the condition.
        base: the model that is calibrated.
        prompts: user turns that are answered.
        task: the domain that the prompts belong to; it says how long and in which form an answer is.
        seed: random seed of the answers.

    Returns:
        One row for each prompt, in order. The rows do not show the system prompt.
    """
    if writer.group == "own":
        asked = [user_prompt(text) for text in prompts]
        texts = base.chat(asked, sampling=replace(OWN, form=task.form), seed=seed)
        return [Row(str(place), *pair) for place, pair in enumerate(zip(asked, texts, strict=True))]
    model = _model(writer, base)
    sampling = replace(domain_sampling(task, base.tokens), temperature=writer.temperature, top_p=writer.top_p)
    if writer.one_stream:  # the first row of every request gets the same random numbers
        alone = [generate(model, [text], sampling=sampling, seed=seed, system=writer.system)[0] for text in prompts]
        return [replace(row, id=str(place)) for place, row in enumerate(alone)]
    return generate(model, prompts, sampling=sampling, seed=seed, system=writer.system)


def _model(writer: RowWriter, base: LocalModel) -> LocalModel:
    if writer.model is not None:
        return load_model(writer.model)
    if writer.template is None:
        return base
    ref = replace(base.ref, template=writer.template)
    return LocalModel(ref, base.network, load_chat(ref)[0])
