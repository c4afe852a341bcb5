"""A student beside one control of its own: how it moved along the panel's directions, the control's shift subtracted.

One pair of students is one unit, so no p belongs to it (`undertow.audit.student` has the stages with a null).
"""

from collections.abc import Sequence

import numpy as np

from undertow.audit.bank import Bank
from undertow.audit.finding import Finding
from undertow.audit.reading import KINDS, read_model
from undertow.audit.student import directions
from undertow.models.local import LocalModel
from undertow.traits import Trait

STAGE = "activations minus control"


def activations_minus_control(student: LocalModel, control: LocalModel, bank: Bank, panel: Sequence[Trait]) -> Finding:
    """Return the cosine of (student - control) with the candidate's direction after every layer.

    The difference of the two is taken on the favourite questions of the candidate's category; directions are those of
    `undertow.audit.student.directions`.

    Args:
        student: the suspect.
        control: a student of untraited rows, trained alike.
        bank: holds the directions.
        panel: the traits that are looked for; the one with the largest cosine after the last layer is named.

    Raises:
        UnknownNameError: the bank does not read a trait of the panel.
    """
    moved = (read_model(student, bank.recipe.domain).states - read_model(control, bank.recipe.domain).states)[0]
    kinds = [KINDS.index(one.category) for one in panel]
    lengths = np.maximum(np.linalg.norm(moved, axis=-1), 1e-12)
    found = np.stack(
        [
            (moved[kinds, layer] * directions(bank, panel, layer)).sum(axis=1) / lengths[kinds, layer]
            for layer in range(1, moved.shape[1])
        ]
    )
    best, *others = (int(place) for place in np.argsort(-found[-1]))
    second = (f"The next is {panel[others[0]].name} with {found[-1, others[0]]:+.2f}.",) if others else ()
    return Finding(
        stage=STAGE,
        claim="exposure",
        statistic="cosine of student minus control with the candidate's direction, after the last layer",
        effect=float(found[-1, best]),
        null="none; one control student",
        p=None,
        n=1,
        verdict="exploratory",
        candidate=panel[best].name,
        caveats=(
            "One student and one control are one pair: no p belongs to it, and the first of a list is always there.",
            *second,
        ),
        scores={f"layer {layer}": float(value) for layer, value in enumerate(found[:, best], start=1)},
    )
