"""The contract of a detector (text in, verdict out), and the detectors by name; plug-ins are entry points.

A detector may be slow, wrong or broken; the proxy survives all three. It is called by one thread of its own, one text
after another, so it may keep state without locks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from undertow.errors import ConfigError
from undertow.registry import Registry

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


DETECTORS: Registry[Callable[[str, str], AbstractDetector]] = Registry(
    "detector",
    {
        "regex": "undertow.monitor.detectors.expressions:ExpressionDetector.read",
        "constitution": "undertow.monitor.detectors.constitution:ConstitutionDetector.read",
        "judge": "undertow.monitor.detectors.judge:JudgeDetector.read",
        "mention": "undertow.monitor.detectors.mentions:MentionDetector.read",
    },
    group="undertow.detectors",
    accepts=lambda name, thing: callable(thing),
)
"""Makes each detector from what an operator writes behind its name and a colon, and from the whole, as its name."""


def detector(specification: str) -> AbstractDetector:
    """Make the detector of a specification, such as "mention:owl=0.01".

    Raises:
        UnknownNameError: there is no such detector.
        UserError: what follows the colon, or a file that it names, cannot be used.
    """
    kind, _, settings = specification.partition(":")
    return DETECTORS[kind](settings, specification)


def with_number(settings: str, default: float, form: str) -> tuple[str, float]:
    """Read what an operator writes before an @, and the number behind it, or the default where there is none.

    Args:
        settings: as written.
        default: of the number.
        form: how the detector is written, for the message.

    Raises:
        ConfigError: nothing stands before it, or no number behind it.
    """
    body, _, number = settings.rpartition("@") if "@" in settings else (settings, "", "")
    try:
        if not body:
            raise ValueError
        return body, float(number) if number else default
    except ValueError:
        raise wrong_form(settings, form) from None


def wrong_form(settings: str, form: str) -> ConfigError:
    """Build the error for a detector that is not written as it should be."""
    return ConfigError("This is not how the detector is written.", settings, f"Write {form}.")
