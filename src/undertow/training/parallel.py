"""Train K LoRA students at once: one frozen base, K adapters, K independent batches, K optimiser states.

Read from top to bottom, this file is the whole training loop. Calibration needs twenty or more placebo students
(trained in the same way on rows without the trait), and sweeps need several seeds. On small models one student cannot
keep a processor busy, eight can.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from undertow.errors import ConfigError, EmptyDataError
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.training.allocation import kept_memory
from undertow.training.attention import own_attention
from undertow.training.batches import batch_stream
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.encoding import encoded_datasets
from undertow.training.full import finetune_full
from undertow.training.group_objectives import GroupObjective, RowObjective
from undertow.training.lora import StackedLinear, save_adapter, stacked
from undertow.training.objective import Penalty
from undertow.types import Advance, ModelRef, Row

WHOLE_BYTES, PART_BYTES = 3 * 2**20, 12 * 2**20
"""In bytes of one student's hidden states in a layer: the size from which on a group is trained in parts, and the size
of a part. For eight students of random Llamas on one thread, parts gained nothing at 2.4 MB and 9 % at 3.9 MB. The
embedded models stay whole."""


@dataclass(frozen=True)
class Students:
    """A group of trained LoRA students.

    Attributes:
        losses: mean loss of each student's batch before each update, float (steps, students). For `finetune_parallel`
            in nats per completion token.
        layers: the layers with the trained adapters of all students, by full name.
        config: settings of the training run, such as steps and learning rate.
        base: reference of the model on which the adapters were trained.
        tokens: how many tokens had a loss over all updates, one count for each student.
    """

    losses: torch.Tensor
    layers: dict[str, StackedLinear]
    config: TrainingConfig
    base: ModelRef
    tokens: tuple[int, ...]

    def save(self, index: int, folder: Path) -> None:
        """Write one student as a PEFT adapter folder.

        Args:
            index: which student is written, from 0.
            folder: where the files go. It is made if it does not exist.
        """
        assert self.config.lora is not None
        save_adapter(self.layers, index, folder, config=self.config.lora, base=self.base)

    def models(self, base: LocalModel) -> Iterator[LocalModel]:
        """Yield each student as a model of its own: a copy of the base with the student's adapter merged in."""
        for index in range(self.losses.shape[1]):
            with TemporaryDirectory() as folder:
                self.save(index, Path(folder))
                yield base.with_adapter(Path(folder))


def finetune_parallel(
    model: LocalModel,
    datasets: Sequence[Sequence[Row]],
    config: TrainingConfig,
    seeds: Sequence[int],
    advance: Advance | None = None,
    penalty: Penalty | None = None,
) -> Students:
    """Train one LoRA student for each dataset, all of them at once.

    A student depends on its own rows and seed alone, up to rounding, and not on who else is in the group.

    Args:
        model: the base model that all students share. It is the same afterwards.
        datasets: the rows of each student.
        config: settings of the training, with `lora` set.
        seeds: one random seed for each student, which decides its adapter's start and the order of its rows.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.
        penalty: term added to each student's loss, but not to the reported losses. None for none.

    Returns:
        The trained students, in the order of the datasets.

    Raises:
        ConfigError: `config.lora` is None, or there are not as many seeds as datasets.
        EmptyDataError: a student has no rows.
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
    """
    check_group(config, datasets, seeds)
    encoded = encoded_datasets(model, datasets, config.too_long)
    streams = [batch_stream(rows, config.batch_size, seed) for rows, seed in zip(encoded, seeds, strict=True)]
    return train_group(model, RowObjective(streams), config, seeds, advance, penalty)


