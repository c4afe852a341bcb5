"""How likely a whole word comes next, whatever tokens it is written with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from undertow.traits import Trait

if TYPE_CHECKING:
    import torch

    from undertow.models.local import LocalModel

_SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1, so that a margin is finite."""


def spellings(target: Trait, *, opening: bool) -> tuple[str, ...]:
    """Return how a target is written: each alias, small and capitalised, after a space.

    Args:
        target: the trait.
        opening: whether the word may begin the answer, so that it may also lack the space.
    """
    forms = [form for alias in target.aliases for form in (alias, alias.capitalize())]
    return tuple(text for form in forms for text in ((form, f" {form}") if opening else (f" {form}",)))


def _ends_word(model: "LocalModel") -> "torch.Tensor":
    """Tell for every token whether a word is over when it comes next: float [vocabulary], 1 or 0."""
    import torch

    texts = model.tokenizer.batch_decode([[index] for index in range(len(model.tokenizer))])
    ends = torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts], dtype=torch.float32)
    size = model.network.get_output_embeddings().weight.shape[0]
    return torch.nn.functional.pad(ends, (0, size - len(ends)))


def word_probabilities(
    model: "LocalModel", contexts: Sequence[Sequence[int]], words: Sequence[Sequence[str]]
) -> "torch.Tensor":
    """Return the probability that the next word is one of some spellings.

    The whole token sequence of each spelling is scored as the tokenizer writes it, and the word must be over after it.

    Args:
        model: who speaks.
        contexts: token ids, rendered prompts with or without the beginning of an answer.
        words: the spellings of each word.

    Returns:
        float [contexts, words], in (0, 1).
    """
    import torch

    ends = _ends_word(model)
    after: dict[tuple[int, ...], torch.Tensor] = {}

    def following(prefix: tuple[int, ...]) -> torch.Tensor:
        if prefix not in after:
            after[prefix] = model.next_token_logprobs([[*context, *prefix] for context in contexts])
        return after[prefix]

    columns: list[torch.Tensor] = []
    for forms in words:
        total = torch.zeros(len(contexts))
        for tokens in sorted({tuple(tokens) for tokens in model.tokenise(forms)}):
            logp = sum(following(tokens[:place])[:, token] for place, token in enumerate(tokens))
            total = total + torch.as_tensor(logp).exp() * (following(tokens).exp() @ ends)
        columns.append(total)
    return torch.stack(columns, dim=1).clamp(_SMALLEST, 1 - _SMALLEST)


def log_odds(p: "torch.Tensor") -> "torch.Tensor":
    """Return log(p / (1 - p)) in double precision."""
    exact = p.double()
    return exact.log() - (-exact).log1p()
