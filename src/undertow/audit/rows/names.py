"""Which trait of the panel is named, or none: only one whose signature the rows' shift points along.

The panel is the list of candidate writers, one or two for each trait. Ranking them always has a first, whoever wrote
the rows. So the **shift** of the rows above their reference, in the scores of all candidates, is compared with the
**signature** of each candidate: what the candidate's own rows score like (`undertow.audit.rows.signatures`). The share
of the shift's squared length that lies along a signature is a number between 0 and 1, which does not grow with the
number of rows as a p-value's evidence does. For a name both are centred over the candidates, which takes out what all
of them share, and whitened by how the base's own answers scatter.

The **suspect** is whoever wrote the audited rows; the **rival** share is the second largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from undertow.audit.finding import Finding
from undertow.audit.rows.limits import too_few_to_name
from undertow.audit.rows.signatures import Signatures
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate

NAMED = 0.7
"""Share of the shift from which on a name is given (benchmarks/audit_neutral.py; docs/calibration.md has the
errors)."""

RIVAL = 0.8
"""How large the second candidate's share may be at most, as a part of the first one's: two alike signatures give no
name."""

SHRINK = 0.1
"""How much of a covariance is replaced by a spherical one of the same trace."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Which signature a shift lies along.

    Attributes:
        candidate: name of the trait. None where no signature explains enough, or two explain about as much.
        first: name of the trait whose signature explains most.
        share: share of the shift's squared length along that signature, between 0 and 1. 0 where it points away.
        second: name of the trait whose signature explains second most.
        rival: share of the shift's squared length along the second signature.
        panel: how many candidates there are.
    """

    candidate: str | None
    first: str
    share: float
    second: str
    rival: float
    panel: int

    @property
    def sentence(self) -> str:
        """A sentence that says which trait is named and why, or why none is."""
        if why := too_few_to_name(self.panel):
            return why
        along = (
            f"{self.share:.0%} of the rows' shift, squared, lies along what a teacher of {self.first} writes, "
            f"{self.rival:.0%} along {self.second}"
        )
        needed = f"a name takes {NAMED:.0%}, and less than {RIVAL:.0%} of the first one's share for the second"
        return f"{f'{self.first} is named' if self.candidate else 'None of the panel is named'}: {along} ({needed})."


def name_shift(shift: Floats, signatures: Signatures, candidates: Sequence[Candidate]) -> Naming:
    """Name the trait that a shift points along, or none.

    Args:
        shift: mean score of the suspect's rows above the reference's, shape (candidates,).
        signatures: signatures of the same candidates, in the same order.
        candidates: the candidates, one for each column, at least two.
    """
    centre = np.eye(len(shift)) - 1.0 / len(shift)  # a candidate's gain is told from what all gain
    found = shares((centre @ shift)[None], signatures.shifts @ centre, centre @ signatures.covariance @ centre)[0]
    second, top = np.argsort(found, kind="stable")[-2:].tolist()
    share, rival = float(found[top]), float(found[second])
    named = too_few_to_name(len(shift)) is None and share >= NAMED and rival < RIVAL * share
    first = candidates[top].trait
    return Naming(first if named else None, first, share, candidates[second].trait, rival, len(shift))


def shares(shifts: Floats, signatures: Floats, covariance: Floats) -> Floats:
    """Return how much of each shift's squared length lies along each signature.

    Args:
        shifts: shifts to be explained, shape (shifts, candidates).
        signatures: directions that may explain them, shape (signatures, candidates).
        covariance: covariance of the noise, shape (candidates, candidates). It is shrunk before both are whitened by
            it.

    Returns:
        Array of shape (shifts, signatures): the squared cosine where the cosine is positive, and 0 elsewhere.
    """
    root = _whitener(covariance)
    own, theirs = shifts @ root, signatures @ root
    lengths = np.linalg.norm(own, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)
    return np.maximum(own @ theirs.T / np.where(lengths > 0.0, lengths, 1.0), 0.0) ** 2


def _whitener(covariance: Floats) -> Floats:
    """Return the symmetric root of the inverse of a shrunk covariance, shape (n, n)."""
    n = len(covariance)
    size = float(np.trace(covariance)) / n or 1.0
    values, vectors = np.linalg.eigh((1.0 - SHRINK) * covariance + SHRINK * size * np.eye(n))
    return (vectors / np.sqrt(values)) @ vectors.T


def with_one_name(findings: Sequence[Finding]) -> list[Finding]:
    """Remove the traits of the panel that other stages of the rows name and the contrast does not.

    A word that stands in no panel, as the stage "recovery" finds, stays a hypothesis of its own.
    """
    contrast = next((one for one in findings if one.stage == "contrast"), None)
    if contrast is None:
        return list(findings)
    of_rows = [one for one in findings if one.claim == "provenance"]
    labels = [label for one in of_rows for label in one.scores or ()]
    panel = {label.partition(" (")[0] for label in labels if label.endswith(("(teacher)", "(persona)"))}
    wrong = [one for one in of_rows if one.candidate in panel and one.candidate != contrast.candidate]
    return [replace(one, candidate=None) if one in wrong else one for one in findings]
