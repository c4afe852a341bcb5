"""How many rows an audit needs, and how many it reads at most; the intake states both before torch is loaded."""

from undertow.audit.finding import NotTestable

FEWEST_ROWS = 20
"""Below this nothing is tested."""

LOOKED_AT = 200
"""Rows that are read before any stage speaks, at most."""

MATCHED = 1000
"""Rows that the contrast compares, at most."""

STREAMED = 4000
"""Rows that the stream reads, at most."""

SURFACED = 100_000
"""Rows whose surface is looked at, at most, with as many of the reference: 640 MB, and what stands out of more is too
small to matter."""

ANSWERED = 1000
"""Prompts that the base answers, at most, where there is no reference."""

ANSWERS = 4
"""Answers to each: with one, 100 rows of a teacher are named in .93 of draws, with four in .97 (docs/limits.md)."""

ACCEPTED = 0.5
"""Share of the suspect rows that the domain has to accept."""

NEUTRAL_PROMPTS = 300
"""Prompts that each neutral writer and each candidate answers, at most."""

SIGNED = 300
"""Answers of each candidate that make its signature: with a hundred, a third fewer right names were given."""

SIGNED_OWN = 2
"""Answers of the base for each of a candidate's."""


LOGIT_PLACES = 600
"""Places at which a teacher's probabilities are read, at most."""


def require_enough_rows(n: int, what: str = "rows") -> None:
    """Refuse to test fewer than `FEWEST_ROWS` rows (or whatever `what` says is counted).

    Raises:
        NotTestable: there are fewer.
    """
    if n < FEWEST_ROWS:
        raise NotTestable(f"{n} {what}; at least {FEWEST_ROWS} are needed.")
