"""How a student or teacher is trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from pydantic import TypeAdapter

from undertow.errors import ConfigError

TooLong = Literal["refuse", "cut"]
"""What becomes of a row that is longer than the model's context (`undertow.training.encoding`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on linear layers of the transformer blocks.

    Attributes:
        rank: width of the bottleneck.
        alpha: the update is scaled by alpha / rank.
        targets: last part of the names of the adapted linear layers (PEFT's `target_modules`); None takes every linear
            layer of the blocks, whatever it is called. The default are all those of Llama and its like.
        layers: transformer blocks that get adapters (PEFT's `layers_to_transform`), or None for all.
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
        """Factor of the low-rank update."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One fine-tuning run.

    Attributes:
        steps: optimiser updates.
        batch_size: rows of each student per update.
        learning_rate: peak of the schedule.
        warmup_steps: updates of linear growth from 0 to the peak.
        schedule: "linear" falls to 0 at the last update, "constant" stays.
        max_grad_norm: each student's gradient is scaled down to this norm.
        lora: adapters to train, or None for every weight.
        train_embeddings: whether full fine-tuning also moves the embeddings and the output head.
        too_long: whether a row that is longer than the model's context is refused, or cut at its end.
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
        """Return the settings that `to_config` turned into plain data."""
        return TypeAdapter(cls).validate_python(dict(config))

    def to_config(self) -> dict[str, Any]:
        """Return plain data that a stage's config can hold; `layers` and `too_long` stand there only if chosen."""
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
