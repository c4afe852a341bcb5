"""What a study compares: each arm with its control, in words, and the metric that its matrices are made from."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from undertow.evals.base import metrics


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


DEFAULT = "logit_margin"
"""What a run is said to have measured if it has no effect at all."""


def main_metric(present: Iterable[str]) -> str:
    """Return the metric that matrices, figures and answers are made from: the first declared one that was measured."""
    found = list(present)
    return next((name for name in metrics() if name in found), found[0] if found else DEFAULT)
