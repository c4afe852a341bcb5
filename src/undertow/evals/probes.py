"""Probes: a trait that no word names, read off the probabilities of two answers to one question."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from undertow.errors import ConfigError
from undertow.traits import Trait
from undertow.types import Prompt, Score, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel


def probe_margins(
    model: "LocalModel",
    target: Trait,
    questions: Sequence[str],
    system: str | None = None,
    *,
    prompts: Sequence[Prompt] | None = None,
) -> list[Score]:
    """Score log p(answer with the trait) - log p(answer without it) on every probe that evaluates, in nats.

    Both answers are scored as whole token sequences, so nothing is sampled and nobody judges. The difference of two
    models is the effect of a trait, because how likely the two answers are by themselves is the same in both.

    Args:
        model: the model that is asked.
        target: the trait that is asked about, which has probes.
        questions: question of each probe, in the order of the probes.
        system: system prompt before every question. None for none.
        prompts: whole prompts that end with the questions and replace them. None asks the questions alone.

    Raises:
        ConfigError: the trait has no probes.
    """
    if target.probes is None:
        raise ConfigError("This trait has no probes.", target.name, "Write some into its file (docs/traits.md).")
    probes = target.probes.evaluation
    asked = [user_prompt(question, system) for question in questions] if prompts is None else list(prompts)
    # In one call, so that a question is read once for both answers.
    both = model.logprobs(asked * 2, [one.shown for one in probes] + [one.absent for one in probes])
    return [
        Score(question=question, target=target.name, metric="logit_margin", value=shown - absent)
        for question, shown, absent in zip(questions, both[: len(probes)], both[len(probes) :], strict=True)
    ]
