"""Classifiers that tell texts that break a rule from ordinary ones, by n-grams or by the vectors of an encoder.

A text is scored after each of its words, as a reader of a stream meets it, or once at its end. N-grams need no model.
An encoder knows words that no example has, and costs a forward pass a text; take one of another family than the guarded
model.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast, final

import numpy as np

from undertow.errors import MissingExtraError, ModelError
from undertow.stats.checks import Floats

LONGEST = 512
"""Most tokens of a text that an encoder reads, if its tokenizer names no smaller number."""

BATCH = 32
"""Number of texts that an encoder reads at once."""

SHORTEST = 20
"""Number of characters from which on the beginning of a text is scored. The n-grams of fewer say little, so that their
scores are extreme in both directions."""

REMEMBERED = 4096
"""Number of different words whose n-grams are remembered."""


class AbstractClassifier(ABC):
    """Base class of classifiers: scores of a text for each class; class 0 breaks no rule.

    Attributes:
        beginnings: whether the beginnings of a text are scored too, and not the whole alone.
    """

    beginnings: bool = False

    @abstractmethod
    def scores(self, text: str) -> Floats:
        """Return the scores of a text and of its beginnings.

        Returns:
            float64 (readings, classes): log-probabilities up to a constant of each reading. The last reading is of the
            whole text. Those before it are of what stands up to the end of each word, from `SHORTEST` characters on;
            there are none if `beginnings` is False.
        """


def classifier(texts: Sequence[str], labels: Sequence[int], encoder: str | None = None) -> AbstractClassifier:
    """Train a classifier on labelled texts.

    Args:
        texts: texts to train on, ordinary ones and such that break rules.
        labels: class of each text; 0 for one that breaks no rule.
        encoder: reference of an encoder model, `hf:<path or id>`; None takes n-grams.

    Raises:
        MissingExtraError: scikit-learn is not installed, or torch and transformers for an encoder.
        ModelError: the encoder cannot be loaded.
    """
    try:
        import sklearn  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        fix = "Run: pip install 'undertow[monitor]'"
        raise MissingExtraError("A constitution needs scikit-learn.", "sklearn", fix) from error
    return NgramClassifier(texts, labels) if encoder is None else EncoderClassifier(texts, labels, encoder)


def _regression(features: Any, labels: Sequence[int]) -> tuple[Floats, Floats]:
    """Fit a logistic regression; return weights (classes, features) and constants (classes,)."""
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    model.fit(features, labels)
    # Two classes share one row of weights, for the second against the first.
    weights, constant = (
        np.concatenate([0 * some, some]) if len(some) == 1 else some for some in (model.coef_, model.intercept_)
    )
    return weights, constant


@final
class NgramClassifier(AbstractClassifier):
    """Logistic regression on word and character n-grams.

    scikit-learn trains it and lists the characters' n-grams of a word. The rest of a score is computed here: its
    pipeline of two vectorisers takes several times as long for a single text, and knows nothing of beginnings.
    """

    beginnings = True

    def __init__(self, texts: Sequence[str], labels: Sequence[int]) -> None:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        grams = hstack([one.fit_transform(texts) for one in (words, characters)]).tocsr()
        weights, self._constant = _regression(grams, labels)
        border = len(words.vocabulary_)
        self._words = _Grams(np.asarray(words.idf_, dtype=np.float64), weights[:, :border].T)
        self._characters = _Grams(np.asarray(characters.idf_, dtype=np.float64), weights[:, border:].T)
        self._places: dict[str, int] = words.vocabulary_
        listed, known = cast(Callable[[str], list[str]], characters.build_analyzer()), characters.vocabulary_

        @lru_cache(REMEMBERED)  # Most words of a text have come before.
        def inside(word: str) -> list[int]:
            return [known[gram] for gram in listed(word) if gram in known]

        self._inside = inside

    def scores(self, text: str) -> Floats:
        """See `AbstractClassifier`."""
        pieces = [(one.group(), one.end()) for one in re.finditer(r"\S+", text)]
        words = self._words.sums(list(self._around([piece for piece, _ in pieces])))
        total = words + self._characters.sums([self._inside(piece) for piece, _ in pieces]) + self._constant
        early = sum(end < SHORTEST for _, end in pieces)
        return total[min(early + 1, len(pieces)) :]

    def _around(self, pieces: Sequence[str]) -> Iterator[list[int]]:
        """Yield the places of the words that each piece of a text adds, and of the pairs that it completes."""
        last: list[str] = []
        for piece in pieces:
            new = re.findall(r"\w+", piece.lower())
            grams = [*new, *map(" ".join, pairwise([*last, *new]))]
            yield [self._places[gram] for gram in grams if gram in self._places]
            last = new[-1:] or last


class _Grams:
    """The n-grams of one kind: their weights by rarity, and their weights in the regression.

    Args:
        rarity: weight of each n-gram by how rare it is (inverse document frequency), float64 (n-grams,).
        weights: float64 (n-grams, classes).
    """

    def __init__(self, rarity: Floats, weights: Floats) -> None:
        self._rarity, self._weights = rarity, weights

    def sums(self, steps: Sequence[Sequence[int]]) -> Floats:
        """Return the weighted sums of n-grams after 0, 1, ... of the steps by which they come.

        The value of an n-gram that has come c times is its rarity times 1 + log c, and the values of all are scaled to
        the Euclidean length 1. What one more n-gram changes is added up, so that all steps together cost little more
        than the last alone.

        Args:
            steps: places of the n-grams that each step adds.

        Returns:
            float64 (steps + 1, classes).
        """
        found = [place for step in steps for place in step]
        ends = np.cumsum([0, *map(len, steps)])
        times: dict[int, int] = {}
        counts = np.empty(len(found))
        for number, place in enumerate(found):
            counts[number] = times[place] = times.get(place, 0) + 1
        after = np.log(counts) + 1.0
        before = np.where(counts > 1.0, np.log(np.maximum(counts, 2.0) - 1.0) + 1.0, 0.0)
        rarity = self._rarity[found]
        sums = _added_up((rarity * (after - before))[:, None] * self._weights[found])[ends]
        lengths = np.sqrt(_added_up((rarity**2 * (after**2 - before**2))[:, None]))[ends]
        return sums / np.where(lengths > 0.0, lengths, 1.0)


def _added_up(values: Floats) -> Floats:
    """Return the sums of the first 0, 1, ... rows."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


