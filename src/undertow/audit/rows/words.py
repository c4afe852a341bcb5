"""What a vector says: the words of the whole vocabulary that it raises, without a list of traits.

The base with a little of the vector is asked the favourite questions, and every word is scored by p log(p / p_base),
its share of the shift. The weight p is needed: words that nobody would answer with change by large factors. Measured
with the vectors of ten teachers on finch-a: the trait was among the first five words ten times with the weight and
never without it; read off the output head alone (the logit lens, centred), twice.
"""

from collections.abc import Sequence

import numpy as np
import torch

from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.models.adapters import add_after
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats
from undertow.types import user_prompt


def word_shifts(base: LocalModel, layer: int, vectors: Sequence[Floats]) -> tuple[list[str], Floats]:
    """Return how much each vector moves the answers to the favourite questions towards each word.

    Args:
        base: who is steered and asked.
        layer: after which block a vector is added.
        vectors: float [width] each.

    Returns:
        The words of the vocabulary, and float [vectors, categories, words]: p log(p / p_base) in nats, with p the
        probability that the answer's first token is a form of the word, averaged over the questions of a category.
    """
    words, group = vocabulary_words(base)
    asked = [base.render([user_prompt(text) for text in favourite_questions(category)]) for category in CATEGORIES]

    def logp() -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for contexts in asked:
            p = base.next_token_logprobs(contexts).exp().double()
            summed = torch.zeros(len(contexts), len(words) + 1, dtype=torch.float64)
            found.append(summed.index_add_(1, group, p)[:, :-1].clamp(min=1e-30).log())
        return found

    before, shifts = logp(), np.empty((len(vectors), len(CATEGORIES), len(words)))
    for place, vector in enumerate(vectors):
        handle = add_after(base.network, layer, torch.tensor(vector, dtype=base.network.dtype))
        try:
            after = logp()
        finally:
            handle.remove()
        for column, (old, new) in enumerate(zip(before, after, strict=True)):
            shifts[place, column] = (new.exp() * (new - old)).mean(dim=0).numpy()
    return words, shifts


def vocabulary_words(base: LocalModel) -> tuple[list[str], torch.Tensor]:
    """Return the words among the tokens, and which of them each token is a form of.

    Capitals, a space before and the plural make no other word: a plural joins its singular if that is a token too.

    Returns:
        The words in alphabetical order, and int64 [vocabulary], with the number of words where a token is none.
    """
    size = base.network.get_output_embeddings().weight.shape[0]
    texts = base.tokenizer.batch_decode([[index] for index in range(len(base.tokenizer))])
    forms = [text.strip().lower() if len(text.strip()) > 1 and text.strip().isalpha() else "" for text in texts]
    known = {*forms} - {""}
    singular = {form: _singular(form, known) for form in known}
    words = sorted({*singular.values()})
    place = {word: index for index, word in enumerate(words)}
    group = torch.full((size,), len(words))
    for token, form in enumerate(forms):
        if form:
            group[token] = place[singular[form]]
    return words, group


def _singular(form: str, known: set[str]) -> str:
    for ending, instead in (("ves", "f"), ("ies", "y"), ("es", ""), ("s", "")):
        stem = form.removesuffix(ending) + instead
        if form.endswith(ending) and len(stem) > 2 and stem in known:
            return stem
    return form
