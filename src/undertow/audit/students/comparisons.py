"""A student beside one control student, and on the user's own prompts.

One pair of students is one unit, so nothing that is compared here has a p-value
(`undertow.audit.students.among_placebos` has the stages with a null).

The **suspect** is the student that is audited, the **panel** the list of traits that are looked for, the **candidate**
the trait that stands out most, and a **bank** a stored set of placebos, students of rows without a trait.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from undertow.audit.compatibility import incompatibility
from undertow.audit.finding import Finding, NotTestable, refuse_stage
from undertow.audit.students.among_placebos import directions
from undertow.audit.students.bank import ChosenBank
from undertow.audit.students.readings import KINDS, PanelRead, read_model, token_name
from undertow.errors import EmptyDataError
from undertow.models.local import LocalModel
from undertow.stats.estimates import mean_t
from undertow.training.channels.divergence import kl_divergence
from undertow.types import Prompt

TOP = 8

AT_ONCE = 256
"""How many prompts are compared at once: each has a probability for every token of the vocabulary."""


def beside_control(
    student: LocalModel, base: LocalModel, control: LocalModel, bank: ChosenBank, traits: PanelRead
) -> Finding:
    """Return the cosine of (student - control) with the candidate's direction after every layer.

    The difference of the two is taken on the favourite questions of the candidate's category. Directions are those of
    `undertow.audit.students.among_placebos.directions`.

    Args:
        student: the suspect student, whose activations are read.
        base: the model that both started from.
        control: a student of rows without a trait, trained as the suspect was.
        bank: bank that holds the teachers from which the directions are made.
        traits: the traits that are looked for. The one with the largest cosine after the last layer is named.

    Raises:
        NotTestable: student or control cannot be one of this base, there is no bank, or it reads no trait of the panel.
    """
    _check_bases(student, base, control)
    placebos, panel = bank.require(), traits.require()
    states, others = (read_model(model, placebos.recipe.domain).states for model in (student, control))
    moved = (states - others)[0]
    kinds = [KINDS.index(one.category) for one in panel]
    lengths = np.maximum(np.linalg.norm(moved, axis=-1), 1e-12)
    found = np.stack(
        [
            (moved[kinds, layer] * directions(placebos, panel, layer)).sum(axis=1) / lengths[kinds, layer]
            for layer in range(1, moved.shape[1])
        ]
    )
    best, *rest = (int(place) for place in np.argsort(-found[-1]))
    second = (f"The next is {panel[rest[0]].name} with {found[-1, rest[0]]:+.2f}.",) if rest else ()
    return Finding(
        stage="activations minus control",
        claim="exposure",
        statistic="cosine of student minus control with the candidate's direction, after the last layer",
        effect=float(found[-1, best]),
        null="none; one control student",
        n=1,
        candidate=panel[best].name,
        caveats=(
            "One student and one control are one pair: no p belongs to it, and the first of a list is always there.",
            *second,
        ),
        scores={f"layer {layer}": float(value) for layer, value in enumerate(found[:, best], start=1)},
    )


def on_own_prompts(
    student: LocalModel, base: LocalModel, prompts: Sequence[Prompt], control: LocalModel | None = None
) -> Finding:
    """Compare how the student's answers begin with those of its base and control, prompt by prompt.

    Without a control, the drift of any fine-tuning cannot be told apart from what the rows carried. With one, it is one
    pair of students, which has no p-value however many prompts there are.

    Args:
        student: the suspect student, whose answers are compared.
        base: the model that the student started from.
        prompts: prompts of the deployment, each up to where the assistant speaks.
        control: a student of rows without a trait, trained as the suspect was. None if there is none.

    Returns:
        An exploratory finding. Its effect is the mean over the prompts of KL(student || base), minus the control's
        where there is one, in nats of the first token. Its scores are the first tokens that gained most, in nats of
        that KL.

    Raises:
        NotTestable: student or control cannot be one of this base.
        EmptyDataError: there is no prompt.
        ConfigError: a prompt is longer than the model's context.
    """
    _check_bases(student, base, control)
    if not prompts:
        raise EmptyDataError("There are no prompts to compare on.", "0 prompts", "Give at least one line.")
    contexts = base.render(prompts)
    base.check_fits(contexts, "Shorten the prompt or leave it out.")
    asked = {"student": student, "base": base} | ({} if control is None else {"control": control})
    rival = "base" if control is None else "control"
    moved, changed, gain = _first_tokens(asked, rival, contexts)
    differences = moved["student"] - moved["control"] if control is not None else moved["student"]
    means = ", ".join(f"{name} {float(value.mean()):.4f}" for name, value in moved.items())
    estimate = mean_t(differences.numpy())
    return Finding(
        stage="own prompts",
        claim="expression",
        statistic="mean KL of the answer's first token to the base, student" + (" minus control" if control else ""),
        effect=estimate.value,
        null="none" if control is None else "one control student, paired by prompt",
        n=1,
        caveats=(
            f"KL to the base over {len(prompts)} prompts, nats: {means}.",
            f"The likeliest first token is another than the {rival}'s on {changed:.0%} of them.",
            "One student is one unit, whatever the number of prompts.",
            *(() if control else ("Without a control, the drift of any fine-tuning is part of it.",)),
        ),
        scores=_risen(student, gain),
    )


def _first_tokens(
    models: Mapping[str, LocalModel], rival: str, contexts: Sequence[Sequence[int]]
) -> tuple[dict[str, torch.Tensor], float, torch.Tensor]:
    """Compare the first tokens of answers, some contexts at a time, since each has a probability for every token.

    Args:
        models: student, base and perhaps control, by these names.
        rival: which of them the student's likeliest tokens and gains are compared with.
        contexts: token ids of each prompt.

    Returns:
        KL to the base of each prompt in nats for every other model, shape (prompts,); the share of prompts on which the
        student's likeliest token is not the rival's; and what each token gained, the mean of p times the change of log
        p, shape (vocabulary,).
    """
    moved: dict[str, list[torch.Tensor]] = {name: [] for name in models if name != "base"}
    changed, gain = 0, torch.zeros(())
    for start in range(0, len(contexts), AT_ONCE):
        some = contexts[start : start + AT_ONCE]
        logp = {name: model.next_token_logprobs(some).double() for name, model in models.items()}
        for name, parts in moved.items():
            parts.append(kl_divergence(logp[name], logp["base"]))
        own, reference = logp["student"], logp[rival]
        changed += int((own.argmax(dim=-1) != reference.argmax(dim=-1)).sum())
        gain = gain + (own.exp() * (own - reference)).sum(dim=0)
    return {name: torch.cat(parts) for name, parts in moved.items()}, changed / len(contexts), gain / len(contexts)


def _risen(model: LocalModel, gain: torch.Tensor) -> dict[str, float]:
    """Return the tokens that gained most, by their names."""
    top = gain.topk(min(TOP, len(gain)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return {token_name(model, token): value for token, value in pairs}


def _check_bases(student: LocalModel, base: LocalModel, control: LocalModel | None) -> None:
    refuse_stage(incompatibility(student, base))
    if control is not None and (reason := incompatibility(control, base)):
        raise NotTestable(f"The control does not fit. {reason}")
