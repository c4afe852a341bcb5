"""The contract of a detector (text in, verdict out), its public checker, and the detectors by name.

A detector may be slow, wrong or broken; the proxy survives all three. It is called by one thread of its own, one text
after another, so it may keep state without locks, unless it says that it has room for more `threads`. Run
`check_detector` on one of your own before you let it block.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import binom

from undertow.errors import ConfigError, EmptyDataError
from undertow.registry import Registry
from undertow.stats.checks import check_fraction
from undertow.stats.estimates import wilson
from undertow.types import Check, ContractReport

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
        can_flag: False if it gathers evidence and never flags a text.
        pieces: whether a streamed reply may be judged in pieces, each with some text before it. False for a detector
            that counts replies or needs their end: it reads a reply once, whole.
        threads: how many texts it can read at once, however many an operator allows. More than 1 is for detectors
            whose `judge` changes nothing.
    """

    name: str
    sides: frozenset[Side] = BOTH
    can_flag: bool = True
    pieces: bool = True
    threads: int = 1

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
        "served": "undertow.monitor.detectors.served:ServedDetector.read",
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


FALSE_ALARM = 0.01
"""Probability of failing a detector whose rates are exactly the stated ones, for each of the two."""

_MARK = "qzxvjkwq"
ODD_TEXTS = (
    "", " ", "\n" * 50, "\0\x07\x1b[31m", "\ud800", "\U0001f989" * 200, "a" * 50_000, "(" * 5_000, "0 " * 20_000,
    "{\"a\": [" * 200, "<script>" * 100, "\u202e\u200b" * 100,
)  # fmt: skip
"""Texts that clients do send."""


def check_detector(
    make: Callable[[], AbstractDetector],
    clean: Sequence[str],
    planted: Sequence[str],
    *,
    rate: float = 0.01,
    power: float = 0.8,
    seconds: float = 2.0,
) -> ContractReport:
    """Measure whether a detector keeps the contract; a broken one raises nothing, the report names what failed.

    Args:
        make: makes a fresh detector, so that one with a memory is judged from its beginning.
        clean: fresh texts that should pass, shorter than `MOST_CHARACTERS`.
        planted: fresh texts that should be flagged; none for a detector that only gathers evidence.
        rate: share of the clean texts that may be flagged.
        power: share of the planted texts that should be flagged.
        seconds: for any one text.

    Raises:
        ConfigError: a rate lies outside (0, 1).
        EmptyDataError: there are no clean texts.
    """
    check_fraction("rate", rate)
    check_fraction("power", power)
    if not clean:
        raise EmptyDataError("There are no clean texts.", 0, "Give some hundred that should pass.")
    detector = make()
    slowest, longest = 0.0, [one for text in ODD_TEXTS for one in (text, text + _MARK)]
    answers: list[Verdict | str] = []
    for text in [*longest, "long " * (MOST_CHARACTERS // 5)]:
        began = time.perf_counter()
        answers.append(_ask(detector, text))
        slowest = max(slowest, time.perf_counter() - began)
    on_clean, on_planted = ([_ask(detector, text) for text in texts] for texts in (clean, planted))
    first, again = ([_ask(fresh, text) for text in clean[:20]] for fresh in (make(), make()))
    checks = [
        _whole("a verdict for every odd text", answers),
        _whole("a verdict for every text", [*on_clean, *on_planted]),
        Check("two fresh detectors give the same verdicts", again == first, f"{len(first)} texts"),
        Check("the reason never quotes the text", not _quotes([*answers, *on_clean, *on_planted]), f"mark {_MARK}"),
        Check(f"at most {seconds:g} s for any odd text", slowest <= seconds, f"{slowest:.3f} s at worst"),
        _rate(f"flags at most {rate:g} of the clean texts", on_clean, rate, most=True),
    ]
    if planted:
        checks.append(_rate(f"flags at least {power:g} of the planted texts", on_planted, power, most=False))
    return ContractReport(tuple(checks))


def _ask(detector: AbstractDetector, text: str) -> Verdict | str:
    try:
        verdict = detector.judge(text)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return verdict if isinstance(verdict, Verdict) else "no verdict"  # pyright: ignore[reportUnnecessaryIsInstance]


def _whole(name: str, answers: Sequence[Verdict | str]) -> Check:
    wrong = [answer for answer in answers if isinstance(answer, str)]
    why = f"{len(answers) - len(wrong)} of {len(answers)}{'; ' + wrong[0] if wrong else ''}"
    return Check(name, not wrong, why)


def _quotes(answers: Sequence[Verdict | str]) -> bool:
    return any(isinstance(answer, Verdict) and _MARK in answer.why for answer in answers)


def _rate(name: str, answers: Sequence[Verdict | str], stated: float, *, most: bool) -> Check:
    """Fail if the count would be a surprise at the stated rate; a text without a verdict counts against it."""
    against = [isinstance(answer, str) or answer.flagged is most for answer in answers]
    hits, n = sum(against), len(answers)
    surprise = float(binom.sf(hits - 1, n, stated if most else 1.0 - stated))
    flagged = wilson(hits if most else n - hits, n)
    why = f"{flagged.value:.3f} [{flagged.low:.3f}, {flagged.high:.3f}] of {n}; exact binomial p {surprise:.2g}"
    return Check(name, surprise >= FALSE_ALARM, why, flagged)
