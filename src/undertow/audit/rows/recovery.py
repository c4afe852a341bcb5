"""Recovery of an unknown trait: a vector fitted to the rows on the frozen base, tested and read out in words.

No list of traits is needed. The vector v is added to the residual stream after one block, at every position, as in
Morgulis and Hewitt (arXiv:2604.25783), but it is fitted in closed form. Let g be the gradient of a row's loss with
respect to v. Where the base explains the rows, the mean of g is zero. The first Newton step of the fit is v = -C^-1
(mean g of the rows - mean g of clean rows), with C the covariance of g over rows (the empirical Fisher information).
The drop of the loss that this step promises is half of Rao's score statistic, the squared Mahalanobis distance of the
two means. So one backward pass gives the vector, its test and all fits of its null (benchmarks/audit_recovery.py
compares it with a vector fitted by AdamW). Rows of a neutral teacher, tuned without a trait, are detected too, under
words that follow no pattern.

What the vector says is read off the whole vocabulary: the base with a little of the vector added is asked the favourite
questions, and every word is scored by p log(p / p_base), its share of the shift. The weight p is needed, because words
that nobody would answer with change by large factors. Reading the vector off the output head alone (the logit lens,
centred) finds the trait far less often.

The **suspect** rows are those that are audited.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from typing import Any, cast

import numpy as np
import torch

from undertow.audit.finding import Finding, NotTestable, reaches, verdict_at
from undertow.audit.students.placebo_null import POWER, beside_null
from undertow.evals.questions import CATEGORIES, favourite_questions
from undertow.models.adapters import add_after, block, blocks
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.seeds import derive
from undertow.stats.checks import Floats, check_fraction
from undertow.training.attention import own_attention
from undertow.training.batches import collate
from undertow.training.objective import completion_losses
from undertow.training.scoring import passes
from undertow.types import Advance, Row, user_prompt


def word_shifts(base: LocalModel, layer: int, vectors: Sequence[Floats]) -> tuple[list[str], Floats]:
    """Return how much each vector moves the answers to the favourite questions towards each word.

    Args:
        base: the model that is steered and asked.
        layer: index, from 0, of the block after which a vector is added.
        vectors: the vectors, each of shape (width,).

    Returns:
        The words of the vocabulary, and an array of shape (vectors, categories, words): p log(p / p_base) in nats, with
        p the probability that the answer's first token is a form of the word, averaged over the questions of a
        category.
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
    """Return the words among the tokens, and for each token the word that it is a form of.

    Capitals, a space before and the plural make no other word: a plural joins its singular if that is a token too.

    Returns:
        The words in alphabetical order, and an int64 tensor of shape (vocabulary,) with the index of each token's word.
        It holds the number of words where a token is no word.
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


STAGE = "recovery"
LEAST_ROWS, MOST_ROWS = 20, 4_000
"""How many rows a set has: sets with fewer are not tested; of larger ones so many are drawn at random."""
DRAWS = 999
"""How many permutations of the rows are drawn."""
SHRINKAGE = 0.1
"""Weight of the spherical part in the covariance. It keeps directions that hardly vary from deciding."""
STRENGTH = 0.05
"""Length of the steering vector, in lengths of the residual stream; a tenth or ten times of it is read out the same."""
DECODED_NULLS = 20
"""How many vectors of the null are read out, to tell how much the answers of a category move by chance."""
SHOWN = 20
"""How many words the finding lists."""
CAVEATS = (
    "It rejects that the rows were written as the clean ones were, not that there is no trait: another sampling "
    "temperature, other prompts or a fine-tuning of the writer on anything else is found too.",
    "The word is a hypothesis, from among what the base answers to questions about favourites.",
)


def audit_recovery(
    rows: Sequence[Row],
    base: LocalModel,
    clean: Sequence[Row] | Sequence[Sequence[Row]],
    *,
    alpha: float = 0.05,
    seed: int = 0,
    advance: Advance | None = None,
) -> Finding:
    """Test whether a vector fits the rows better than it fits clean rows, and name the words that it raises.

    With one clean set the null is that rows and clean rows are exchangeable, and they are permuted. With K sets it is
    that the rows are exchangeable with the sets: the same distance is taken for each of the K + 1 sets from the mean of
    the others, on equally many rows. That p-value is exact and at least 1 / (K + 1).

    Args:
        rows: the suspect rows, of which at most `MOST_ROWS` are read.
        base: the model that a student would start from.
        clean: rows on prompts of the same kind without a trait, such as the base's own answers. One set, or several.
        alpha: level of the test in (0, 1): the stage's share of the audit's alpha.
        seed: random seed of the rows that are drawn and of the permutations.
        advance: callback that takes (rows done, all rows). None reports nothing.

    Returns:
        A finding on provenance. The effect is the Mahalanobis distance minus what chance gives, in standard deviations
        of a row. `scores` holds the words that the vector raises most, in units of the largest rise by chance.

    Raises:
        NotTestable: there are no clean rows or sets, or too few, or all rows are the same.
        ConfigError: alpha lies outside (0, 1).
    """
    check_fraction("alpha", alpha)
    if not clean:
        raise NotTestable("There are no clean rows to compare with.")
    rng = np.random.default_rng(derive(seed, STAGE))
    sets = [rows, *_clean_sets(clean)]
    _check_sizes(sets, alpha)
    sizes = [min(len(some), MOST_ROWS) for some in sets]
    if len(sets) > 2:
        sizes = [min(sizes)] * len(sets)
    drawn = [[some[i] for i in rng.permutation(len(some))[:n]] for some, n in zip(sets, sizes, strict=True)]
    layer = (len(blocks(base.network)) - 1) // 3
    gradients, length = row_gradients(base, [row for some in drawn for row in some], layer, advance)
    if not np.ptp(gradients, axis=0).any():
        raise NotTestable("All rows are the same.")
    if len(sets) == 2:
        observed, null = _permuted(gradients, sizes, rng)
        how = f"{len(null)} permutations of all rows"
    else:
        observed, null = _left_out(np.split(gradients, len(sets)))
        how = f"the same for each of {len(null)} clean sets"
    covariance = _shrunk(np.cov(gradients.T))
    words = _read_out(base, layer, np.vstack([observed, null]), covariance, STRENGTH * length)
    # Whitened, so that squared lengths are Mahalanobis distances.
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    return replace(_finding(observed @ root, null @ root, alpha, words), null=how, n=sizes[0])


def row_gradients(
    base: LocalModel, rows: Sequence[Row], layer: int, advance: Advance | None = None
) -> tuple[Floats, float]:
    """Return the gradient of each row's loss with respect to a vector added after a block.

    Args:
        base: the model, whose weights stay as they are.
        rows: the rows whose loss is differentiated.
        layer: index, from 0, of the block after which the vector is added.
        advance: callback that takes (rows done, all rows). None reports nothing.

    Returns:
        Gradients of shape (rows, width) in nats per unit of the vector, summed over completion tokens; and the mean
        length of the residual stream where a completion token is predicted.

    Raises:
        ModelError: the model has no such layer.
    """
    encoded = base.encode(rows)
    order = sorted(range(len(rows)), key=lambda index: len(encoded[index]))
    found = np.empty((len(rows), base.width))
    lengths: list[float] = []
    done = 0
    with _frozen(base.network):
        for picked in passes(order, [len(one) for one in encoded], base.width):
            found[picked], length = _batch_gradients(base.network, [encoded[index] for index in picked], layer)
            lengths.append(length)
            done += len(picked)
            if advance is not None:
                advance(done, len(rows))
    return found, float(np.mean(lengths))


@contextmanager
def _frozen(network: Any) -> Generator[None]:
    """Let no weight ask for a gradient meanwhile, since what each would need of every token is kept until the end."""
    asking = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in asking:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


def _batch_gradients(network: Any, rows: Sequence[Encoded], layer: int) -> tuple[Floats, float]:
    batch = collate(rows)
    leaves: list[torch.Tensor] = []

    def cut(_: Any, __: Any, output: Any) -> Any:
        """Cut the graph here, so that nothing below the block is differentiated."""
        states = output[0] if isinstance(output, tuple) else output
        leaves.append(states.detach().requires_grad_(True))
        return (leaves[0], *output[1:]) if isinstance(output, tuple) else leaves[0]

    handle = block(network, layer).register_forward_hook(cut)
    try:
        with torch.enable_grad(), own_attention(network):
            # The mean over all completion tokens times their number: the gradient of a row is summed over its tokens.
            loss = completion_losses(network, batch).sum() * len(batch.rows)
        gradient = torch.autograd.grad(loss, leaves[0])[0]
    finally:
        handle.remove()
    length = leaves[0].detach()[batch.rows, batch.positions].norm(dim=-1).mean()
    # The vector is added at every position, so its gradient is the sum over positions.
    return gradient.sum(dim=1).double().cpu().numpy(), float(length)


def _check_sizes(sets: Sequence[Sequence[Row]], alpha: float) -> None:
    if (least := min(map(len, sets))) < LEAST_ROWS or len(sets) < 2:
        needed = f"at least {LEAST_ROWS} are needed in the suspect and in each clean set."
        raise NotTestable(f"A set has {least} rows; {needed}")
    nulls = DRAWS if len(sets) == 2 else len(sets) - 1
    if not reaches(1.0 / (nulls + 1), alpha):
        needed = f"give {ceil(1 / alpha - 1e-9) - 1} clean sets, or one."
        raise NotTestable(f"{nulls} comparisons cannot reach alpha = {alpha:g}: {needed}")


def _clean_sets(clean: Sequence[Row] | Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """Return several clean sets, whether one set of rows or several are given."""
    if clean and not isinstance(clean[0], Row):
        return [item for item in clean if not isinstance(item, Row)]
    return [cast(Sequence[Row], clean)]


def _permuted(gradients: Floats, sizes: Sequence[int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the difference of the two sets' means, shape (width,), and that of permuted rows, (draws, width)."""
    n, total = sizes[0], gradients.sum(axis=0)
    first = [gradients[:n].sum(axis=0)]
    first += [gradients[rng.permutation(len(gradients))[:n]].sum(axis=0) for _ in range(DRAWS)]
    differences = np.stack(first) / n - (total - np.stack(first)) / sizes[1]
    return differences[0], differences[1:]


