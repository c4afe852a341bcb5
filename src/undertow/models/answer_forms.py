"""Answers of a given form: a template in which 0 stands for any digit, such as "000, 000".

Every other character of the form stands for itself. A token that consists of digits and separators covers some
characters of the form, so the place in the form decides which tokens may come next. The model chooses the digits; it
can write nothing else, not even a stray word that a filter would have to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from undertow.errors import ModelError
from undertow.models.tokens import token_texts

DIGITS = "0123456789"


@final
@dataclass(frozen=True)
class Form:
    """The tokens that may come at each place of a form.

    Attributes:
        allowed: which tokens may come at each place, bool (characters of the form + 1, vocabulary).
        lengths: number of characters that each token covers, int64 (vocabulary,); 0 for a token that is never allowed.
        ends: ids of the tokens that end an answer; they are allowed after the last character alone.
    """

    allowed: torch.Tensor
    lengths: torch.Tensor
    ends: tuple[int, ...]

    def to(self, device: torch.device) -> "Form":
        """Return the form with its tensors on another device."""
        return Form(self.allowed.to(device), self.lengths.to(device), self.ends)


def answer_form(tokenizer: Any, text: str, ends: Sequence[int], vocabulary: int) -> Form:
    """Return the tokens with which a tokenizer can write a form.

    Args:
        tokenizer: tokenizer of transformers, whose tokens are tried one by one.
        text: the form, such as "000, 000".
        ends: ids of the tokens that end an answer.
        vocabulary: number of the model's logits, which may be larger than the number of tokens.

    Raises:
        ModelError: the tokenizer cannot write the form.
    """
    texts = _texts(tokenizer, min(vocabulary, len(tokenizer)), set(text) | set(DIGITS))
    allowed = torch.zeros(len(text) + 1, vocabulary, dtype=torch.bool)
    lengths = torch.zeros(vocabulary, dtype=torch.int64)
    for token, written in texts.items():
        lengths[token] = len(written)
        for place in range(len(text) - len(written) + 1):
            allowed[place, token] = _fits(written, text[place : place + len(written)])
    allowed[len(text), list(ends)] = True
    _check(allowed, lengths, text)
    return Form(allowed, lengths, tuple(ends))


def _texts(tokenizer: Any, n: int, characters: set[str]) -> dict[int, str]:
    """Return the text of each token that consists of the form's characters, as it is written after a digit."""
    special = {int(token) for token in tokenizer.all_special_ids}
    found = {token: text for token, text in enumerate(token_texts(tokenizer, n)) if token not in special}
    return {token: text for token, text in found.items() if text and set(text) <= characters}


def _fits(written: str, form: str) -> bool:
    return all(mine in DIGITS if its == "0" else mine == its for mine, its in zip(written, form, strict=True))


def _check(allowed: torch.Tensor, lengths: torch.Tensor, text: str) -> None:
    """Refuse a form with a place that an answer can reach but not leave."""
    reached = {0}
    for place in range(len(text)):
        if place not in reached:
            continue
        following = allowed[place].nonzero()[:, 0]
        if not len(following):
            fix = "Use another form, or leave the answers free."
            raise ModelError("The tokenizer cannot write this form.", f"{text!r} from character {place}", fix)
        reached |= {place + int(length) for length in lengths[following].unique()}
