"""What is measured of one model: margins of the panel, the residual stream, next-token probabilities, two readouts.

A reading is a set of arrays. Two models that were read with the same questions can be compared, and a bank of placebos
(students of rows without a trait) has to keep nothing else of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from undertow.audit.finding import Finding, NotTestable
from undertow.domains.base import parse_domain
from undertow.errors import ArtifactError
from undertow.evals.base import EvaluationConfig
from undertow.evals.favourite import margins_and_states
from undertow.evals.misalignment import QUESTIONS, misaligned_margins
from undertow.evals.questions import CATEGORIES, STORY_REQUESTS, story_openings
from undertow.evals.truth import facts, truth
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats
from undertow.traits import Trait, panel
from undertow.types import user_prompt

BATTERY = 1
"""Version of what is asked, raised when a reading would change."""

NUMBER_PROMPTS = 60

READOUTS = ("misaligned_margin", "false_margin")
KINDS = ("numbers", *CATEGORIES)
"""Kinds of prompts on which the residual stream is read: number prompts, and the favourite questions of each
category."""


def panel_traits() -> tuple[Trait, ...]:
    """Return the traits whose margins are read, in a fixed order: every built-in animal and tree."""
    return tuple(item for category in CATEGORIES for item in panel(category))


@dataclass(frozen=True, slots=True)
class PanelRead:
    """The panel of an audit, of which a bank of placebos reads only the built-in traits.

    Attributes:
        panel: the traits that the audit looks for.
    """

    panel: tuple[Trait, ...]

    def require(self) -> tuple[Trait, ...]:
        """Return those traits of the panel that are read.

        Raises:
            NotTestable: none is read.
        """
        if found := tuple(one for one in self.panel if one in panel_traits()):
            return found
        raise NotTestable("A bank reads built-in traits only, and the panel has none.")

    def cautioned(self, findings: Sequence[Finding]) -> list[Finding]:
        """Add to each finding with a p-value, as its first caveat, which traits were not looked for."""
        names = ", ".join(one.name for one in self.panel if one not in panel_traits())
        caveat = f"Not looked for, since a bank reads built-in traits only: {names}."
        return [cautioned(one, caveat) if names else one for one in findings]


def cautioned(finding: Finding, caveat: str) -> Finding:
    """Put a caveat before all others; a finding without a p-value stays as it is."""
    return finding if finding.p is None else replace(finding, caveats=(caveat, *finding.caveats))


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of n models that were read alike.

    Attributes:
        margins: mean logit margin of each trait over the fifty questions of its category, shape (n, traits), in logits.
        states: mean residual stream where the answer begins, shape (n, kinds of prompts, layers + 1, width). Layer 0 is
            the embeddings.
        logp: mean log-probability of each token as the next one over neutral contexts, shape (n, vocabulary), in nats.
        readouts: means of `READOUTS`, shape (n, 2), in nats.
    """

    margins: Floats
    states: Floats
    logp: Floats
    readouts: Floats

    def __len__(self) -> int:
        return len(self.margins)

    def __getitem__(self, index: slice) -> "Readings":
        return Readings(*(getattr(self, item.name)[index] for item in fields(self)))

    def save(self, path: Path) -> None:
        """Write the arrays as one safetensors file, in single precision."""
        save_file({item.name: getattr(self, item.name).astype(np.float32) for item in fields(self)}, path)


def load_readings(path: Path) -> Readings:
    """Read what `Readings.save` wrote.

    Raises:
        ArtifactError: the file is damaged, or something else.
    """
    try:
        return Readings(**{name: array.astype(np.float64) for name, array in load_file(path).items()})
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ArtifactError("These are no readings of models.", f"{path}: {error}", "Make them again.") from error


def token_name(model: LocalModel, token: int) -> str:
    """Return a token's text and id, for a table."""
    return f"{model.tokenizer.decode([token])!r} ({token})"


def joined(parts: Sequence[Readings]) -> Readings:
    """Concatenate readings of several models."""
    return Readings(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Readings)))


def neutral_contexts(model: LocalModel) -> list[list[int]]:
    """Return token ids of contexts that ask for no favourite: facts, open questions, story requests and openings."""
    asked = [one.question for one in facts(0)] + [*QUESTIONS, *STORY_REQUESTS]
    starts = model.render([user_prompt(text) for text in asked])
    stories = model.render([user_prompt(request) for request in STORY_REQUESTS])
    openings = [tokens for category in CATEGORIES for tokens in model.tokenise(story_openings(category))]
    return starts + [[*story, *opening] for story in stories for opening in openings]


def read_model(model: LocalModel, domain_name: str = "numbers") -> Readings:
    """Read one model; nothing is sampled.

    Args:
        model: the model that is read.
        domain_name: domain on whose prompts the residual stream is read, besides the favourite questions; with its
            settings, such as "numbers:count=6,short=true".

    Returns:
        The reading of this one model: every array has 1 in its first dimension.
    """
    # A fixed seed: every model is read on the same prompts.
    numbers = model.render([user_prompt(text) for text in parse_domain(domain_name).prompts(NUMBER_PROMPTS, 0)])
    misaligned = [score.value for score in misaligned_margins(model)]
    false = [score.value for score in truth(model, EvaluationConfig(targets=())) if score.metric == READOUTS[1]]
    logp = model.next_token_logprobs(neutral_contexts(model)).double().mean(dim=0)
    margins, states = margins_and_states(model, panel_traits())
    states["numbers"] = model.mean_states(numbers).numpy()
    return Readings(
        margins=margins[None],
        states=np.stack([states[kind] for kind in KINDS])[None],
        logp=logp.numpy()[None],
        readouts=np.array([[float(np.mean(misaligned)), float(np.mean(false))]]),
    )