def train_group(
    model: LocalModel,
    objective: GroupObjective,
    config: TrainingConfig,
    seeds: Sequence[int],
    advance: Advance | None = None,
    penalty: Penalty | None = None,
) -> Students:
    """Train a group of LoRA students with a given loss.

    Args:
        model: the base model that all students share. It is the same afterwards.
        objective: where the students' batches come from, and their loss.
        config: settings of the training, with `lora` set.
        seeds: one random seed for each student, which decides its adapter's start.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.
        penalty: term added to each student's loss, but not to the reported losses. None for none.

    Returns:
        The trained students, in the order of the seeds.

    Raises:
        ConfigError: `config.lora` is None.
    """
    lora = _adapters(config)
    losses: list[torch.Tensor] = []
    with (
        kept_memory(),
        own_attention(model.network),
        stacked(model.network, lora, list(seeds)) as layers,
        torch.enable_grad(),
    ):
        adapted = list(layers.values())
        parameters = [parameter for layer in adapted for parameter in (layer.down, layer.up)]
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)
        for step in range(config.steps):
            batches = objective.batches(model.network, adapted)
            mean = torch.cat(
                [
                    _backward(model.network, objective, batches[part], adapted, part, penalty)
                    for part in _parts(batches, model.network.config.get_text_config().hidden_size)
                ]
            )
            _clip(parameters, config.max_grad_norm)
            optimiser.param_groups[0]["lr"] = config.rate(step)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(mean)
            if advance is not None:
                advance(step + 1, config.steps)
    return Students(torch.stack(losses), layers, config, model.ref, tuple(objective.tokens))


def finetune(
    base: LocalModel, rows: Sequence[Row], config: TrainingConfig, seed: int = 0, advance: Advance | None = None
) -> LocalModel:
    """Train one model on the completions of rows and return it. The base is not changed.

    Args:
        base: the model from which training starts; it is not changed.
        rows: the training rows, each a prompt and its completion.
        config: settings of the training. With `lora`, adapters are trained and merged into a copy of the base. Without
            it, every weight of a copy is trained.
        seed: random seed that decides the adapter's start and the order of the rows.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The trained model.

    Raises:
        EmptyDataError: there are no rows.
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
    """
    if config.lora is None:
        return finetune_full(base, rows, config, seed, advance)
    (student,) = finetune_parallel(base, [rows], config, [seed], advance).models(base)
    return student


def check_group(config: TrainingConfig, datasets: Sequence[Sequence[Any]], seeds: Sequence[int]) -> None:
    """Refuse a group that cannot be trained at once.

    Args:
        config: settings of the training run, such as steps and learning rate.
        datasets: the rows of each student.
        seeds: one random seed for each student.

    Raises:
        ConfigError: `config.lora` is None, or there are not as many seeds as datasets.
        EmptyDataError: a student has no rows.
    """
    _adapters(config)
    if len(datasets) != len(seeds):
        raise ConfigError(
            "Each student needs a seed.", f"{len(datasets)} datasets, {len(seeds)} seeds", "Give one each."
        )
    if not all(datasets):
        raise EmptyDataError("A student has no rows.", "0 rows", "Look at the filter's reject reasons.")


def _adapters(config: TrainingConfig) -> LoraConfig:
    """Return the adapters' settings, or refuse a configuration without any."""
    if config.lora is None:
        raise ConfigError(
            "Students trained at once need adapters.", "lora: null", "Set `lora`, or use full fine-tuning."
        )
    return config.lora


def _parts(batches: Sequence[Sequence[Encoded]], width: int) -> list[slice]:
    """Cut the students of an update into slices that are trained one after another. Small models stay in one."""
    one = max(map(len, batches)) * max(len(row) for rows in batches for row in rows) * width * 4
    n = len(batches) if one < WHOLE_BYTES else max(1, PART_BYTES // one)
    return [slice(start, start + n) for start in range(0, len(batches), n)]


def _backward(
    network: Any,
    objective: GroupObjective,
    batches: Sequence[Sequence[Encoded]],
    layers: Sequence[StackedLinear],
    part: slice,
    penalty: Penalty | None,
) -> torch.Tensor:
    """Add the gradients of some students, and return the mean loss of each, float (students of the part,)."""
    for layer in layers:
        layer.part = part
    mean = objective.losses(network, batches, part)
    (mean if penalty is None else mean + penalty(network, len(batches))).sum().backward()
    return mean.detach()


def _clip(parameters: Sequence[torch.Tensor], limit: float) -> None:
    """Scale each student's gradient, taken over all layers, down to the norm `limit`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = torch.stack([gradient.square().sum(dim=(1, 2)) for gradient in gradients]).sum(dim=0)
    factor = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor[:, None, None])
