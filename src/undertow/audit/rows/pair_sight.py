"""What is checked before pairs are compared: can the base read both answers, was a side drawn from one random stream?

Temperature and truncation are not compared between the sides, as they are between rows and a reference. A preference
for likely answers makes the chosen ones look colder, which is a choice and no defect; the contrast of pairs takes it
out (`undertow.audit.rows.pairs`).

The **suspect** pairs are those that are audited.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from undertow.audit.rows.defect import Defect
from undertow.audit.rows.defects import stream_defect
from undertow.audit.rows.legibility import Legibility, legibility
from undertow.audit.rows.pairs import sides
from undertow.audit.rows.sight import LookedAt, Sight, own_answers, sample_rows
from undertow.audit.rows.token_reading import TokenReading, read_tokens
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import PreferencePair, Row

CAUSES: tuple[tuple[str, bool, str], ...] = (
    ("a preference for longer or shorter answers", True, "the difference in tokens is taken out of the contrast"),
    ("a preference for likelier answers", True, "the difference in log p under the base is taken out of the contrast"),
    ("any other preference that goes with a candidate", False, "the pairs cannot show it"),
    ("answers of another writer on one side", False, "an audit of each side against the base's answers would tell"),
)
"""What may move the contrast of pairs without any trait, whether it is ruled out, and why."""


def see_pairs(
    pairs: Sequence[PreferencePair], base: LocalModel, domain_name: str, seed: int, form: str | None = None
) -> Sight:
    """Look at pairs before they are audited.

    Args:
        pairs: the suspect preference pairs, of which a sample is read.
        base: the model that would be tuned on them.
        domain_name: name of the domain whose filter is applied to the base's own answers if the chosen ones mostly pass
            it.
        seed: random seed of the sample and of the base's answers.
        form: template that the answers were held to while they were decoded, to which the base's own are held too.
            None leaves them free.

    Returns:
        What was seen of both sides: the legibility of the side that the base reads worse, and the defects of each side.

    Raises:
        ModelError: the base has no chat template.
    """
    rng = np.random.default_rng(derive(seed, "sight"))
    chosen, rejected = sides(pairs)
    some = sample_rows(chosen, base, rng)
    if not some:
        why = (
            f"No prompt of the pairs leaves room for an answer in the base's context of {base.longest_context} tokens."
        )
        return Sight(legibility=Legibility(rows=None, own=None, n=0, why=why))
    own = read_tokens(base, own_answers(some, base, domain_name, derive(seed, "sight", "answers"), form))
    others = {row.id: row for row in rejected}
    sampled = {"chosen": some, "rejected": [others[row.id] for row in some]}
    seen = [_look(side, rows, base, own) for side, rows in sampled.items()]
    worse = max((one for one, _ in seen), key=lambda one: (one.why is not None, one.gap or 0.0))
    if worse.why is not None:
        return Sight(legibility=worse)
    defects = tuple(stream for _, stream in seen if stream is not None)
    return Sight(legibility=worse, defects=defects, benign=_benign(defects, len(some)))


def _look(side: str, rows: Sequence[Row], base: LocalModel, own: TokenReading) -> tuple[Legibility, Defect | None]:
    """Return whether the base reads one side of a sample, and the defect of a side drawn from one random stream."""
    looked = LookedAt(rows, read_tokens(base, rows))
    found, stream = legibility(looked.reading, own), stream_defect(looked.once(), "rows")
    if found.why is not None:
        found = replace(found, why=f"Of the {side} answers: {found.why}")
    if stream is not None:
        stream = replace(stream, what=stream.what.replace("these rows", f"the {side} answers", 1))
    return found, stream


def _benign(defects: Sequence[Defect], n: int) -> tuple[Mapping[str, Any], ...]:
    noise = ("the same noise in several answers of a side", not defects, f"{n} answers of each side compared in pairs")
    return tuple({"cause": cause, "ruled_out": out, "why": why} for cause, out, why in (noise, *CAUSES))
