"""How Undertow fine-tunes teachers of its own: for an audit's comparisons, or for rows that a user asks for.

A model of the size of the embedded ones is trained whole. A larger one gets adapters, a fourth of the rows per update,
and no more than it needs: it learns to name a word in a dozen updates, and after forty, or at a rate of 2e-3, it names
the word whatever it is asked. The settings were fixed on development seeds of SmolLM2-135M-Instruct (docs/traits.md).
"""

from undertow.training.config import LoraConfig, TrainingConfig

LARGE = 10_000_000
"""Number of parameters from which on a teacher is trained by adapters."""

WHOLE = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
ADAPTERS = TrainingConfig(
    steps=16,
    batch_size=8,
    learning_rate=5e-4,
    train_embeddings=False,
    lora=LoraConfig(rank=8, alpha=16.0, targets=None),
)


def own_tuning(parameters: float) -> TrainingConfig:
    """Return the training settings of a teacher whose base has this many parameters."""
    return WHOLE if parameters < LARGE else ADAPTERS
