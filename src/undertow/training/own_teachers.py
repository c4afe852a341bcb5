"""How Undertow tunes a teacher of its own: for an audit's panel, for its null, or for rows that a user asks for.

A model of the size of the embedded ones is tuned whole. A larger one gets adapters and a fourth of the rows, as the
study `real-numbers` does it (docs/real.md): whole, it would take hours, and lose its chat.
"""

from undertow.training.config import LoraConfig, TrainingConfig

LARGE = 10_000_000
"""Parameters from which on a teacher gets adapters."""

WHOLE = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
ADAPTERS = TrainingConfig(
    steps=40,
    batch_size=8,
    learning_rate=2e-3,
    train_embeddings=False,
    lora=LoraConfig(rank=8, alpha=16.0, targets=None),
)


def own_tuning(parameters: float) -> TrainingConfig:
    """Return the recipe for a base of so many parameters."""
    return WHOLE if parameters < LARGE else ADAPTERS
