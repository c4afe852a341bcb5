"""A constitution as a detector: examples of each rule train a small classifier.

It sees what the words say. A preference that was planted in a model and does not show in its words is not seen;
docs/monitor_figures.md has the measured rate. Nothing is stored: the classifier is trained from the file, in seconds,
each time.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import final

import numpy as np

from undertow.errors import EmptyDataError
from undertow.monitor.constitution import ALLOWED, Constitution, read_constitution
from undertow.monitor.detectors.base import AbstractDetector, Verdict, with_number
from undertow.monitor.detectors.classifiers import SHORTEST, classifier
from undertow.seeds import derive
from undertow.stats.checks import check_fraction
from undertow.stats.estimates import wilson
from undertow.types import Estimate

WINDOW = 2000
"""Number of characters that are judged together. A longer text is as bad as its worst window, so it is flagged more
often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Rates of the classifier on texts that neither trained it nor set its threshold.

    Attributes:
        threshold: log-odds above which a text is flagged.
        false_positives: share of the allowed texts that are flagged, with Wilson's interval.
        found: share of each rule's texts that are flagged, with Wilson's interval, by the rule's name.
    """

    threshold: float
    false_positives: Estimate
    found: Mapping[str, Estimate]


@final
class ConstitutionDetector(AbstractDetector):
    """Flags a text whose log-odds of breaking any rule lie above a calibrated threshold.

    Half of each rule's examples train the classifier, and half are held out. Of the allowed texts two fifths train it
    and three tenths set the threshold: by conformal prediction a new text of their kind is flagged with a probability
    of at most `rate`. The other three tenths measure the rate that results. Texts that people labelled are used to
    train it alone.

    A text is as bad as the worst of its beginnings, each up to the end of a word; a long one is read in windows, each
    with its own beginnings. So the threshold also holds for a stream that is judged in pieces, which are read in the
    same windows: no piece that ends with a word is worse than the whole. With an encoder a text is scored once, whole,
    and a stream is held until its end.

    Args:
        constitution: the rules with their texts.
        rate: false-positive rate that the threshold is set for, in (0, 1).
        seed: random seed of the split of the texts.
        name: name of the detector in the events.

    Raises:
        ConfigError: the rate lies outside (0, 1).
        EmptyDataError: there are too few allowed texts for this rate.
        MissingExtraError: scikit-learn is not installed, or torch for an encoder.
        ModelError: the encoder cannot be loaded.
    """

    def __init__(
        self, constitution: Constitution, rate: float = 0.01, seed: int = 0, name: str = "constitution"
    ) -> None:
        check_fraction("false-positive rate", rate)
        self.name = name
        train, calibrate, test = _parts(constitution.allowed, derive(seed, "allowed"), (0.4, 0.3, 0.3))
        if len(calibrate) < 1.0 / rate - 1.0:
            needed = ceil((1.0 / rate - 1.0) / 0.3) + 2
            raise EmptyDataError(
                "There are too few allowed texts to set the threshold.",
                f"{len(constitution.allowed)} for a false-positive rate of {rate:g}",
                f"Give at least {needed} ordinary replies under `allowed`, or accept a higher rate.",
            )
        halves = {rule: _parts(texts, derive(seed, rule), (0.5, 0.5)) for rule, texts in constitution.rules.items()}
        self._rules = tuple(constitution.rules)
        labelled = [(text, 0) for text in train]
        labelled += [(text, place + 1) for place, (half, _) in enumerate(halves.values()) for text in half]
        classes = {ALLOWED: 0, **{rule: place + 1 for place, rule in enumerate(halves)}}
        labelled += [(text, classes[label]) for label, texts in constitution.labelled.items() for text in texts]
        texts, labels = [text for text, _ in labelled], [label for _, label in labelled]
        self._model = classifier(texts, labels, constitution.encoder)
        # Without spaces between words hardly any beginning is scored, so that a stream must be read whole.
        self.pieces = self._model.beginnings and _mean_word(constitution.allowed) < SHORTEST
        self.fewest, self.context = SHORTEST, WINDOW // 2
        scores = np.sort([self._worst(text)[0] for text in calibrate])
        self.threshold = float(scores[ceil((len(scores) + 1) * (1.0 - rate)) - 1])
        self.held_out = HeldOut(
            threshold=self.threshold,
            false_positives=self._flagged(test),
            found={rule: self._flagged(half) for rule, (_, half) in halves.items()},
        )

    @classmethod
    def read(cls, settings: str, name: str) -> "ConstitutionDetector":
        """Make the detector from the settings of constitution:FILE[@RATE].

        Args:
            settings: the part of the specification behind the colon.
            name: the whole specification, which becomes the detector's name.

        Raises:
            UserError: the file or the rate cannot be used.
        """
        path, rate = with_number(settings, 0.01, "constitution:FILE[@RATE]")
        return cls(read_constitution(Path(path)), rate, name=name)

    def judge(self, text: str) -> Verdict:
        """Judge the worst beginning of the worst window of the text; the verdict names the likeliest rule."""
        score, rule = self._worst(text)
        flagged = score > self.threshold
        return Verdict(flagged, rule if flagged else "", score)

    def _worst(self, text: str) -> tuple[float, str]:
        """Return the log-odds that the worst part of a text breaks any rule, and the likeliest rule there."""
        step = WINDOW // 2
        starts = range(0, max(1, len(text) - step), step)
        scores = np.concatenate([self._model.scores(text[start : start + WINDOW]) for start in starts])
        odds = np.logaddexp.reduce(scores[:, 1:], axis=1) - scores[:, 0]
        worst = int(odds.argmax())
        return float(odds[worst]), self._rules[int(scores[worst, 1:].argmax())]

    def _flagged(self, texts: Sequence[str]) -> Estimate:
        return wilson(sum(self.judge(text).flagged for text in texts), len(texts))


def _mean_word(texts: Sequence[str]) -> float:
    """Return how many characters stand between spaces, on average."""
    words = [word for text in texts for word in text.split()]
    return sum(map(len, words)) / max(1, len(words))


def _parts(texts: Sequence[str], seed: int, shares: Sequence[float]) -> list[list[str]]:
    """Shuffle texts and split them into parts of these shares."""
    shuffled = list(texts)
    random.Random(seed).shuffle(shuffled)
    ends = [round(len(shuffled) * sum(shares[: place + 1])) for place in range(len(shares))]
    return [shuffled[start:end] for start, end in zip([0, *ends], ends, strict=False)]
