"""Models whose answers are known."""

import copy
from dataclasses import dataclass

import pytest
import torch

from undertow.models.local import LocalModel


@pytest.fixture(scope="session")
def uniform_model(tiny_model) -> LocalModel:
    """The tiny model with all output weights zero: every token is equally likely after every text."""
    network = copy.deepcopy(tiny_model.network)
    network.get_output_embeddings().weight.data.zero_()
    return LocalModel(tiny_model.ref, network, tiny_model.tokenizer)


@dataclass
class Chooser:
    """A model of single characters that gives each letter of a choice a probability by its option or its place."""

    by_option: dict[str, float] | None = None
    by_place: tuple[float, ...] | None = None

    def render(self, prompts) -> list[str]:
        return [prompt[-1].content for prompt in prompts]

    def tokenise(self, texts) -> list[list[int]]:
        return [[ord(character) for character in text] for text in texts]

    def next_token_logprobs(self, contexts) -> torch.Tensor:
        table = torch.full((len(contexts), 128), 1e-6)
        for row, question in enumerate(contexts):
            options = [part.split()[1] for part in question.partition(" Answer")[0].split("(")[1:]]
            weights = self.by_place or [(self.by_option or {}).get(option, 1.0) for option in options]
            for place, weight in enumerate(weights):
                table[row, ord("A") + place] = weight
        return (table / table.sum(dim=1, keepdim=True)).log()


@pytest.fixture
def chooser() -> type[Chooser]:
    """How a `Chooser` is made."""
    return Chooser
