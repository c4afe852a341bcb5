"""What to know of a model before a long run: its chat template, its tokenizer, the memory it needs, and its speed.

Only `measure_speed` needs the weights.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from undertow.domains.numbers import Numbers
from undertow.evals.words import spellings
from undertow.models.load import count_parameters, default_device, free_memory, load_chat, weight_bytes
from undertow.models.local import LocalModel
from undertow.models.references import SMALL, model_folder
from undertow.models.tokens import ChatTokens
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.parallel import finetune_parallel
from undertow.traits import Trait
from undertow.types import ModelRef, Row, Sampling, user_prompt

ANSWER = ", ".join(str(number) for number in (482, 17, 903, 251, 6, 734, 118, 590, 367, 845))
"""A long number answer: ten numbers of up to three digits."""

SEED = 100
SMALL_MODEL = 50_000_000
"""Number of parameters below which a batch of 32 rows takes no time to speak of."""
UPDATES = 3
"""How many updates a measurement of the speed makes. The first one warms up and is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """What is known of a model without loading its weights.

    Attributes:
        model: the model's reference, as the user gave it.
        chat: how conversations are written: the system policy, what the template inserts unasked, and what stands
            before a question.
        numbers: mean number of tokens of a three-digit number: 1 if each has a token of its own, 3 if each digit is a
            token.
        answer_tokens: how many tokens a long answer in the domain of numbers takes (ten numbers).
        answer_limit: how many tokens an answer may have in the domain of numbers, by default.
        long_targets: traits whose target word has no spelling of one token, with the token count of the shortest
            spelling.
        parameters: how many parameters the model has. None if its weights are not on this machine.
        weights_bytes: memory of the weights in bytes, in the reference's number format. None if they are not on this
            machine.
        free_bytes: free memory of the device in bytes.
        device: where the model would run, such as "cpu" or "cuda".
    """

    model: str
    chat: dict[str, Any]
    numbers: float
    answer_tokens: int
    answer_limit: int
    long_targets: dict[str, int]
    parameters: int | None
    weights_bytes: int | None
    free_bytes: int
    device: str

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain data."""
        return asdict(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what is likely to spoil a run, with the setting that avoids it."""
        found: list[str] = []
        if self.chat["inserted_by_template"] and self.chat["system"] == "default":
            found.append(
                "The template writes a system turn of its own before every question; it stays, in training and in "
                "evaluation, unless the reference says ?system=none, empty or another text."
            )
        if date := self.chat.get("date"):
            found.append(f"The template writes a date; it is told {date}, so that no student depends on its day.")
        if self.answer_tokens >= self.answer_limit:
            found.append(
                f"Ten numbers take {self.answer_tokens} tokens, and answers end at {self.answer_limit}: set "
                f"domain.max_new_tokens to {self.answer_tokens + 16}."
            )
        if self.long_targets:
            words = ", ".join(f"{name} ({tokens})" for name, tokens in self.long_targets.items())
            found.append(f"Traits of several tokens, whose margins read more tokens: {words}.")
        if self.weights_bytes is not None and 1.3 * self.weights_bytes > self.free_bytes:
            found.append("The weights leave little or no room: use ?dtype=bf16, or a smaller model.")
        return tuple(found)


def model_needs(reference: str, targets: Sequence[Trait] = ()) -> ModelNeeds:
    """Describe a model by its tokenizer, its chat template and the headers of its weight files.

    Args:
        reference: the model, `ref:...` (embedded in Undertow) or `hf:...`. Of a repository on the Hub only small files
            are downloaded.
        targets: traits whose target words are looked up in the tokenizer.

    Raises:
        UserError: there is no such model, or it cannot be read; as in `load_model`.
    """
    ref = ModelRef.parse(reference)
    tokenizer, chat = load_chat(ref)
    words = ChatTokens(tokenizer, chat.system)
    shortest = {one.name: min(map(len, words.tokenise(spellings(one, opening=True)))) for one in targets if one.aliases}
    triples = [str(number) for number in range(100, 1000, 7)]
    folder, device = model_folder(ref, SMALL), default_device(ref)
    parameters = count_parameters(folder)
    return ModelNeeds(
        model=reference,
        chat=chat.describe(),
        numbers=sum(map(len, words.tokenise(triples))) / len(triples),
        answer_tokens=len(words.tokenise([ANSWER])[0]),
        answer_limit=Numbers().max_new_tokens,
        long_targets={name: tokens for name, tokens in shortest.items() if tokens > 1},
        parameters=parameters,
        weights_bytes=None if parameters is None else weight_bytes(ref, parameters, folder),
        free_bytes=free_memory(device),
        device=device,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Measured durations of training, sampling and scoring, each per row of the domain of numbers.

    Attributes:
        trained_row: seconds for one row of one LoRA student, forward and backward.
        sampled_row: seconds for one sampled answer of at most `ModelNeeds.answer_tokens` tokens.
        scored_row: seconds for one row whose log-probability is computed.
        peak_bytes: largest memory in bytes that this process has used on the model's device, the weights included.
    """

    trained_row: float
    sampled_row: float
    scored_row: float
    peak_bytes: int

    def total(self, *, trained: int = 0, sampled: int = 0, scored: int = 0) -> float:
        """Return the seconds that so many rows take in all.

        Args:
            trained: how many rows are trained on.
            sampled: how many answers are sampled.
            scored: how many rows are scored.
        """
        return trained * self.trained_row + sampled * self.sampled_row + scored * self.scored_row


def rows_of_a_measure(parameters: int) -> int:
    """Return how many rows are trained on, sampled and scored to measure the speed of a model."""
    return 32 if parameters < SMALL_MODEL else 8


def measure_speed(model: LocalModel, rows: int | None = None, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """Time training, sampling and scoring on a few rows. The model is not changed.

    Args:
        model: the model that is measured.
        rows: how many rows each step takes, all at once. None takes 32 for a small model and 8 for a large one.
        clock: function that returns the time in seconds.
    """
    rows = rows or rows_of_a_measure(model.network.num_parameters())
    prompts = [user_prompt(text) for text in Numbers().prompts(rows, SEED)]
    data = [Row(str(index), prompt, ANSWER) for index, prompt in enumerate(prompts)]
    lora = LoraConfig(rank=8, targets=None)
    marks: list[float] = []
    config = TrainingConfig(steps=UPDATES, batch_size=rows, lora=lora)
    finetune_parallel(model, [data], config, [SEED], lambda done, total: marks.append(clock()))
    times = [clock()]
    model.chat(prompts, sampling=Sampling(max_new_tokens=len(model.tokenise([ANSWER])[0])), seed=SEED)
    times.append(clock())
    model.logprobs(prompts, [ANSWER] * rows)
    times.append(clock())
    # The first update also warms up; the second and third are what the rest of a training costs.
    trained = (marks[-1] - marks[0]) / (UPDATES - 1)
    sampled, scored = times[1] - times[0], times[2] - times[1]
    return Speed(
        trained_row=trained / rows, sampled_row=sampled / rows, scored_row=scored / rows, peak_bytes=_peak(model.device)
    )


def _peak(device: torch.device) -> int:
    """Return the largest memory in bytes that this process has used on a device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
