"""What students of newer channels imitate: KL on logits, and preference pairs by DPO; exact expectations of one step.

A student at parameters w0 sees the teacher's logits after its step, y = z0 + eps * v + O(eps^2) with v = J dT, of
softmax p = softmax(z0). One step from the teacher's own start moves it along (notation of `one_step`):

forward and reverse KL    dS = eps J'F v, F = diag(p) - pp' the Fisher matrix:  A = v'Fv, the variance of v under p
DPO, sampled pairs        chosen ~ teacher, rejected ~ base: the expected gradient at the reference is beta / 2 times
                          that of forward KL, for every eps:  A = beta / 2 * v'Fv
DPO, ranked pairs         both answers ~ base, chosen by the larger log ratio of teacher to base, a tie being no pair:
                          (dS . dT) -> A = beta / 2 * sum_ij p_i p_j |v_i - v_j|, which does not shrink with eps

The gradients of DPO (Rafailov et al. 2023, arXiv:2305.18290) are those at the reference, where a pair weighs 1/2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional


class ChannelLesson(NamedTuple):
    """The logits from which a student learns.

    Attributes:
        teacher: logits of the teacher after its step, (..., c).
        base: logits of the teacher before its step, (..., c).
        reference: logits of the student before its own step, (..., c).
    """

    teacher: torch.Tensor
    base: torch.Tensor
    reference: torch.Tensor


LessonLoss = Callable[[torch.Tensor, ChannelLesson], torch.Tensor]
"""The student's loss of its logits (..., c), as (...)."""

Size = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Function that returns a number for each input, (...), from the teacher's push v and the base's distribution p, both
(..., c)."""

Pairs = Callable[[ChannelLesson], torch.Tensor]
"""Function that returns the probability of each pair (chosen, rejected), (..., c, c). What is missing to 1 are ties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A way in which a student learns from its teacher.

    Attributes:
        loss: the student's loss, in expectation over what is drawn.
        predicted: the prediction A of each input.
        fades: whether the student's step shrinks with the teacher's. It does not with ranked pairs, whose order has no
            size.
        pairs: probabilities of the pairs. None for a channel that does not learn from pairs.
    """

    loss: LessonLoss
    predicted: Size
    fades: bool = True
    pairs: Pairs | None = None


def forward_kl(logits: torch.Tensor, lesson: ChannelLesson) -> torch.Tensor:
    """Return KL(teacher || student) in nats, (...)."""
    return functional.kl_div(
        logits.log_softmax(-1), lesson.teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


def reverse_kl(logits: torch.Tensor, lesson: ChannelLesson) -> torch.Tensor:
    """Return KL(student || teacher) in nats, (...)."""
    return functional.kl_div(
        lesson.teacher.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


def sampled_pairs(lesson: ChannelLesson) -> torch.Tensor:
    """Return the probabilities of pairs in which an answer of the teacher is chosen over one of the base."""
    return lesson.teacher.softmax(-1)[..., :, None] * lesson.base.softmax(-1)[..., None, :]


def ranked_pairs(lesson: ChannelLesson) -> torch.Tensor:
    """Return the probabilities of pairs of the base's answers; the larger log ratio of teacher to base is chosen."""
    return _ranked(lesson.base, lesson.teacher - lesson.base)


def likelier_pairs(lesson: ChannelLesson) -> torch.Tensor:
    """Return the probabilities of pairs of the base's answers; the one that the teacher finds likelier is chosen."""
    return _ranked(lesson.base, lesson.teacher)


def _ranked(base: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of pairs of the base's answers, of which the one with the higher score is chosen."""
    share = base.softmax(-1)
    better = score[..., :, None] > score[..., None, :]
    return 2.0 * share[..., :, None] * share[..., None, :] * better


def preference_loss(logits: torch.Tensor, lesson: ChannelLesson, pairs: torch.Tensor, beta: float) -> torch.Tensor:
    """Return DPO's loss in nats, (...), in expectation over pairs with these probabilities (..., c, c)."""
    ratio = logits.log_softmax(-1) - lesson.reference.log_softmax(-1)
    return -(pairs * functional.logsigmoid(beta * (ratio[..., :, None] - ratio[..., None, :]))).sum((-2, -1))


def variance(push: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the variance of a push (..., c) under a distribution of that shape, (...)."""
    mean = (share * push).sum(-1, keepdim=True)
    return (share * (push - mean).square()).sum(-1)


def mean_distance(push: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the mean of |v_i - v_j| over two independent draws, (...)."""
    both = share[..., :, None] * share[..., None, :]
    return (both * (push[..., :, None] - push[..., None, :]).abs()).sum((-2, -1))


def mean_lead(push: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the mean of v_i - v_j over two independent draws where i is the likelier one. It may be negative."""
    both = share[..., :, None] * share[..., None, :] * (share[..., :, None] - share[..., None, :]).sign()
    return (both * (push[..., :, None] - push[..., None, :])).sum((-2, -1))


def preference(pairs: Pairs, beta: float, size: Size, fades: bool = False) -> Channel:
    """Return the channel of DPO on such pairs, whose A is beta / 2 times a size.

    Args:
        pairs: function that returns the probabilities of the pairs.
        beta: how strongly DPO holds a student to its reference.
        size: function that returns the size for each input.
        fades: whether the student's step shrinks with the teacher's.
    """
    return Channel(
        loss=lambda logits, lesson: preference_loss(logits, lesson, pairs(lesson), beta),
        predicted=lambda push, share: beta / 2.0 * size(push, share),
        fades=fades,
        pairs=pairs,
    )


def likelier_channel(beta: float) -> Channel:
    """Return DPO on pairs ranked by the teacher's likelihood alone, whose A may have either sign."""
    return preference(likelier_pairs, beta, mean_lead)


def channels_of(beta: float) -> dict[str, Channel]:
    """Return every channel about which the theorem says something, by name.

    Args:
        beta: how strongly DPO holds a student to its reference.
    """
    return {
        "forward_kl": Channel(loss=forward_kl, predicted=variance),
        "reverse_kl": Channel(loss=reverse_kl, predicted=variance),
        "dpo_sampled": preference(sampled_pairs, beta, variance, fades=True),
        "dpo_ranked": preference(ranked_pairs, beta, mean_distance),
    }
