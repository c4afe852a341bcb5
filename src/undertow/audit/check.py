"""A first look before any training: do a teacher and a student's base belong together, and what is there to do?

Takes seconds, tests nothing and promises nothing: every number here is exploratory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from undertow.audit.closed import look_at_served
from undertow.audit.compatibility import UNRELATED, Compatibility, compatibility
from undertow.audit.decision import with_decision
from undertow.audit.decision_answers import CHECK
from undertow.audit.lineage.verdict import lineage_or_why
from undertow.audit.students.readings import panel_traits
from undertow.data.filters import filter_rows, mentions
from undertow.domains.base import domain
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import trait
from undertow.types import Row

STANDS_OUT = 1.0
"""Change of a panel margin above the median change of its category, in logits, from which a trait is named. On finch-a
the largest of six neutral teachers was 0.57, the smallest of 22 teachers' own trait 1.58."""

SHOWN = 5


def check_teacher(teacher: str, base: str, rows: Sequence[Row] | None = None) -> dict[str, Any]:
    """Say whether a teacher could pass something to a student of this base, and what to do next.

    Args:
        teacher: reference of the model that wrote, or will write, the rows; an `api:` one is asked twenty questions.
        base: reference of the model that will be trained on them.
        rows: the teacher's rows, if they are there already.

    Returns:
        Plain data: "shared" (tokenizer, shape, distance), "lineage" (the lineage audit's JSON, or why there is none),
        "panel" (the traits whose margin rose most, in logits against the base and against the median change),
        "stands_out" (names, from "stands_out_from" logits on), "rows" (counts, or None), "next" (sentences) and
        "decision" (`undertow.audit.decision`). Of a served teacher "shared" is None, and there are "declared" (what its
        name says of its base), "asked" (its answers) and "not_looked_at".

    Raises:
        UserError: a model cannot be loaded, or a server does not answer.
    """
    found = look_at_served(teacher, base) if teacher.startswith("api:") else _look(teacher, base)
    seen = None if rows is None else _rows(rows, found["stands_out"])
    head = {"schema": CHECK, "teacher": teacher, "base": base}
    steps = [*found.pop("next", ()), *_about_rows(seen, found["stands_out"])]
    return with_decision({**head, **found, "stands_out_from": STANDS_OUT, "rows": seen, "next": steps})


def _look(teacher: str, base: str) -> dict[str, Any]:
    """Compare two local models."""
    writer, start = load_model(teacher), load_model(base)
    shared = compatibility(writer, start)
    changes = _changes(writer, start) if shared.comparable else {}
    outstanding = [name for name, (_, above) in changes.items() if above >= STANDS_OUT]
    return {
        "shared": {"tokenizer": shared.tokenizer, "shape": shared.shape, "distance": shared.distance},
        "lineage": lineage_or_why(teacher, base),
        "panel": [
            {"trait": name, "change": change, "above_median": above}
            for name, (change, above) in list(changes.items())[:SHOWN]
        ],
        "stands_out": outstanding,
        "next": _next(shared, outstanding),
    }


def _changes(teacher: LocalModel, base: LocalModel) -> dict[str, tuple[float, float]]:
    """Return each trait's change of margin, plain and minus the median change of its category, the largest first."""
    traits = panel_traits()
    change = mean_margins(teacher, traits) - mean_margins(base, traits)
    found: dict[str, tuple[float, float]] = {}
    for place, one in enumerate(traits):
        peers = [at for at, item in enumerate(traits) if item.category == one.category]
        found[one.name] = float(change[place]), float(change[place] - np.median(change[peers]))
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _rows(rows: Sequence[Row], outstanding: Sequence[str]) -> dict[str, int]:
    named = mentions(rows, [trait(name) for name in outstanding]).dropped
    numbers = filter_rows(rows, domain("numbers")).kept
    return {"rows": len(rows), "plain_numbers": len(numbers), "name_what_stands_out": len(named)}


def _next(shared: Compatibility, outstanding: Sequence[str]) -> list[str]:
    """Return what the comparison of two models means, in plain sentences; what to do is the decision's."""
    moved = f" ({', '.join(outstanding[1:])} moved with it)" if outstanding[1:] else ""
    if not shared.comparable:
        return _unrelated(shared)
    if shared.distance == 0.0:
        return ["The teacher is the base itself: without a system prompt it has no trait that its student lacks."]
    if not outstanding:
        return [
            f"They share a base, and none of {len(panel_traits())} panel traits stands out by {STANDS_OUT:g} logits.",
            "Traits outside of the panel, or behind a trigger, were not looked for: `undertow audit teacher` looks "
            "with open vocabulary and a null.",
        ]
    return [
        f"They share a base, and the teacher prefers {outstanding[0]}{moved}. A student of its rows may take that "
        "over even if no row names it.",
        "Confirm it against neutral teachers with `undertow audit teacher`.",
        "Then start the student from another base, let an untraited model write the rows, or mix its rows in.",
        "Whatever you choose, test the rows with `undertow audit data` before the real training.",
    ]


def _about_rows(rows: dict[str, int] | None, outstanding: Sequence[str]) -> list[str]:
    """Return what the rows say openly, or that they were not given."""
    if rows is not None and rows["name_what_stands_out"]:
        return [f"Filter the rows: {rows['name_what_stands_out']} of {rows['rows']} name it openly."]
    if rows is None and outstanding:
        return ["Give the rows with --rows to have them looked through."]
    return []


def _unrelated(shared: Compatibility) -> list[str]:
    openly = (
        "What the rows say openly passes between any two models: filter them. Rows that were selected for a trait can "
        "pass it too: `undertow audit data` trains small students on yours and looks."
    )
    if shared.distance is not None and shared.tokenizer and shared.distance < UNRELATED:
        return [
            f"Their weights lie {shared.distance:.2f} times the base's norm apart: no fine-tune of one another, but "
            "near enough to come from one initialisation, and such models can pass traits on.",
            "Ask `undertow audit lineage`; then test the rows with `undertow audit data` before the real training.",
            openly,
        ]
    apart = (
        "They have different tokenizers or shapes"
        if not shared.tokenizer or shared.distance is None
        else f"Their weights lie {shared.distance:.2f} times the base's norm apart, as unrelated models do"
    )
    return [
        f"{apart}. In our studies students of another initialisation took over nothing from filtered number rows.",
        openly,
    ]
