"""The user's own prompts: how a student's answers begin, beside its control's and its base's."""

from collections.abc import Sequence

import torch

from undertow.audit.finding import Finding
from undertow.errors import EmptyDataError
from undertow.models.local import LocalModel
from undertow.stats.estimates import mean_t
from undertow.types import Prompt

STAGE = "own prompts"

TOP = 8


def compare_on_prompts(
    student: LocalModel, base: LocalModel, prompts: Sequence[Prompt], control: LocalModel | None = None
) -> Finding:
    """Compare how answers begin, prompt by prompt.

    Without a control, drift of any fine-tuning is not told apart from what the rows carried. With one, it is one pair
    of students: no p belongs to it, however many prompts there are.

    Args:
        student: the suspect.
        base: where it started.
        prompts: of the deployment, each up to where the assistant speaks.
        control: a student of untraited rows, trained alike.

    Returns:
        An exploratory finding: the mean over the prompts of KL(student || base), minus the control's where there is
        one, in nats of the first token; the scores are the first tokens that gained most, in nats of that KL.

    Raises:
        EmptyDataError: there is no prompt.
        ConfigError: a prompt is longer than the model's context.
    """
    if not prompts:
        raise EmptyDataError("There are no prompts to compare on.", "0 prompts", "Give at least one line.")
    contexts = base.render(prompts)
    base.check_fits(contexts, "Shorten the prompt or leave it out.")
    asked = {"student": student, "base": base} | ({} if control is None else {"control": control})
    logp = {name: model.next_token_logprobs(contexts).double() for name, model in asked.items()}
    moved = {name: _kl(logp[name], logp["base"]) for name in asked if name != "base"}
    rival = "base" if control is None else "control"
    reference = logp[rival]
    differences = moved["student"] - moved["control"] if control is not None else moved["student"]
    changed = float((logp["student"].argmax(dim=-1) != reference.argmax(dim=-1)).double().mean())
    means = ", ".join(f"{name} {float(value.mean()):.4f}" for name, value in moved.items())
    estimate = mean_t(differences.numpy())
    return Finding(
        stage=STAGE,
        claim="expression",
        statistic="mean KL of the answer's first token to the base, student" + (" minus control" if control else ""),
        effect=estimate.value,
        null="none" if control is None else "one control student, paired by prompt",
        p=None,
        n=1,
        verdict="exploratory",
        caveats=(
            f"KL to the base over {len(prompts)} prompts, nats: {means}.",
            f"The likeliest first token is another than the {rival}'s on {changed:.0%} of them.",
            "One student is one unit, whatever the number of prompts.",
            *(() if control else ("Without a control, the drift of any fine-tuning is part of it.",)),
        ),
        scores=_risen(student, logp["student"] - reference, logp["student"]),
    )


def _kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return KL(one || other) of each prompt, in nats."""
    return (one.exp() * (one - other)).sum(dim=-1)


def _risen(model: LocalModel, change: torch.Tensor, logp: torch.Tensor) -> dict[str, float]:
    """Return the tokens that gained most, weighted by how likely they are: sum of p times the change of log p."""
    gain = (logp.exp() * change).mean(dim=0)
    top = gain.topk(min(TOP, len(gain)))
    tokens = [int(token) for token in top.indices.tolist()]
    return {
        f"{model.tokenizer.decode([token])!r} ({token})": float(value)
        for token, value in zip(tokens, top.values.tolist(), strict=True)
    }
