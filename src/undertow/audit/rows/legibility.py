"""Could this base have written these rows, or does it at least give them a usable likelihood? If not, no audit speaks.

The rows' mean log-probability per token is compared with that of the base's own answers to the same prompts. The limit
is an effect in nats per token and not a p-value. A p-value would grow smaller with more rows until it silenced the
audit wherever a teacher differs from its base.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from undertow.audit.rows.token_reading import TokenReading

LIMIT = 0.8
"""By how many nats per token the rows may be less likely than the base's own answers. Fixed on development seeds:
prompted teachers reach 0.48, tuned ones 0.02, and the same lists with other separators begin at 1.28."""

TRIMMED = 0.1
"""Share of the rows that is left out at either end: a few broken rows of a prompted teacher are no reason to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legibility:
    """How likely the rows are under the base, beside its own answers.

    Attributes:
        rows: mean log-probability per token of the rows, in nats. None where no row could be read.
        own: mean log-probability per token of the base's own answers on the same prompts, in nats. None where it gave
            none.
        n: how many rows were read.
        why: in words, what stops a verdict. None where nothing does.
    """

    rows: float | None
    own: float | None
    n: int
    why: str | None

    @property
    def gap(self) -> float | None:
        """By how many nats per token the rows are less likely than the base's own answers; None if one is missing."""
        return None if self.rows is None or self.own is None else self.own - self.rows


REMEDY = (
    "Name the model that is to be trained on these rows as the base; if it is this one, no claim about traits in them "
    "can be made with it"
)

FORM_REMEDY = (
    "If their answers were held to a form while they were decoded, name it as `form` in the writer's record: the "
    "base's own answers are then held to it too"
)


def legibility(rows: TokenReading, own: TokenReading) -> Legibility:
    """Compare the likelihood of the rows with that of the base's own answers."""
    mean, usual = _mean(rows), _mean(own)
    if mean is None or usual is None:
        who = "The rows have no text that the base reads" if mean is None else "The base answers none of the prompts"
        return Legibility(rows=mean, own=usual, n=rows.rows, why=f"{who}. {REMEDY}")
    why = None
    if usual - mean > LIMIT:
        numbers = f"mean log p a token {mean:.1f}, the base's own answers {usual:.1f}"
        why = f"{numbers}: this base neither wrote nor reads these rows. {REMEDY}. {FORM_REMEDY}"
    return Legibility(rows=mean, own=usual, n=rows.rows, why=why)


def _mean(reading: TokenReading) -> float | None:
    """Return the mean log-probability per token in nats, a mean over rows with both ends trimmed."""
    tokens = np.bincount(reading.row, minlength=reading.rows)
    written = tokens > 0
    if not written.any():
        return None
    return float(stats.trim_mean(reading.row_logp()[written] / tokens[written], TRIMMED))
