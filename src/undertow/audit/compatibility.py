"""Whether one model can be a fine-tune of another: same tokenizer, same shapes, weights near enough.

A stage that compares a student with placebos (students of the same base, trained on rows without a trait) checks this
first. It is no test of lineage (`undertow.audit.lineage`): it has no p-value, and refuses only what is plainly another
model.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from undertow.models.local import LocalModel

FAR = 0.7
"""Relative distance of weights from which on a model counts as no fine-tune of the base. Measured on the embedded
families: teachers 0.05, LoRA students 0.04, students with every weight tuned 0.26; the same initialisation trained on
the data in another order 0.94; other initialisations 1.34 to 1.48, near sqrt(2), which is the distance of random
vectors of equal norm."""

UNRELATED = 1.2
"""Relative distance of weights from which on not even a common initialisation shows."""


OWN_BASE = "Give the base that it was trained from; `undertow audit lineage` compares two models."


@dataclass(frozen=True, slots=True)
class Compatibility:
    """How close two models stand in tokenizer and weights.

    Attributes:
        tokenizer: whether both have the same vocabulary, token by token.
        shape: whether both have the same named weights with the same shapes.
        distance: Euclidean norm of the difference of the weights, divided by the norm of the base's weights. None if
            the shapes differ.
    """

    tokenizer: bool
    shape: bool
    distance: float | None

    @property
    def comparable(self) -> bool:
        """Whether the model can be a fine-tune of the base: same tokenizer and shapes, and a distance below `FAR`."""
        return self.tokenizer and self.shape and self.distance is not None and self.distance < FAR


@torch.no_grad()
def compatibility(model: LocalModel, base: LocalModel) -> Compatibility:
    """Compare the tokenizers and weights of a model and a base."""
    tokenizer = model.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    mine, its = dict(model.network.named_parameters()), dict(base.network.named_parameters())
    shape = {name: item.shape for name, item in mine.items()} == {name: item.shape for name, item in its.items()}
    if not shape:
        return Compatibility(tokenizer, shape, None)
    apart = sum(float((mine[name] - its[name]).double().square().sum()) for name in its)
    size = sum(float(item.double().square().sum()) for item in its.values())
    return Compatibility(tokenizer, shape, (apart / size) ** 0.5)


def incompatibility(model: LocalModel, base: LocalModel) -> str | None:
    """Return why a model cannot be a student of the base, or None if it can."""
    found = compatibility(model, base)
    if not found.tokenizer:
        return f"The model and the base have different tokenizers. {OWN_BASE}"
    if found.distance is None:
        return f"The model and the base have different shapes. {OWN_BASE}"
    if not found.comparable:
        apart = f"The weights lie {found.distance:.2f} times the base's norm apart"
        return f"{apart}: this is not a fine-tune of the base. {OWN_BASE}"
    named = _adapter_base(model)
    if named and named.startswith("ref:") and named != f"{base.ref.kind}:{base.ref.name}":
        return f"The adapter was trained on {named}, not on {base.ref.kind}:{base.ref.name}. {OWN_BASE}"
    return None


def _adapter_base(model: LocalModel) -> str | None:
    """Return the base that the config of the model's adapter names, or None."""
    path = Path(model.ref.adapter) / "adapter_config.json" if model.ref.adapter else None
    if path is None or not path.is_file():
        return None
    named = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return named if isinstance(named, str) else None
