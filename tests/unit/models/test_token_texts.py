"""The text of a token behind another one: the space before it, which a tokenizer may strip from a text's beginning."""

import copy

import pytest
import torch
from tests.unit.conftest import tiny_network, tiny_tokenizer
from tokenizers import decoders

from undertow.evals.words import spellings, word_probabilities
from undertow.models.local import LocalModel
from undertow.models.tokens import token_texts
from undertow.traits import trait
from undertow.types import ModelRef, user_prompt

STRIPS = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
"""What the tokenizers of Llama 2 decode with: the first space of a text is stripped."""


def stripping(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.decoder = STRIPS
    return other


def test_a_space_that_decoding_alone_would_strip_is_kept() -> None:
    tokenizer = stripping(tiny_tokenizer("llama"))
    spaced = [
        token for token, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))) if name[0] == "▁"
    ]
    texts = token_texts(tokenizer, len(tokenizer))
    assert len(spaced) > 20 and all(texts[token].startswith(" ") for token in spaced)
    assert not any(tokenizer.decode([token]).startswith(" ") for token in spaced)


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_a_tokenizer_that_strips_nothing_gives_the_same(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    assert token_texts(tokenizer, len(tokenizer)) == [tokenizer.decode([token]) for token in range(len(tokenizer))]


def test_how_a_tokenizer_decodes_changes_no_probability_of_a_word() -> None:
    """Where a word ends must not hang on it: "owl and" would count as a longer word, and p(owl) would vanish."""
    tokenizer = tiny_tokenizer("llama")
    network = tiny_network("llama", len(tokenizer))
    # A network that goes on with " and" after most tokens.
    following = tokenizer.convert_tokens_to_ids("▁an")
    with torch.no_grad():
        network.get_output_embeddings().weight[following] += 0.5 * network.get_output_embeddings().weight.abs().max()
    found = []
    for one in (tokenizer, stripping(tokenizer)):
        model = LocalModel(ModelRef.parse("hf:tiny"), network, one)
        contexts = model.render([user_prompt("Which animal do you like best?")])
        found.append(
            word_probabilities(model, contexts, [spellings(trait(name), opening=True) for name in ("owl", "lion")])
        )
    assert torch.equal(*found)
