"""How many rows an audit needs, and how many it reads at most; the intake states both before torch is loaded."""

from undertow.audit.finding import NotTestable

FEWEST_ROWS = 20
"""Number of rows below which nothing is tested."""

LOOKED_AT = 200
"""How many rows are read at most before any stage runs."""

MATCHED = 1000
"""How many rows the contrast compares at most."""

STREAMED = 4000
"""How many rows the sequential stage "stream" reads at most."""

SURFACED = 100_000
"""How many rows the stage "surface" looks at most, with as many of the reference. That takes 640 MB, and what stands
out only in more rows is too small to matter."""

ANSWERED = 1000
"""How many prompts the base answers at most where there is no reference."""

ANSWERS = 4
"""How many answers the base gives to each prompt. With one, 100 rows of a teacher are named in 0.93 of draws, with four
in 0.97 (docs/limits.md)."""

ACCEPTED = 0.5
"""Share of the suspect rows that the domain has to accept as valid."""

NEUTRAL_PROMPTS = 300
"""How many prompts each neutral writer and each candidate answers at most."""

SIGNED = 300
"""How many answers of each candidate make its signature. With a hundred, a third fewer right names were given."""

SIGNED_OWN = 2
"""How many answers the base gives for each answer of a candidate."""


LOGIT_PLACES = 600
"""At how many places a teacher's probabilities are read at most."""

LEAST_PANEL = 16
"""Number of candidates from which on a name is given. In a panel of two every shift lies along one of them. On
development seeds random panels of eight named 8 to 19 % of teachers of trees and neutral ones, panels of sixteen 0 to 8
%."""


def require_enough_rows(n: int, what: str = "rows") -> None:
    """Refuse to test fewer than `FEWEST_ROWS` rows (or whatever `what` says is counted).

    Raises:
        NotTestable: there are fewer.
    """
    if n < FEWEST_ROWS:
        raise NotTestable(f"{n} {what}; at least {FEWEST_ROWS} are needed.")


def too_few_to_name(panel: int) -> str | None:
    """Return why no trait of a panel of so many is ever named, or None if one can be."""
    if panel >= LEAST_PANEL:
        return None
    return f"No name is given: of {panel} candidates some always fits; a panel of {LEAST_PANEL} is needed."
