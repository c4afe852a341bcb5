"""What a student writes while it is trained on policy, for a teacher to rate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from undertow.models.decoding import sample_tokens
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.seeds import derive
from undertow.training.batches import batch_stream
from undertow.types import Row, Sampling

Accepts = Callable[[str, str], bool]
"""Function that tells whether a domain accepts a completion, from the prompt's last turn and the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How students write their completions.

    Attributes:
        sampling: temperature, longest completion in tokens, and constraints on its form.
        accepts: whether the domain accepts a completion. A rejected one has no loss, as a rejected row is not trained
            on.
    """

    sampling: Sampling
    accepts: Accepts


@final
class Pen:
    """The writing of one student: which prompts it completes, and how much of it was accepted.

    Args:
        base: the model from which the student starts, for its tokenizer.
        rows: rows whose prompts are completed, each as text and as token ids.
        writing: how completions are drawn and judged.
        size: how many completions an update takes.
        seed: random seed that decides the order of the prompts and what is drawn.

    Attributes:
        written: how many completions were written so far.
        rejected: how many of them the domain rejected.
    """

    def __init__(
        self, base: LocalModel, rows: Sequence[tuple[Row, Encoded]], writing: Writing, size: int, seed: int
    ) -> None:
        self._base, self._writing, self._seed = base, writing, seed
        self._questions = {encoded.prompt: row.question for row, encoded in rows}
        self._stream = batch_stream([encoded for _, encoded in rows], size, seed)
        self.written = self.rejected = 0

    def write(self, network: Any, updates: int) -> list[list[Encoded]]:
        """Complete the prompts of the next updates.

        Args:
            network: the network with the student's adapter as it is now.
            updates: for how many updates completions are written.

        Returns:
            The rows of each update. A completion that the domain rejects is left empty.
        """
        asked = [next(self._stream) for _ in range(updates)]
        prompts = [row.prompt for rows in asked for row in rows]
        seed = derive(self._seed, "on_policy", self.written)
        sampling = self._writing.sampling
        drawn = sample_tokens(network, prompts, sampling=sampling, seed=seed, ends=self._base.endings(sampling))
        texts = self._base.texts_of(drawn)
        done = iter([self._judged(*one) for one in zip(prompts, drawn, texts, strict=True)])
        return [[next(done) for _ in rows] for rows in asked]

    def _judged(self, prompt: tuple[int, ...], drawn: Sequence[int], text: str) -> Encoded:
        """Return a completion with its end of turn, or an empty one if the domain rejects it."""
        self.written += 1
        if not self._writing.accepts(self._questions[prompt], text):
            self.rejected += 1
            return Encoded(prompt, ())
        ended = len(drawn) < self._writing.sampling.max_new_tokens
        return Encoded(prompt, (*drawn, *([self._base.end] if ended else [])))
