"""The base class of detectors (text in, verdict out), the checker for plug-ins, and all detectors by name.

A detector may be slow, wrong or broken; the proxy survives all three. It is called by one thread of its own, one text
after another, so it may keep state without locks, unless it says that it has room for more `threads`. Run
`check_detector` on a detector of your own before you let it block.
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
"""Side of an exchange: what the client sends to the model, or what the model answers."""

BOTH: frozenset[Side] = frozenset(("request", "reply"))

MOST_CHARACTERS = 200_000
"""Longest text that is judged; a longer one counts as a failure of the detector."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says about one text.

    Attributes:
        flagged: whether the text is reported, or blocked if the operator chose so.
        why: the rule that was broken, in the detector's own words; "" for none. It is stored and shown, so it must
            never hold a piece of the text.
        score: how bad the text is, higher for worse; None if the detector has no score.
    """

    flagged: bool
    why: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredEvidence:
    """The evidence that a detector has gathered over all texts so far.

    Attributes:
        null: the hypothesis that is tested, in words.
        n: number of texts so far.
        hits: number of texts that counted against the hypothesis.
        log_e: natural logarithm of the e-value now.
        highest: highest value of `log_e` so far.
        alpha: probability of ever raising a false alarm, at most.
        alarmed: whether `highest` ever reached its bound.
        state: what `AbstractDetector.resume` needs to continue, as plain JSON.
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
    """Base class of detectors, which judge requests, replies or both.

    Attributes:
        name: name of the detector, as stored in the events; it must hold every setting that changes what is judged.
        sides: which texts are judged: those of requests, of replies or both.
        can_flag: whether it ever flags a text; False for one that only gathers evidence.
        pieces: whether a streamed reply may be judged in pieces, each with some text before it. False for a detector
            that counts replies or needs their end: it reads a reply once, whole.
        fewest: least number of characters of a stream that it can judge. The first piece is held until it has as many,
            or the reply has ended.
        context: number of characters before a piece of a stream that it must see, at least. The text that it is given
            then begins at a multiple of so many characters of the reply, as the windows of a detector do that reads a
            long text in windows; of several detectors the largest number counts.
        threads: how many texts it can read at once, however many an operator allows. More than 1 is for detectors whose
            `judge` changes no state.
    """

    name: str
    sides: frozenset[Side] = BOTH
    can_flag: bool = True
    pieces: bool = True
    fewest: int = 0
    context: int = 0
    threads: int = 1

    @abstractmethod
    def judge(self, text: str) -> Verdict:
        """Judge one text of at most `MOST_CHARACTERS` characters.

        Any exception counts as a failure of the detector on this text.

        Args:
            text: a request or a reply, or the piece of a streamed reply that is judged together.

        Returns:
            Whether the text is flagged, by which rule, and how strongly.
        """

    def evidence(self) -> GatheredEvidence | None:
        """Return the evidence gathered over all texts; None for a detector that judges each text alone."""
        return None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of an earlier process; called before the first text.

        Args:
            state: `GatheredEvidence.state`, as it was stored.
        """
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
"""Function that makes each detector, by the detector's kind. It is given what an operator writes behind the kind and a
colon, and the whole text, which becomes the detector's name."""


def detector(specification: str) -> AbstractDetector:
    """Make a detector from its specification, such as "mention:owl=0.01".

    Args:
        specification: kind of the detector, a colon, and its settings; this becomes its name.

    Raises:
        UnknownNameError: there is no kind of detector of this name.
        UserError: the part behind the colon, or a file that it names, cannot be used.
    """
    kind, _, settings = specification.partition(":")
    return DETECTORS[kind](settings, specification)


def with_number(settings: str, default: float, form: str) -> tuple[str, float]:
    """Split what an operator writes at its last @ into a text and a number, or the default if there is no @.

    Args:
        settings: the settings as the operator wrote them.
        default: number that is taken if none is written.
        form: how the detector must be written, for the error message.

    Raises:
        ConfigError: there is nothing before the @, or no number behind it.
    """
    body, _, number = settings.rpartition("@") if "@" in settings else (settings, "", "")
    try:
        if not body:
            raise ValueError
        return body, float(number) if number else default
    except ValueError:
        raise wrong_form(settings, form) from None


def wrong_form(settings: str, form: str) -> ConfigError:
    """Build the error for settings of a detector that are not written as they must be.

    Args:
        settings: the settings as the operator wrote them.
        form: how the detector must be written.
    """
    return ConfigError("This is not how the detector is written.", settings, f"Write {form}.")


FALSE_ALARM = 0.01
"""Probability with which `check_detector` fails a detector whose rate is exactly the stated one, for each of the two
rates."""

_MARK = "qzxvjkwq"
ODD_TEXTS = (
    "", " ", "\n" * 50, "\0\x07\x1b[31m", "\ud800", "\U0001f989" * 200, "a" * 50_000, "(" * 5_000, "0 " * 20_000,
    "{\"a\": [" * 200, "<script>" * 100, "\u202e\u200b" * 100,
)  # fmt: skip
"""Odd texts on which `check_detector` tries a detector; clients do send such."""


def check_detector(
    make: Callable[[], AbstractDetector],
    clean: Sequence[str],
    planted: Sequence[str],
    *,
    rate: float = 0.01,
    power: float = 0.8,
    seconds: float = 2.0,
) -> ContractReport:
    """Measure whether a detector keeps its contract.

    A broken detector raises nothing here; the report names what failed.

    Args:
        make: function that makes a fresh detector, so that one with a memory is judged from its beginning.
        clean: new texts that should pass, shorter than `MOST_CHARACTERS`; some hundred.
        planted: new texts that should be flagged; empty for a detector that only gathers evidence.
        rate: largest share of the clean texts that may be flagged, in (0, 1).
        power: least share of the planted texts that must be flagged, in (0, 1).
        seconds: most seconds for any one of the odd texts.

    Returns:
        The outcome of each requirement, with the measured rates and their Wilson intervals.

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
    """Fail if the count would be a surprise at the stated rate; a text without a verdict counts as an error."""
    against = [isinstance(answer, str) or answer.flagged is most for answer in answers]
    hits, n = sum(against), len(answers)
    surprise = float(binom.sf(hits - 1, n, stated if most else 1.0 - stated))
    flagged = wilson(hits if most else n - hits, n)
    why = f"{flagged.value:.3f} [{flagged.low:.3f}, {flagged.high:.3f}] of {n}; exact binomial p {surprise:.2g}"
    return Check(name, surprise >= FALSE_ALARM, why, flagged)