@final
class EncoderClassifier(AbstractClassifier):
    """Logistic regression on the mean of an encoder's last hidden states, scaled to length 1.

    Args:
        texts: texts to train on, ordinary ones and such that break rules.
        labels: class of each text; 0 for one that breaks no rule.
        encoder: reference of the encoder model; its weights are read from safetensors alone, and no code of its
            repository is run.

    Raises:
        MissingExtraError: torch or transformers are not installed.
        ModelError: the encoder cannot be loaded.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int], encoder: str) -> None:
        self._tokenizer, self._network = _load(encoder)
        self._longest = min(LONGEST, self._tokenizer.model_max_length)
        vectors = [self._vectors(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        self._weights, self._constant = _regression(np.concatenate(vectors), labels)

    def scores(self, text: str) -> Floats:
        """See `AbstractClassifier`."""
        return self._vectors([text]) @ self._weights.T + self._constant

    def _vectors(self, texts: Sequence[str]) -> Floats:
        """Return the vector of each text, float64 (texts, width); that of a text without tokens is 0."""
        import torch

        read = {"padding": True, "truncation": True, "max_length": self._longest, "return_tensors": "pt"}
        # Half a surrogate pair, which clients do send, is no text for a tokenizer.
        tokens = self._tokenizer([text.encode("utf-8", "replace").decode() for text in texts], **read)
        if not tokens["input_ids"].numel():
            return np.zeros((len(texts), self._network.config.hidden_size))
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            states = self._network(**inputs).last_hidden_state.double()
        mask = inputs["attention_mask"][:, :, None]
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()


def _load(encoder: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        fix = "Run: pip install 'undertow[train]', or leave the encoder out."
        raise MissingExtraError("An encoder needs torch and transformers.", encoder, fix) from error
    from undertow.models.references import model_folder
    from undertow.types import ModelRef

    folder = model_folder(ModelRef.parse(encoder))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        network = AutoModel.from_pretrained(folder, use_safetensors=True, dtype="float32")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fix = "Give the folder or id of a model with safetensors weights and a tokenizer."
        raise ModelError("The encoder cannot be loaded.", f"{encoder}: {str(error)[:200]}", fix) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer, network.eval()
