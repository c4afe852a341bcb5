"""How long some work with a model takes, estimated before any weights are loaded.

Tokens are counted with the model's own tokenizer. Seconds come from the sizes in its config and one short matrix
product on this machine, and never fall below what starting every operation costs.
"""

from collections.abc import Sequence
from typing import TypeVar, final

from undertow.evals.loads import Load
from undertow.models.load import count_parameters, load_chat
from undertow.models.references import SMALL, model_folder
from undertow.models.speed import base_speed
from undertow.models.tokens import ChatTokens
from undertow.types import ModelRef, Prompt, Row, Sampling

_Item = TypeVar("_Item")

COUNTED = 64
"""How many prompts or rows are counted at most, evenly spread over all."""

TEXT_S = 0.002
"""Smallest seconds of reading a context with all that may follow it, as with an embedded model."""

PROMPT_S, TOKEN_S = 5e-4, 5e-6
"""Smallest seconds of a prompt that is answered, and of a token read or written for an answer, as with an embedded
model. A row of 80 tokens with a prompt of its own takes 0.9 ms, a word in answer to a prompt that others answer too
0.04 ms."""

TRAINED_ROW_S = 8e-4
"""Smallest seconds of a row in an update, as with an embedded model."""

LOAD_S, LOAD_PARAMETER_S = 0.1, 1e-8
"""Seconds of loading any model, and further seconds for each of its parameters."""


@final
class Forecast:
    """Estimates how long work with one model takes.

    Args:
        reference: reference of the model, `ref:` or `hf:`.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, reference: str) -> None:
        ref = ModelRef.parse(reference)
        tokenizer, chat = load_chat(ref)
        self.words = ChatTokens(tokenizer, chat.system)
        folder = model_folder(ref, SMALL)
        self.parameters = count_parameters(folder)
        self.speed = base_speed(ref, folder)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> float:
        """Return the mean number of tokens that the model is shown of a prompt, counted in some of them."""
        rendered = self.words.render(list(some_of(prompts)))
        return sum(map(len, rendered)) / max(1, len(rendered))

    def row_tokens(self, rows: Sequence[Row]) -> float:
        """Return the mean number of tokens of a row, prompt and completion, counted in some of them."""
        some = some_of(rows)
        answers = self.words.tokenise([row.completion for row in some])
        return self.prompt_tokens([row.prompt for row in some]) + sum(map(len, answers)) / max(1, len(some))

    def answer_tokens(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer has, its end included where a form says how long it is."""
        form = sampling.form
        return sampling.max_new_tokens if form is None else len(self.words.tokenise([form])[0]) + 1

    @property
    def loading(self) -> float:
        """Seconds of loading the model."""
        return LOAD_S + LOAD_PARAMETER_S * (self.parameters or 0)

    def seconds(self, load: Load) -> float | None:
        """Return how many seconds a load takes; None where the config does not say the sizes."""
        if self.speed is None:
            return None
        if not load.written:
            return max(self.speed.reading(load.tokens), TEXT_S * load.texts)
        prompts = load.texts if load.prompts is None else load.prompts
        return max(self.speed.writing(load.tokens), PROMPT_S * prompts + TOKEN_S * load.tokens)

    def training(self, rows: float, tokens: float) -> float | None:
        """Return how many seconds training takes; None where the config does not say the sizes.

        Args:
            rows: how many rows pass through the model, over all updates and students.
            tokens: how many tokens these rows have together.
        """
        return None if self.speed is None else max(self.speed.training(tokens), TRAINED_ROW_S * rows)


def some_of(items: Sequence[_Item]) -> Sequence[_Item]:
    """Return about `COUNTED` of some items, evenly spread over all."""
    return items[:: max(1, len(items) // COUNTED)]
