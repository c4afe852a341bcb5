"""LoRA students at Tinker: open models trained step by step over its API, with weights that can be downloaded.

The loop runs here. The loss is on the completion alone, Adam has torch's settings, and the learning rate falls linearly
to 0, as in `undertow train`. The code was checked against the types of tinker 0.38.0 and a stand-in for its server; the
service itself was never reached. A job that was cut off begins anew, and the steps that it had made are paid for again.
"""

import contextlib
import importlib
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from undertow.errors import MissingExtraError, ModelError, UserError
from undertow.models.endpoints import without_keys
from undertow.models.tokens import ChatTokens, Encoded
from undertow.training.encoding import check_lengths, check_places
from undertow.training.services import RemoteTrainer, RemoteTraining
from undertow.types import Advance, Row

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's decay rates and epsilon, as torch has them and our own trainers use them. Tinker's own defaults are 0.95 for
the second rate and 1e-12."""


@final
@dataclass(frozen=True, kw_only=True)
class TinkerTrainer(RemoteTrainer):
    """Students trained at Tinker. The key is read from the environment variable TINKER_API_KEY.

    Attributes:
        model: the model from which students start, such as "Qwen/Qwen3-8B".
        name: name of the service in references, "tinker".
    """

    model: str
    name: str = "tinker"

    def check(self) -> None:
        """See `RemoteTrainer.check`."""
        tinker = _package()
        with _told(self.model):
            served = tinker.ServiceClient().get_server_capabilities().supported_models
        names = sorted(one.model_name for one in served if one.trainable is not False)
        if self.model not in names:
            raise ModelError("Tinker does not train this model.", self.model, f"It trains: {', '.join(names)}.")

    def train(self, rows: Sequence[Row], training: RemoteTraining, advance: Advance) -> str:
        """See `RemoteTrainer.train`. The result is Tinker's own path of the weights, `tinker://...`."""
        tinker = _package()
        size = min(training.batch_size, len(rows))
        steps = training.epochs * -(-len(rows) // size)
        with _told(self.model):
            service = tinker.ServiceClient()
            client = service.create_lora_training_client(
                self.model, rank=training.rank, seed=training.seed, train_unembed=False
            )
            client = client.result() if hasattr(client, "result") else client
            tokens = encode(client.get_tokenizer(), rows)
            _check(rows, tokens, _longest_context(service, self.model))
            data = [_datum(tinker, row) for row in tokens]
            for step, batch in enumerate(_batches(len(rows), size, training.epochs, training.seed)):
                rate = training.learning_rate * (1.0 - step / steps)
                adam = tinker.AdamParams(learning_rate=rate, beta1=BETAS[0], beta2=BETAS[1], eps=EPSILON)
                passed = client.forward_backward([data[at] for at in batch], "cross_entropy")
                moved = client.optim_step(adam)
                passed.result()
                moved.result()
                advance(step + 1, steps)
            return str(client.save_weights_for_sampler(name=f"undertow-{training.seed}").result().path)


def _package() -> Any:
    """Return the module `tinker`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("tinker")
    except ImportError as error:
        fix = "Run: pip install 'undertow[tinker]'"
        raise MissingExtraError("Training at Tinker needs its package.", "tinker", fix) from error


@contextlib.contextmanager
def _told(model: str) -> Generator[None]:
    """Turn whatever the package raises into an error that says what to do and holds no key."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = without_keys(f"{type(error).__name__}: {error}")[:300]
        fix = "Check TINKER_API_KEY and the network; the same command begins the job again."
        raise ModelError(f"Tinker failed on {model}.", said, fix) from error


def encode(tokenizer: Any, rows: Sequence[Row]) -> list[Encoded]:
    """Return rows as token ids, as a local model with this tokenizer would be trained on them."""
    return ChatTokens(tokenizer).encode(rows)


def _longest_context(service: Any, model: str) -> int | None:
    """Return the most tokens that the service says the model takes, or None if it does not say."""
    served = service.get_server_capabilities().supported_models
    return next((getattr(one, "max_context_length", None) for one in served if one.model_name == model), None)


def _check(rows: Sequence[Row], tokens: Sequence[Encoded], limit: int | None) -> None:
    """Refuse rows that are too long for the model, or that skip tokens that they do not have.

    Args:
        rows: the training rows, each a prompt and its completion.
        tokens: the token ids of each row.
        limit: how many tokens the model's context holds. None skips this check.
    """
    check_places(rows, [len(one.completion) for one in tokens])
    if limit is not None:
        check_lengths(rows, list(map(len, tokens)), limit)


def _datum(tinker: Any, row: Encoded) -> Any:
    """Return a row in Tinker's form: inputs without the last token, targets without the first, loss on the answer."""
    ids = [*row.prompt, *row.completion]
    weights = [0.0] * (len(row.prompt) - 1) + [1.0] * len(row.completion)
    for place in row.skip:
        weights[len(row.prompt) - 1 + place] = 0.0
    inputs = {"target_tokens": ids[1:], "weights": weights}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(ids[:-1]), loss_fn_inputs=inputs)


def _batches(rows: int, size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Yield the row numbers of each batch; the last one of a pass may be smaller."""
    rng = random.Random(seed)
    for _ in range(epochs):
        order = list(range(rows))
        rng.shuffle(order)
        yield from (order[start : start + size] for start in range(0, rows, size))
