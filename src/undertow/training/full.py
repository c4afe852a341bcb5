"""Full fine-tuning of one model, with the batches and the loss of LoRA students (`undertow.training.parallel`)."""

import copy
from collections.abc import Sequence

import torch

from undertow.errors import ConfigError, EmptyDataError
from undertow.models.local import LocalModel
from undertow.training.batches import batch_stream, collate
from undertow.training.config import TrainingConfig
from undertow.training.encoding import encoded_rows
from undertow.training.objective import completion_losses
from undertow.types import Advance, Row


def finetune_full(
    model: LocalModel,
    rows: Sequence[Row],
    config: TrainingConfig,
    seed: int,
    advance: Advance | None = None,
) -> LocalModel:
    """Train every weight of a copy of the model on the completions of the rows.

    Args:
        model: where training starts; it is not changed.
        rows: the training rows, each a prompt and its completion.
        config: settings of the training, with `lora` set to None.
        seed: random seed that decides the order of the rows.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The trained copy, in the number format of the given model.

    Raises:
        ConfigError: `config.lora` is set.
        EmptyDataError: there are no rows.
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
    """
    if config.lora is not None:
        raise ConfigError("Full fine-tuning trains no adapters.", config.lora, "Leave `lora` out, or train students.")
    if not rows:
        raise EmptyDataError("There is nothing to train on.", "0 rows", "Look at the filter's reject reasons.")
    # Small updates are lost in bfloat16, so the weights are float32 while they are trained.
    network = copy.deepcopy(model.network).float().requires_grad_(True)
    if not config.train_embeddings:
        network.get_input_embeddings().requires_grad_(False)
        network.get_output_embeddings().requires_grad_(False)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)
    source = batch_stream(encoded_rows(model, rows, config.too_long), config.batch_size, seed)
    for step in range(config.steps):
        batch = collate(next(source))
        completion_losses(network, batch).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimiser.param_groups[0]["lr"] = config.rate(step)
        optimiser.step()
        optimiser.zero_grad()
        if advance is not None:
            advance(step + 1, config.steps)
    network = network.to(model.network.dtype).requires_grad_(False).eval()
    return LocalModel(model.ref, network, model.tokenizer)
