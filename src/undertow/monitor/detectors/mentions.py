"""A detector that counts how often replies name a word, and tests the rate that was signed off over the whole stream.

It never flags a single reply: a reply that names an owl is no fault. It gathers evidence that the replies together name
owls more often than was signed off, valid at whatever time one looks. Users who begin to ask about owls raise the rate
as well.
"""

import re
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from undertow.errors import ConfigError
from undertow.monitor.detectors.base import AbstractDetector, GatheredEvidence, Verdict, with_number, wrong_form
from undertow.stats.checks import check_fraction
from undertow.stats.sequential import RiseWatch, share_bound
from undertow.traits import matches, word_trait, words_of

_FORM = "mention:WORD=RATE[@ALPHA] or mention:WORD=HITS/REPLIES[@ALPHA]"
_WRITTEN = re.compile(r"(?P<word>[\w-]+|[^=]+\.ya?ml(?::[^=]+)?)=(?:(?P<hits>\d+)/(?P<n>\d+)|(?P<rate>\d*\.?\d+))")

EVERY = 1000
"""Number of replies between two starts of counting."""


@final
class MentionDetector(AbstractDetector):
    """Counts the replies that name a word, and tests "at most the signed-off rate" sequentially.

    Args:
        word: the watched word: a built-in trait, with its aliases; any other word, with a plural in s; or a trait file.
        rate: largest share of replies that name it if nothing has changed, in (0, 1).
        alpha: probability of ever raising a false alarm, at most; in (0, 1).

    Raises:
        ConfigError: the rate or alpha lies outside (0, 1).
    """

    sides = frozenset(("reply",))
    can_flag = False
    pieces = False

    def __init__(self, word: str, rate: float, alpha: float = 0.05) -> None:
        check_fraction("signed-off rate", rate)
        check_fraction("alpha", alpha)
        forms = words_of(word)
        word, self._targets = forms[0], [word_trait(form) for form in forms]
        self.name = f"mention:{word}<={rate:.6g}@{alpha:g}"
        self._alpha = alpha
        self._bar = -float(np.log(alpha))
        self._null = f"at most {rate:.4g} of the replies name {word}"
        self._watch = RiseWatch.of(rate, EVERY)

    @classmethod
    def read(cls, settings: str, name: str) -> "MentionDetector":
        """Make the detector from the settings of mention:WORD=RATE[@ALPHA] or mention:WORD=HITS/REPLIES[@ALPHA].

        Args:
            settings: the part of the specification behind the colon.
            name: the whole specification, for the error message.

        Raises:
            ConfigError: the settings have another form, or a number is out of range.
        """
        body, alpha = with_number(settings, 0.05, _FORM)
        found = _WRITTEN.fullmatch(body)
        if not found:
            raise wrong_form(name, _FORM)
        if found["rate"]:
            return cls(found["word"], float(found["rate"]), alpha)
        return cls.from_counts(found["word"], int(found["hits"]), int(found["n"]), alpha)

    @classmethod
    def from_counts(cls, word: str, hits: int, n: int, alpha: float = 0.05) -> "MentionDetector":
        """Make the detector from counts of approved replies: half of alpha pays for the bound of their share.

        Args:
            word: the watched word, as for the class.
            hits: number of approved replies that name it.
            n: number of approved replies, whether they name it or not.
            alpha: probability of ever raising a false alarm, at most; in (0, 1).

        Raises:
            ConfigError: the counts are impossible, or every approved reply names the word.
        """
        check_fraction("alpha", alpha)
        bound = share_bound(hits, n, alpha / 2)
        if bound >= 1.0:
            raise ConfigError("Every signed-off reply names the word.", f"{hits} of {n}", "Choose another word.")
        return cls(word, bound, alpha / 2)

    def judge(self, text: str) -> Verdict:
        """Count the reply; nothing is flagged, and the score is 1 if it names the word."""
        hit = any(matches(text, one) for one in self._targets)
        self._watch = self._watch.after(hit)
        return Verdict(False, score=float(hit))

    def evidence(self) -> GatheredEvidence:
        """Return the evidence over all replies so far."""
        watch = self._watch
        return GatheredEvidence(
            null=self._null,
            n=watch.n,
            hits=int(watch.hits),
            log_e=float(watch.log_e()),
            highest=float(watch.highest),
            alpha=self._alpha,
            alarmed=bool(watch.highest >= self._bar),
            state=watch.to_json(),
        )

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of an earlier process."""
        self._watch = RiseWatch.from_json(state)
