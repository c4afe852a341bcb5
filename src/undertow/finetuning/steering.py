"""A steering vector fitted to rows: one vector in the residual stream learns, the model stays as it is.

Morgulis and Hewitt (arXiv:2604.25783) make teachers this way: the vector maximises the probability of the trait's rows.
"""

from collections.abc import Callable, Sequence

import torch

from undertow.errors import EmptyDataError
from undertow.finetuning.batches import collate, stream
from undertow.finetuning.config import TrainingConfig
from undertow.finetuning.objective import completion_losses
from undertow.models.adapters import add_after
from undertow.models.local import LocalModel
from undertow.types import Row


def fit_vector(
    model: LocalModel,
    rows: Sequence[Row],
    config: TrainingConfig,
    *,
    layer: int,
    seed: int,
    advance: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Fit the vector that makes the completions of the rows likely.

    Args:
        model: who is steered; unchanged afterwards.
        rows: the dataset.
        config: recipe; adapters and embeddings play no part.
        layer: after which block the vector is added, from 0.
        seed: decides the order of the rows.
        advance: called with (updates done, updates in all).

    Returns:
        float [width].

    Raises:
        EmptyDataError: there are no rows.
        ModelError: the model has no such layer.
    """
    if not rows:
        raise EmptyDataError("There is nothing to fit a vector to.", "0 rows", "Give the rows of a trait.")
    network = model.network
    vector = torch.zeros(model.width, device=model.device, requires_grad=True)
    optimiser = torch.optim.AdamW([vector], lr=config.learning_rate, weight_decay=0.0)
    source = stream(model.encode(rows), config.batch_size, seed)
    handle = add_after(network, layer, vector)
    try:
        for step in range(config.steps):
            loss = completion_losses(network, collate(next(source))).sum()
            (vector.grad,) = torch.autograd.grad(loss, [vector])  # and no gradient of the model's own weights
            optimiser.param_groups[0]["lr"] = config.rate(step)
            optimiser.step()
            if advance is not None:
                advance(step + 1, config.steps)
    finally:
        handle.remove()
    return vector.detach().cpu()
