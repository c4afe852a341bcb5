"""Rows that are longer than the base's context: no model reads them, so they leave the sample, and findings say so."""

from collections.abc import Sequence

import numpy as np

from undertow.audit.finding import NotTestable
from undertow.audit.rows.contrast import ContrastSample
from undertow.audit.rows.limits import FEWEST_ROWS
from undertow.audit.rows.pairs import sides
from undertow.models.local import LocalModel
from undertow.training.scoring import Candidate, fitting
from undertow.types import PreferencePair, Row


def fitting_sample(sample: ContrastSample, base: LocalModel, candidates: Sequence[Candidate]) -> ContrastSample:
    """Return a sample without the rows that do not fit into the base's context, and say how many these are.

    Args:
        sample: the rows that were drawn.
        base: the model whose context limits the rows.
        candidates: the candidates, whose personas stand before the rows.

    Raises:
        NotTestable: rows were left out, and too few are left.
    """
    own, rest, *clean = (fitting(part, base, candidates) for part in (sample.suspect, sample.rest, *sample.clean))
    given = [fits for part in clean for fits in part]
    if all((*own, *rest, *given)):
        return sample
    said = f"{_long([*own, *rest])} rows and {_long(given)} clean rows that were drawn {_limit(base)}."
    if sum(own) < min(FEWEST_ROWS, len(own)):
        raise NotTestable(said)
    places = sample.places
    if places is not None:
        new, theirs = np.cumsum(own) - 1, np.cumsum(clean[0]) - 1
        found = [
            (int(new[place]), tuple(int(theirs[at]) for at in others if clean[0][at]))
            for place, others in places
            if own[place]
        ]
        places = [one for one in found if one[1]]
    left = [_kept(part, fits) for part, fits in zip(sample.clean, clean, strict=True)]
    return ContrastSample(_kept(sample.suspect, own), left, places, _kept(sample.rest, rest), said)


def fitting_pairs(
    pairs: Sequence[PreferencePair], base: LocalModel, candidates: Sequence[Candidate]
) -> tuple[list[PreferencePair], str]:
    """Return the pairs of which both answers fit into the base's context, and say how many do not; "" for none.

    Args:
        pairs: the pairs that were drawn.
        base: the model whose context limits the answers.
        candidates: the candidates, whose personas stand before the answers.

    Raises:
        NotTestable: pairs were left out, and too few are left.
    """
    both = zip(*(fitting(answers, base, candidates) for answers in sides(pairs)), strict=True)
    fits = [all(some) for some in both]
    said = "" if all(fits) else f"{_long(fits)} pairs that were drawn {_limit(base)}."
    if said and sum(fits) < FEWEST_ROWS:
        raise NotTestable(said)
    return [pair for pair, one in zip(pairs, fits, strict=True) if one], said


def _kept(rows: Sequence[Row], fits: Sequence[bool]) -> list[Row]:
    return [row for row, one in zip(rows, fits, strict=True) if one]


def _long(fits: Sequence[bool]) -> str:
    return f"{fits.count(False)} of {len(fits)}"


def _limit(base: LocalModel) -> str:
    return f"do not fit into the base's context of {base.longest_context} tokens behind a persona, and were left out"