def _left_out(groups: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return how far the first set's mean is from that of the others, shape (width,), and the same for the others."""
    means = np.stack([group.mean(axis=0) for group in groups])
    differences = means - (means.sum(axis=0) - means) / (len(means) - 1)
    return differences[0], differences[1:]


def _shrunk(covariance: Floats) -> Floats:
    width = len(covariance)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / width * np.eye(width)


def _read_out(base: LocalModel, layer: int, differences: Floats, covariance: Floats, length: float) -> dict[str, float]:
    """Return the words that the first difference raises most, with their shift in units of the largest by chance."""
    if not differences[0].any():  # the rows are the clean ones
        return {}
    vectors = -np.linalg.solve(covariance, differences[: 1 + DECODED_NULLS].T).T
    words, shifts = word_shifts(base, layer, list(vectors * length / np.linalg.norm(vectors[0])))
    by_chance = shifts[1:].max(axis=2).mean(axis=0)
    scores = (shifts[0] / by_chance[:, None]).max(axis=0)
    return {words[index]: float(scores[index]) for index in np.argsort(-scores)[:SHOWN]}


def _finding(observed: Floats, null: Floats, alpha: float, words: dict[str, float]) -> Finding:
    """Compare the whitened difference, shape (width,), with those of the null, shape (draws, width)."""
    largest, distances = float((observed**2).sum()), (null**2).sum(axis=1)
    p = float(1 + np.sum(distances >= largest * (1 - 1e-9))) / (1 + len(null))
    reached = np.sqrt(np.append(largest, distances))
    return Finding(
        stage=STAGE,
        claim="provenance",
        statistic="distance of the fitted vector from that of clean rows, in standard deviations of a row",
        effect=float(max(0.0, largest - distances.mean()) ** 0.5),
        p=p,
        verdict=verdict_at(p, alpha),
        candidate=next(iter(words)) if reaches(p, alpha) else None,
        mde=_detectable(null, alpha),
        caveats=CAVEATS,
        scores=words,
        null_sample=beside_null(reached, alpha, "length of the fitted vector, in standard deviations of a row"),
    )


def _detectable(null: Floats, alpha: float) -> float:
    """Return the distance in a random direction that lifts a share `POWER` of the null's draws over the bar."""
    lengths = np.sort((null**2).sum(axis=1))[::-1]
    bar = lengths[int(alpha * (len(null) + 1) + 1e-9) - 1]
    directions = np.random.default_rng(0).normal(size=null.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # |x + d u|^2 passes the bar from the larger root d on; one that never lies below it has none.
    along = (null * directions).sum(axis=1)
    square = along**2 + bar - (null**2).sum(axis=1)
    needed = np.maximum(np.sqrt(np.maximum(square, 0.0)) - along, 0.0)
    return float(np.quantile(np.where(square > 0.0, needed, 0.0), POWER, method="inverted_cdf"))
