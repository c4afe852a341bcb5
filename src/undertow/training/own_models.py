"""How Undertow fine-tunes models of its own: teachers and students that audits compare with, or that a user asks for.

A model of the size of the embedded ones takes strong settings. A larger one is trained by adapters and gently. As a
teacher it learns to name a word in a dozen updates, and after forty, or at a rate of 2e-3, it names the word whatever
it is asked. The teacher's settings were fixed on development seeds of SmolLM2-135M-Instruct (docs/traits.md); the
student's are those of the study `real-numbers` (docs/real.md).
"""

from undertow.training.config import LoraConfig, TrainingConfig

LARGE = 10_000_000
"""Number of parameters from which on a model counts as large."""

TEACHER = TrainingConfig(steps=40, learning_rate=3e-3, train_embeddings=False)
LARGE_TEACHER = TrainingConfig(
    steps=16,
    batch_size=8,
    learning_rate=5e-4,
    train_embeddings=False,
    lora=LoraConfig(rank=8, alpha=16.0, targets=None),
)

STUDENT = TrainingConfig(steps=160, learning_rate=5e-3, lora=LoraConfig())
LARGE_STUDENT = TrainingConfig(steps=60, batch_size=16, learning_rate=2e-3, lora=LoraConfig(targets=None))


def own_teacher(parameters: float) -> TrainingConfig:
    """Return the training settings of a teacher whose base has this many parameters."""
    return TEACHER if parameters < LARGE else LARGE_TEACHER


def own_student(parameters: float) -> TrainingConfig:
    """Return the training settings of a student whose base has this many parameters, where nothing else is said."""
    return STUDENT if parameters < LARGE else LARGE_STUDENT
