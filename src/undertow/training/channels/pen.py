"""What a student writes while it is trained, for a teacher to comment on: on-policy completions."""

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
"""Whether a domain accepts a completion, from the text of the prompt's last turn and the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How students write.

    Attributes:
        sampling: of the completions.
        accepts: what the domain accepts; a completion that it rejects has no loss, as a rejected row has none.
    """

    sampling: Sampling
    accepts: Accepts


@final
class Pen:
    """What one student writes.

    Args:
        base: where it starts, for its tokens.
        rows: whose prompts it completes, as rows and as token ids.
        writing: how.
        size: completions of an update.
        seed: decides the order of the prompts and what is drawn.

    Attributes:
        written: completions so far.
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
            network: the student as it is now.
            updates: how many.

        Returns:
            The rows of each update; a rejected completion is empty.
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
        """Return a completion with its end of turn, or a row without any if the domain rejects it."""
        self.written += 1
        if not self._writing.accepts(self._questions[prompt], text):
            self.rejected += 1
            return Encoded(prompt, ())
        ended = len(drawn) < self._writing.sampling.max_new_tokens
        return Encoded(prompt, (*drawn, *([self._base.end] if ended else [])))
