"""The contract of a detector: text in, verdict out.

A detector may be slow, wrong or broken; the proxy survives all three. It is called by one thread of its own, one text
after another, so it may keep state without locks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["request", "reply"]
"""Before the call and after it."""

BOTH: frozenset[Side] = frozenset(("request", "reply"))

MOST_CHARACTERS = 200_000
"""Longer texts are not judged; the proxy counts that as a failure of the detector."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of one text.

    Attributes:
        flagged: whether the text is to be reported, or blocked where the operator chose so.
        why: which rule, in the detector's own words. It is stored and shown: never a piece of the text.
        score: higher for worse; None if the detector has no score.
    """

    flagged: bool
    why: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredEvidence:
    """What a detector has gathered over all texts so far.

    Attributes:
        null: what is doubted.
        n: texts.
        hits: texts that counted.
        log_e: natural log of the evidence now.
        highest: its running maximum.
        alpha: probability of ever raising a false alarm.
        alarmed: whether the maximum reached log(1 / alpha).
        state: what `AbstractDetector.resume` needs, as plain JSON.
    """

    null: str
    n: int
    hits: int
    log_e: float
    highest: float
    alpha: float
    alarmed: bool
    state: Mapping[str, Any]


class AbstractDetector(ABC):
    """Judges requests, replies or both.

    Attributes:
        name: of this detector, as stored in the events; it names every setting that changes what is judged.
        sides: what is judged.
    """

    name: str
    sides: frozenset[Side] = BOTH

    @abstractmethod
    def judge(self, text: str) -> Verdict:
        """Judge one text of at most `MOST_CHARACTERS` characters; anything raised counts as a failure."""

    def evidence(self) -> GatheredEvidence | None:
        """Return what was gathered over all texts, None for a detector that judges each alone."""
        return None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier process; called before the first text."""
        del state
