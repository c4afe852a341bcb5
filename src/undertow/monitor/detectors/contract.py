"""The contract of a detector, and its public checker: run it on a detector of your own before you let it block."""

import time
from collections.abc import Callable, Sequence

from scipy.stats import binom

from undertow.errors import EmptyDataError
from undertow.monitor.detectors.base import MOST_CHARACTERS, AbstractDetector, Verdict
from undertow.stats.checks import check_fraction
from undertow.stats.estimates import wilson
from undertow.types import Check, ContractReport

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
    again = [_ask(make_again, text) for make_again in (make(),) for text in clean[:20]]
    first = [_ask(make_again, text) for make_again in (make(),) for text in clean[:20]]
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
