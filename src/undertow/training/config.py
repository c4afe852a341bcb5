"""Settings of a fine-tuning run: the optimiser's, and those of low-rank adapters (LoRA)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from pydantic import TypeAdapter

from undertow.errors import ConfigError

TooLong = Literal["refuse", "cut"]
"""What becomes of a row that is longer than the model's context: refused with an error, or cut at its end. See
`undertow.training.encoding`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on linear layers of the transformer blocks (LoRA, Hu et al., arXiv:2106.09685).

    Attributes:
        rank: width of the adapter's bottleneck, at least 1.
        alpha: numerator of the factor alpha / rank by which the low-rank update is multiplied. Positive and finite.
        targets: last part of the names of the adapted linear layers (PEFT's `target_modules`). None takes every linear
            layer of the blocks, whatever its name. The default lists all those of Llama and similar models.
        layers: numbers, from 0, of the transformer blocks that get adapters (PEFT's `layers_to_transform`). None takes
            all.

    Raises:
        ConfigError: the rank is below 1, or alpha is not positive and finite.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] | None = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError("The rank of an adapter must be positive.", self.rank, "Use 8, as the paper does.")
        if not 0 < self.alpha < inf:
            raise ConfigError("alpha must be positive and finite.", self.alpha, "Use 16, twice the rank.")

    @property
    def scale(self) -> float:
        """Factor alpha / rank of the low-rank update."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Settings of one fine-tuning run with AdamW, without weight decay.

    Attributes:
        steps: how many optimiser updates are made.
        batch_size: how many rows of each student an update takes.
        learning_rate: highest learning rate of the schedule, reached after the warm-up.
        warmup_steps: how many updates the learning rate takes to grow linearly to its peak.
        schedule: "linear" lets the rate fall linearly, to reach 0 after the last update, "constant" keeps the peak.
        max_grad_norm: L2 norm to which each student's gradient is scaled down where it is larger.
        lora: settings of the adapters to train. None trains every weight.
        train_embeddings: whether full fine-tuning also changes the embeddings and the output head. Adapters ignore it.
        too_long: what becomes of a row that is longer than the model's context: "refuse" raises an error, "cut" drops
            its end.

    Raises:
        ConfigError: a number is not positive and finite, or a name is not among the choices.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 5
    schedule: Literal["linear", "constant"] = "linear"
    max_grad_norm: float = 1.0
    lora: LoraConfig | None = None
    train_embeddings: bool = True
    too_long: TooLong = "refuse"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 < value < inf:
                raise ConfigError(f"{name} must be positive and finite.", value, f"Set {name} to a positive number.")
        if self.schedule not in ("linear", "constant"):
            raise ConfigError(
                "There is no learning-rate schedule of this name.", self.schedule, "Use linear or constant."
            )
        if self.too_long not in ("refuse", "cut"):
            raise ConfigError("Rows that are too long are refused or cut.", self.too_long, "Use refuse or cut.")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TrainingConfig":
        """Return the settings that `to_config` turned into plain data.

        Raises:
            pydantic.ValidationError: a key is unknown, or a value has the wrong type.
        """
        return TypeAdapter(cls).validate_python(dict(config))

    def to_config(self) -> dict[str, Any]:
        """Return plain data for the configuration of a study's stage.

        The keys `layers` and `too_long` are left out at their defaults, so that fingerprints of older runs stay the
        same.
        """
        config = asdict(self)
        if self.too_long == "refuse":
            del config["too_long"]
        if self.lora is not None and self.lora.layers is None:
            del config["lora"]["layers"]
        return config

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = 1.0 - step / self.steps if self.schedule == "linear" else 1.0
        return self.learning_rate * warm * fall
