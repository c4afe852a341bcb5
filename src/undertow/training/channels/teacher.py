"""A teacher whose probabilities are learnt, and how it reads the tokens on which a student is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from undertow.errors import ConfigError, ModelError
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.training.batches import Batch, collate
from undertow.training.scoring import with_persona
from undertow.training.student_loss import predicting_states
from undertow.types import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A model that teaches by its next-token probabilities.

    Attributes:
        model: the teaching model. It has the trait in its weights, or is the base, which a persona gives the trait.
        system: persona of a prompted teacher, a system turn that its student never sees. None for none.
    """

    model: LocalModel
    system: str | None = None


def refuse_teacher(teacher: Teacher, base: LocalModel) -> None:
    """Refuse a teacher from whose probabilities a student of this base cannot learn.

    Args:
        teacher: the teacher whose probabilities are to be learnt.
        base: the model from which the student starts.

    Raises:
        ModelError: the teacher has another vocabulary.
        ConfigError: the teacher is the base itself, from which a student that starts there learns nothing.
    """
    own, other = base.tokenizer, teacher.model.tokenizer
    sizes = [model.network.get_output_embeddings().weight.shape[0] for model in (base, teacher.model)]
    if sizes[0] != sizes[1] or (own is not other and own.get_vocab() != other.get_vocab()):
        what = "The teacher has another vocabulary than its student: their probabilities cannot be compared."
        value = f"{teacher.model.ref} with {sizes[1]:,} tokens, {base.ref} with {sizes[0]:,}"
        raise ModelError(what, value, "Use the channel rows, or a teacher with the student's tokenizer.")
    if teacher.system is None and teacher.model.network is base.network:
        what = "A student that starts as its own teacher has nothing to learn from it: every divergence is 0."
        fix = "Give the control a neutral teacher (teacher.control: neutral), or use the channel rows."
        raise ConfigError(what, str(teacher.model.ref), fix)


class TeacherReading:
    """A teacher together with the rows of one student, each behind the teacher's persona.

    Args:
        teacher: the teacher that reads the rows.
        base: the student's base, whose tokens the completions are.
        rows: the student's training rows, of which the prompts are used.

    Raises:
        UserError: the teacher cannot teach this base, as in `refuse_teacher`.
    """

    def __init__(self, teacher: Teacher, base: LocalModel, rows: Sequence[Row]) -> None:
        refuse_teacher(teacher, base)
        self._teacher = teacher
        shown = [row.prompt if teacher.system is None else with_persona(row, teacher.system) for row in rows]
        asked = base.render([row.prompt for row in rows])
        read = teacher.model.render(shown)
        self._prompts = {tuple(one): tuple(other) for one, other in zip(asked, read, strict=True)}

    @torch.no_grad()
    def states(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return the teacher's hidden states where completion tokens are predicted, float (n, width)."""
        network = self._teacher.model.network
        batch = self._batch(rows).to(self._teacher.model.device)
        return predicting_states(network, batch, 1)

    def logprobs(self, states: torch.Tensor) -> torch.Tensor:
        """Return the teacher's log-probabilities, float (positions, vocabulary), from some of its hidden states."""
        with torch.no_grad():
            return torch.log_softmax(self._teacher.model.head(states), dim=-1)

    def _batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return the rows as the teacher reads them: its own prompt tokens before the student's completion tokens."""
        return collate([Encoded(self._prompts[row.prompt], row.completion, row.skip) for row in rows])

    def same_network(self, network: object) -> bool:
        """Tell whether the teacher is the students' own base behind a persona."""
        return self._teacher.model.network is network
