"""What to know of a model before hours are spent on it: what it sees, how it spells, what it needs, how long it takes.

Nothing here needs the weights but `measure_speed`.
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
"""Parameters up to which a batch of 32 rows takes no time to speak of."""
UPDATES = 3
"""Updates whose time is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """What is known of a model without its weights.

    Attributes:
        model: its reference.
        chat: the system policy, what the template inserts unasked, and what stands before a question.
        numbers: tokens of a number of three digits: 1, or 3 if each digit is one; in between if it depends.
        answer_tokens: tokens of a long number answer.
        answer_limit: tokens that the domain numbers lets an answer have.
        long_targets: traits without a spelling of one token, with the tokens of the shortest.
        parameters: how many; None if the weights are not here.
        weights_bytes: memory of the weights in the reference's number format; None likewise.
        free_bytes: memory that is free on the device.
        device: where the model would run.
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
        """Return everything as plain data."""
        return asdict(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is likely to spoil a run."""
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
    """Look at a model's tokenizer, template and file headers.

    Args:
        reference: `ref:` or `hf:`; of a repository of the Hub only the small files are fetched.
        targets: traits whose spellings are looked at.

    Raises:
        UserError: as `load_model`.
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
    """Seconds that were measured, each on a few rows of the domain numbers.

    Attributes:
        trained_row: seconds per row of one LoRA student, forward and backward.
        sampled_row: seconds per sampled answer of `answer_tokens` tokens at most.
        scored_row: seconds per row whose log-probability is computed.
        peak_bytes: most memory that this process has used on the model's device, the weights included.
    """

    trained_row: float
    sampled_row: float
    scored_row: float
    peak_bytes: int

    def total(self, *, trained: int = 0, sampled: int = 0, scored: int = 0) -> float:
        """Return the seconds that so many rows take."""
        return trained * self.trained_row + sampled * self.sampled_row + scored * self.scored_row


def rows_of_a_measure(parameters: int) -> int:
    """Return how many rows are learnt, written and read to tell the speed of a model."""
    return 32 if parameters < SMALL_MODEL else 8


def measure_speed(model: LocalModel, rows: int | None = None, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """Train, sample and score a few rows; the model is the same afterwards.

    Args:
        model: who is measured.
        rows: how many each time, all at once; if not given, 32 of a small and 8 of a large model.
        clock: tells the time in seconds.
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
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
