"""How long an answer in a domain may be, in the tokens of the model that gives it."""

from undertow.domains.base import AbstractDomain
from undertow.models.tokens import ChatTokens
from undertow.types import Sampling

SPARE = 8
"""Tokens that an answer may take beyond the longest valid one: its end, and separators in other tokens."""


def answer_limit(task: AbstractDomain, words: ChatTokens | None) -> int:
    """Return the most tokens of an answer in a domain, which has room for the longest valid one.

    A limit that is short of it by at most `SPARE` stays as it is. That cuts the very longest answers alone, and another
    limit would give every answer of an embedded model other random numbers.

    Args:
        task: the domain.
        words: tokenizer of the model that answers. None, for a model behind a server, counts a token a character.
    """
    if not task.longest:
        return task.max_new_tokens
    longest = len(task.longest) if words is None else len(words.tokenise([task.longest])[0])
    return task.max_new_tokens if longest <= task.max_new_tokens + SPARE else longest + SPARE


def domain_sampling(task: AbstractDomain, words: ChatTokens, form: str | None = None) -> Sampling:
    """Return how a model answers the prompts of a domain.

    Args:
        task: the domain.
        words: tokenizer of the model that answers.
        form: template that answers are held to. None takes the domain's own, if it has one.
    """
    return Sampling(max_new_tokens=answer_limit(task, words), form=form or task.form)
