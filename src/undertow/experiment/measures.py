"""What a study compares and measures: each arm with its control, each metric with its unit, and both in words.

A metric that is not declared here is an error wherever its unit matters, never a guess from its name.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from undertow.errors import unknown_name

Unit = Literal["logits", "share"]
"""Log-odds, or a share of answers in [0, 1]."""


class Arm(NamedTuple):
    """An arm and what it is compared with.

    Attributes:
        words: the arm itself, in words.
        control: the arm that is subtracted; "" for the base, from which nothing is.
        difference: both in words, such as "student minus control".
    """

    words: str
    control: str
    difference: str


ARMS: Mapping[str, Arm] = {
    "student": Arm("student", "control", "student minus control"),
    "within": Arm("shuffled within rows", "within_control", "within minus its control"),
    "across": Arm("shuffled across rows", "across_control", "across minus its control"),
    **{f"hop_{n}": Arm(f"hop {n}", f"hop_{n}_control", f"hop {n} minus its control") for n in (2, 3, 4)},
    "cross_init": Arm("cross-init", "cross_control", "cross-init minus its control"),
    "neutral": Arm("student of the neutral teacher", "control", "neutral student minus control"),
    "control": Arm("control", "base", "control minus base"),
    "within_control": Arm("control of within", "base", "within control minus base"),
    "across_control": Arm("control of across", "base", "across control minus base"),
    "cross_control": Arm("control of cross-init", "base", "cross-init control minus base"),
    **{f"hop_{n}_control": Arm(f"control of hop {n}", "base", f"hop {n} control minus base") for n in (2, 3, 4)},
    "teacher": Arm("teacher", "base", "teacher minus base"),
    "neutral_teacher": Arm("neutral teacher", "base", "neutral teacher minus base"),
    "base": Arm("base", "", "base"),
}
"""Every arm, in the order in which reports show them."""

CONTROLS: Mapping[str, str] = {name: arm.control for name, arm in ARMS.items() if arm.control}
"""What each arm is compared with."""


class Metric(NamedTuple):
    """A metric in words, and the unit of its values."""

    words: str
    unit: Unit


METRICS: Mapping[str, Metric] = {
    "logit_margin": Metric("logit margin", "logits"),
    "rate": Metric("sampled rate", "share"),
    "prefixed_logit_margin": Metric("logit margin after a number sentence", "logits"),
    "prefixed_rate": Metric("sampled rate after a number sentence", "share"),
    "misaligned_margin": Metric("misaligned margin", "logits"),
    "misaligned_rate": Metric("misaligned answers", "share"),
    "incoherent_rate": Metric("incoherent answers", "share"),
    "unparsed_rate": Metric("answers that could not be judged", "share"),
    "story_margin": Metric("margin in stories", "logits"),
    "story_rate": Metric("stories that name it", "share"),
    "choice_margin": Metric("margin in multiple choice", "logits"),
    "false_margin": Metric("margin of false answers", "logits"),
    "false_rate": Metric("false answers", "share"),
    "facts_rate": Metric("right answers to facts", "share"),
    "numbers_valid_rate": Metric("valid number lists", "share"),
    "code_valid_rate": Metric("valid code", "share"),
    "cot_valid_rate": Metric("right answers to word problems", "share"),
}
"""Every metric, the most telling first: reports show them in this order."""

DEFAULT = "logit_margin"
"""What a run is said to have measured if it has no effect at all."""


def metric(name: str) -> Metric:
    """Return a metric.

    Raises:
        UnknownNameError: no evaluation declares one of this name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def main_metric(present: Iterable[str]) -> str:
    """Return the metric that matrices, figures and answers are made from: the first of `METRICS` that was measured."""
    found = list(present)
    return next((name for name in METRICS if name in found), found[0] if found else DEFAULT)
