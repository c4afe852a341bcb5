"""Do a teacher's probabilities lean along a trait of the panel while it writes numbers? For students of its logits.

A student that learns a teacher's whole distribution sees what no sampled row shows. So the teacher is read where the
student would learn: after the beginnings of the base's own answers to number prompts. For each **candidate** of the
panel (a teacher that the auditor tuned on one trait) the lean is the mean over these places of sum_v (p(v) - p_base(v))
(log p_candidate(v) - log p_base(v)). It says by how much the contrast of an audit of rows would rise if the next token
came from the teacher, without the noise of drawing one.

The null is the **neutral writers** of the store: the base tuned for as many updates on its own answers. Whoever was
tuned on anything leans somewhere; a trait shows as a lean along one candidate that no neutral writer has.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from undertow.audit.compatibility import incompatibility
from undertow.audit.finding import Finding, NotTestable, refuse_stage
from undertow.audit.rows.contrast import rival_centred
from undertow.audit.rows.limits import LOGIT_PLACES
from undertow.audit.rows.panel import DataAudit
from undertow.audit.students.among_placebos import rank_first
from undertow.domains.numbers import Numbers
from undertow.models.answer_limits import domain_sampling
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.channels.divergence import kl_divergence
from undertow.training.scoring import Candidate
from undertow.types import Advance, user_prompt

STAGE = "teacher logits"

PROMPTS = 120
"""How many number prompts the base answers."""

NUMBERS = 2**28
"""How many log-probabilities of the panel are kept at once, 1 GB. With a large vocabulary fewer places are read."""


def teacher_logits(
    teacher: LocalModel,
    base: LocalModel,
    teachers: Sequence[Candidate],
    settings: DataAudit,
    advance: Advance,
) -> Finding:
    """Rank a teacher's lean along the panel among those of neutral writers.

    Args:
        teacher: the suspect teacher, whose probabilities are read.
        base: the model that the teacher started from.
        teachers: the tuned teachers of the panel, which give the directions.
        settings: the neutral writers of the base, the level, and the seed of prompts, answers and places.
        advance: callback that takes (models read, all models).

    Returns:
        Supporting evidence on expression, which moves no verdict.

    Raises:
        NotTestable: the teacher cannot be one of this base, or there are no neutral writers.
    """
    refuse_stage(incompatibility(teacher, base))
    if (writers := settings.writers) is None:
        raise NotTestable("There are no neutral writers to compare with; `undertow audit bank` makes them.")
    reader = LeanReader(base, teachers, number_places(base, settings.seed, places_for(base, len(teachers))))
    leans, drifts = list[Floats](), list[float]()
    for done in range(len(writers) + 1):
        lean, drift = reader.lean(teacher if not done else writers.load(done - 1, base))
        leans.append(lean)
        drifts.append(drift)
        advance(done + 1, len(writers) + 1)
    found = rank_first(
        STAGE,
        "largest lean of the probabilities along a candidate, minus the rivals', in SDs of the neutral writers",
        rival_centred(np.stack(leans), teachers),
        [one.trait for one in teachers],
        settings.alpha,
    )
    moved = f"KL of teacher to base {drifts[0]:.3g} nats a token, of the neutral writers {min(drifts[1:]):.3g} to "
    return replace(
        found,
        verdict="exploratory",
        candidate=found.candidate if found.verdict == "detected" else None,
        null=f"{len(writers)} neutral writers, each against all others",
        caveats=(
            f"{moved}{max(drifts[1:]):.3g}, at {reader.places} places of the base's answers to number prompts.",
            "It holds for teachers tuned as the neutral writers were; a name is a hypothesis.",
            "Exploratory: how often neutral teachers are called is known from one bank (docs/channels_audit.md).",
        ),
    )


def places_for(base: LocalModel, candidates: int) -> int:
    """Return at how many places distributions are read, so that those of the panel fit into memory."""
    return max(1, min(LOGIT_PLACES, NUMBERS // (candidates * len(base.tokenizer))))


def number_places(base: LocalModel, seed: int, most: int) -> list[list[int]]:
    """Return contexts in which a student of numbers would learn: prompts with beginnings of the base's own answers.

    Args:
        base: the model that answers the prompts.
        seed: random seed of prompts, answers and places.
        most: how many contexts are drawn at most.

    Returns:
        Token ids of each context.
    """
    domain = Numbers()
    prompts = [user_prompt(text) for text in domain.prompts(PROMPTS, derive(seed, "logits", "prompts"))]
    sampling = domain_sampling(domain, base.tokens)
    texts = base.chat(prompts, sampling=sampling, seed=derive(seed, "logits", "answers"))
    begun = [
        [*asked, *answered[:step]]
        for asked, answered in zip(base.render(prompts), base.tokenise(texts), strict=True)
        for step in range(len(answered))
    ]
    drawn = np.random.default_rng(derive(seed, "logits", "places")).permutation(len(begun))[:most]
    return [begun[place] for place in np.sort(drawn).tolist()]


class LeanReader:
    """Measures how far models lean along the directions from a base to the candidates of a panel.

    Args:
        base: the model that all of them started from.
        candidates: models whose log-probabilities minus the base's are the directions.
        contexts: token ids of the places at which the next token is read.
    """

    def __init__(self, base: LocalModel, candidates: Sequence[Candidate], contexts: Sequence[Sequence[int]]) -> None:
        self._contexts = contexts
        self._before = base.next_token_logprobs(contexts)
        self._mass = self._before.exp()
        self._directions = torch.stack(
            [one.model.next_token_logprobs(contexts) - self._before for one in candidates]
        )  # [candidates, places, vocabulary]

    @property
    def places(self) -> int:
        """How many places are read."""
        return len(self._contexts)

    def lean(self, model: LocalModel) -> tuple[Floats, float]:
        """Return a model's lean along each candidate, shape (candidates,), and its KL to the base; nats per token."""
        after = model.next_token_logprobs(self._contexts)
        away = after.exp() - self._mass
        lean = torch.einsum("pv,cpv->c", away, self._directions).double().numpy() / self.places
        return lean, float(kl_divergence(after, self._before).mean())
