"""Do two models deviate from similar models in the same way?

The log-probabilities of a model, minus the mean of the other models, are its own way of speaking. The other models
include **controls**: models of the same tokenizer that surely descend from neither. Two models whose own ways correlate
more than either does with any control speak alike: by descent, or because one was trained on the other's outputs.

Log-probabilities are compared in two kinds of contexts: chats of random tokens, where models of other seeds agree
least, and beginnings of neutral answers, where a copy is most alike. With m controls no p-value is below 1 / (m + 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy import special

from undertow.audit.lineage.proximity import neutral_chats
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.types import Prompt, user_prompt

CONTEXTS = 256
"""How many contexts of each kind there are."""

LENGTH = 12
"""How many random tokens a question has."""

TOKENS = 4096
"""How many next tokens are compared at most, drawn from the vocabulary."""

LEAST = 5
"""Number of controls below which there is no verdict."""

GAP = 5.0
"""By how many standard deviations of the controls a match must lead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How alike two models answer, in that of the two directions (A against B, B against A) which shows it less.

    Attributes:
        correlation: control-centred correlation R of the two models, averaged over the two kinds of contexts.
        controls: R of the first model with each control, by name.
        p: conformal p-value: (1 + controls that reach R) / (1 + controls).
        gap: R minus the mean of the controls, in standard deviations of a new control. None with fewer than two
            controls, or where they do not vary.
        model_p: p-value of the gap by Student's t, which assumes that the controls are normally distributed. None
            without a gap.
        verdict: "match" if R lies beyond every control and by `GAP` standard deviations, else "no_match"; "refused"
            with fewer than `LEAST` controls.
    """

    correlation: float
    controls: Mapping[str, float]
    p: float
    gap: float | None
    model_p: float | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        fields = {"correlation": self.correlation, "controls": dict(self.controls), "n_controls": len(self.controls)}
        return fields | {"p": self.p, "gap_sd": self.gap, "model_p": self.model_p, "verdict": self.verdict}


def contexts(model: LocalModel, seed: int) -> list[list[tuple[Prompt, str]]]:
    """Draw prompts with beginnings of answers: questions of random tokens, and neutral chats.

    Args:
        model: the model whose tokenizer says which tokens exist and where an answer may be cut.
        seed: random seed of every draw.

    Returns:
        The two kinds of contexts, each a list of `CONTEXTS` pairs of a prompt and the beginning of an answer.
    """
    rng = np.random.default_rng(derive(seed, "contexts"))
    special_tokens = set(model.tokenizer.all_special_ids)
    ordinary = np.array([row for row in sorted(model.tokenizer.get_vocab().values()) if row not in special_tokens])
    noise = [
        (
            user_prompt(model.tokenizer.decode(rng.choice(ordinary, LENGTH).tolist())),
            model.tokenizer.decode(rng.choice(ordinary, int(rng.integers(0, 4))).tolist()),
        )
        for _ in range(CONTEXTS)
    ]
    chats: list[tuple[Prompt, str]] = []
    for prompt, answer in neutral_chats(derive(seed, "chats"), CONTEXTS):
        tokens = model.tokenise([answer])[0]
        chats.append((prompt, model.tokenizer.decode(tokens[: int(rng.integers(0, len(tokens)))])))
    return [noise, chats]


def next_tokens(model: LocalModel, some: Sequence[tuple[Prompt, str]], rows: Sequence[int]) -> Floats:
    """Return the log-probabilities in nats of some tokens as the next one, shape (contexts, rows).

    Args:
        model: the model whose probabilities are computed.
        some: prompts with the beginnings of their answers.
        rows: token ids whose probabilities are returned.
    """
    prompts = model.render([prompt for prompt, _ in some])
    starts = model.tokenise([start for _, start in some])
    whole = [prompt + start for prompt, start in zip(prompts, starts, strict=True)]
    return model.next_token_logprobs(whole)[:, list(rows)].double().numpy()


def own_ways(tables: Mapping[str, Floats], one: str) -> dict[str, float]:
    """Return the control-centred correlation R of one model with each other model, by name.

    R_c = corr(w (l_one - mu), w (l_c - mu)), where l are log-probabilities, mu is their mean over the models other than
    `one` and c, and w is the square root of the mean probability.

    Args:
        tables: log-probabilities of each model in nats, by the model's name, shape (contexts, tokens).
        one: name of the model that is compared with all others.
    """
    weight = np.sqrt(np.mean([np.exp(table) for table in tables.values()], axis=0))
    found: dict[str, float] = {}
    for other in tables:
        if other != one:
            centre = np.mean([table for name, table in tables.items() if name not in (one, other)], axis=0)
            mine, theirs = ((weight * (tables[name] - centre)).ravel() for name in (one, other))
            found[other] = float(np.corrcoef(mine, theirs)[0, 1])
    return found


def behaviour(models: Mapping[str, LocalModel], a: str, b: str, *, seed: int = 0) -> Behaviour:
    """Compare how alike two models answer with how alike they and the controls do.

    Args:
        models: both models and the controls by name. All have one tokenizer, and there are at least three.
        a: name of one of the two models that are compared.
        b: name of the other of the two.
        seed: random seed of the contexts and of the compared tokens.
    """
    size = len(models[a].tokenizer.get_vocab())
    rng = np.random.default_rng(derive(seed, "tokens"))
    rows = np.sort(rng.permutation(size)[:TOKENS]).tolist()
    kinds = contexts(models[a], seed)
    tables = [{name: next_tokens(model, some, rows) for name, model in models.items()} for some in kinds]
    ways = [judge_behaviour(tables, a, b), judge_behaviour(tables, b, a)]
    return min(ways, key=lambda way: (-way.p, way.gap if way.gap is not None else 0.0))


def judge_behaviour(tables: Sequence[Mapping[str, Floats]], one: str, other: str) -> Behaviour:
    """Compare R of `one` and `other` with its R and each control; R is averaged over the kinds of contexts.

    Args:
        tables: for each kind of contexts, the log-probabilities of each model by its name, shape (contexts, tokens).
        one: name of the model whose way of speaking is looked at.
        other: name of the model that it is compared with; all further models are controls.
    """
    kinds = [own_ways(table, one) for table in tables]
    mean = {name: float(np.mean([kind[name] for kind in kinds])) for name in kinds[0]}
    controls = {name: value for name, value in mean.items() if name != other}
    m, value, rest = len(controls), mean[other], np.array(list(controls.values()))
    p = (1 + int((rest >= value).sum())) / (m + 1)
    gap = model_p = None
    if m >= 2 and float(rest.std(ddof=1)) > 0:
        gap = float((value - rest.mean()) / (rest.std(ddof=1) * sqrt(1 + 1 / m)))
        model_p = float(special.stdtr(m - 1, -gap))
    alike = (rest < value).all() and gap is not None and gap >= GAP
    verdict = "refused" if m < LEAST else "match" if alike else "no_match"
    return Behaviour(correlation=value, controls=controls, p=p, gap=gap, model_p=model_p, verdict=verdict)
