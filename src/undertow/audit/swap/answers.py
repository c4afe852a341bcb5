"""Other answers to the prompts of rows: drawn from another writer, and valid as the rows themselves are."""

from collections.abc import Sequence
from itertools import islice

from undertow.domains.base import AbstractDomain, domain, telling_domains
from undertow.models.answer_limits import answer_limit
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import Row, Sampling

ACCEPTED = 0.95
"""Share of the rows that a domain has to accept so that its rule is applied to other answers too."""

LOOKED_AT = 500
"""How many rows domains are tried on, the first ones."""

TRIES = 4
"""How often a prompt is asked until its answer is valid."""


def domain_of(rows: Sequence[Row]) -> AbstractDomain | None:
    """Return the first domain that accepts nearly all of the rows and not nearly any text, or None."""
    some = list(islice(rows, LOOKED_AT))
    for name in telling_domains():
        task = domain(name)
        if sum(not task.reject_reasons(row.completion, row.question) for row in some) >= ACCEPTED * len(some):
            return task
    return None


def answered(writer: LocalModel, rows: Sequence[Row], seed: int) -> list[str | None]:
    """Let a writer answer the prompt of each row, again where the answer is not valid; None where it never is.

    An answer is valid if the domain of the rows accepts it. If the rows are of no domain, every answer with a text is.

    Args:
        writer: the model that answers the prompts.
        rows: rows whose prompts are asked, and whose domain says what is valid.
        seed: random seed of the answers.

    Raises:
        ConfigError: a prompt and its answer do not fit the writer's context.
    """
    task = domain_of(rows)
    if task is not None:
        longest = answer_limit(task, writer.tokens)
    else:
        longest = 1 + max(len(tokens) for tokens in writer.tokens.tokenise([row.completion for row in rows]))
    found: list[str | None] = [None] * len(rows)
    for turn in range(TRIES):
        missing = [place for place, text in enumerate(found) if text is None]
        if not missing:
            break
        asked = [rows[place].prompt for place in missing]
        texts = writer.chat(asked, sampling=Sampling(max_new_tokens=longest), seed=derive(seed, "answers", turn))
        for place, text in zip(missing, texts, strict=True):
            wrong = not text.strip() if task is None else task.reject_reasons(text, rows[place].question)
            found[place] = None if wrong else text
    return found
