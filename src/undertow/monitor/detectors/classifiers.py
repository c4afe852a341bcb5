"""Classifiers that tell texts that break a rule from ordinary ones, by n-grams or by the vectors of an encoder.

N-grams need no model. An encoder knows words that no example has, and costs a forward pass a text; take one of another
family than the guarded model.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from undertow.errors import MissingExtraError, ModelError
from undertow.stats.checks import Floats

LONGEST = 512
"""Most tokens of a text that an encoder reads, if its tokenizer names no smaller number."""

BATCH = 32
"""Number of texts that an encoder reads at once."""


class AbstractClassifier(ABC):
    """Base class of classifiers: a score of a text for each class; class 0 breaks no rule."""

    @abstractmethod
    def scores(self, text: str) -> Floats:
        """Return the score of each class, float64 (classes,): a log-probability up to a common constant."""


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

    scikit-learn trains it and lists the n-grams of a text. The rest of a score is computed here, because its pipeline
    of two vectorisers takes several times as long for a single text.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int]) -> None:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        grams = hstack([one.fit_transform(texts) for one in (words, characters)]).tocsr()
        weights, self._constant = _regression(grams, labels)
        ends = np.cumsum([len(words.vocabulary_), len(characters.vocabulary_)])
        self._parts = [
            (one.build_analyzer(), one.vocabulary_, one.idf_, weights[:, end - len(one.idf_) : end].T)
            for one, end in zip((words, characters), ends, strict=True)
        ]

    def scores(self, text: str) -> Floats:
        """See `AbstractClassifier`."""
        total = self._constant
        for grams, vocabulary, idf, weights in self._parts:
            counts = Counter(vocabulary[gram] for gram in grams(text) if gram in vocabulary)
            if counts:
                places = np.fromiter(counts, dtype=np.intp, count=len(counts))
                values = (1.0 + np.log(np.fromiter(counts.values(), dtype=np.float64))) * idf[places]
                total = total + values @ weights[places] / np.sqrt(values @ values)
        return total


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
        return self._weights @ self._vectors([text])[0] + self._constant

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
