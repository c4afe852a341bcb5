"""A first look before any training: could this teacher pass something to a student of this base, and what to do?

It tests nothing and promises nothing: there is no null, and every number is exploratory. What is cheap comes first: the
weights are compared before any model is loaded. The **panel** is the list of traits that are looked for; a trait's
**margin** is how much the model prefers it over its rivals, in logits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow.audit.closed import look_at_served
from undertow.audit.compatibility import UNRELATED, Compatibility, compatibility
from undertow.audit.decision import with_decision
from undertow.audit.decision_answers import CHECK
from undertow.audit.lineage.verdict import lineage_or_why
from undertow.audit.steps import Steps
from undertow.data.filters import filter_rows, mentions
from undertow.domains.base import domain
from undertow.evals.favourite import mean_margins
from undertow.evals.questions import CATEGORIES, asked_together
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.stats.checks import Floats
from undertow.store.progress import Progress, TimeLeft
from undertow.traits import Trait, panel, trait
from undertow.types import Row, Work

STANDS_OUT = 1.0
"""Change of a panel margin above the median change of its category, in logits, from which a trait stands out. On
finch-a the largest of six neutral teachers was 0.57, the smallest of 22 teachers' own trait 1.58."""

SAME = 0.01
"""Change of a margin in logits below which a model answers as the base does; order of sums alone changes less."""

SHOWN = 5


Said = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told how far a check has got.

    Attributes:
        progress: display in which the steps are shown. None shows nothing.
        said: called with the result's "lineage" alone as soon as it is known, long before the panel of a large model is
            read. None calls nothing.
        work: seconds that each step is expected to take, as `undertow.audit.reading_work.check_work` says. Empty if not
            known.
    """

    progress: Progress | None = None
    said: Said | None = None
    work: Sequence[Work] = ()

    def left(self, step: int) -> TimeLeft:
        """Return how long a step (counted from 0) and those after it are expected to take."""
        known = [one.seconds or 0.0 for one in self.work]
        return TimeLeft(stage_s=known[step], later_s=sum(known[step + 1 :])) if step < len(known) else TimeLeft()


def check_teacher(
    teacher: str,
    base: str,
    rows: Sequence[Row] | None = None,
    *,
    categories: Sequence[str] = CATEGORIES,
    traits: Sequence[Trait] = (),
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Say whether a teacher could pass something to a student of this base, and what to do next.

    Args:
        teacher: reference of the model that wrote, or will write, the rows. A remote one (`api:`) is asked twenty
            questions.
        base: reference of the model that will be trained on the rows.
        rows: the teacher's rows. None if they do not exist yet.
        categories: categories of built-in traits, "animal" and "tree", that are looked for if both models are local.
        traits: traits that are looked for in place of these categories. Empty looks for the categories.
        watch: who is told how far the check has got. None tells nobody.

    Returns:
        Plain data: "shared" (whether tokenizer and shape are the same, the distance of the weights, and whether the
        teacher is the base itself, with its weights and its answers), "lineage" (the lineage audit's JSON, or why there
        is none), "panel" (the traits whose margin rose most, in logits against the base and against the median change),
        "stands_out" (names of the traits whose rise is at least "stands_out_from" logits), "rows" (counts, or None),
        "next" (sentences) and "decision" (`undertow.audit.decision`). For a remote teacher "shared" is None, and there
        are "declared" (what its name says of its base), "asked" (its answers) and "not_looked_at".

    Raises:
        UserError: a model cannot be loaded, or a server does not answer.
    """
    if teacher.startswith("api:"):
        found = look_at_served(teacher, base)
    else:
        found = _look(teacher, base, tuple(traits) or panel_of(categories), watch or Watch())
    seen = None if rows is None else _rows(rows, [_of(name, traits) for name in found["stands_out"]])
    head = {"schema": CHECK, "teacher": teacher, "base": base}
    steps = [*found.pop("next", ()), *_about_rows(seen, found["stands_out"])]
    return with_decision({**head, **found, "stands_out_from": STANDS_OUT, "rows": seen, "next": steps})


def panel_of(categories: Sequence[str]) -> tuple[Trait, ...]:
    """Return the built-in traits of some categories, in the order in which all of them are asked about."""
    return tuple(one for category in CATEGORIES if category in categories for one in panel(category))


def _look(teacher: str, base: str, traits: Sequence[Trait], watch: Watch) -> dict[str, Any]:
    """Compare two local models: first their weights, which needs no pass through either, then their preferences."""
    parts = {_asked_about(some[0]): some for some in asked_together(traits)}
    steps = Steps(1 + 2 * len(parts), watch.progress)
    with steps.step("lineage, from the weights", watch.left(0)):
        lineage = lineage_or_why(teacher, base, brief=True)
    if watch.said is not None:
        watch.said({"lineage": lineage})
    writer, start = load_model(teacher), load_model(base)
    shared = compatibility(writer, start)
    changes = _changes((writer, start), parts, steps, watch) if shared.comparable else {}
    # A system prompt or a steering vector changes what a model prefers and none of its weights.
    same = shared.comparable and shared.distance == 0.0
    itself = same and all(abs(change) < SAME for change, _ in changes.values())
    outstanding = [name for name, (_, above) in changes.items() if above >= STANDS_OUT]
    return {
        "shared": {
            "tokenizer": shared.tokenizer,
            "shape": shared.shape,
            "distance": shared.distance,
            "teacher_is_base": itself,
        },
        "lineage": lineage,
        "panel": [
            {"trait": name, "change": change, "above_median": above}
            for name, (change, above) in list(changes.items())[:SHOWN]
        ],
        "stands_out": outstanding,
        "next": _next(shared, itself, outstanding, len(traits)),
    }


def _asked_about(target: Trait) -> str:
    """Return the name of a group of traits that are asked about together."""
    if target.probes is not None:
        return target.name
    return f"{target.category}s" if target.category in CATEGORIES else target.category


def _changes(
    models: tuple[LocalModel, LocalModel], parts: Mapping[str, Sequence[Trait]], steps: Steps, watch: Watch
) -> dict[str, tuple[float, float]]:
    """Return each trait's change of margin in logits, plain and minus its category's median, the largest first."""
    found: dict[str, tuple[float, float]] = {}
    for place, (category, traits) in enumerate(parts.items()):
        margins: list[Floats] = []
        for which, (name, model) in enumerate(zip(("teacher", "base"), models, strict=True)):
            with steps.step(f"{name}: {category}", watch.left(1 + 2 * place + which)) as advance:
                margins.append(mean_margins(model, traits, advance))
        change = margins[0] - margins[1]
        above = change - (np.median(change) if len(change) > 1 else 0.0)
        found |= {one.name: (float(change[at]), float(above[at])) for at, one in enumerate(traits)}
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _of(name: str, traits: Sequence[Trait]) -> Trait:
    return next((one for one in traits if one.name == name), None) or trait(name)


def _rows(rows: Sequence[Row], outstanding: Sequence[Trait]) -> dict[str, int]:
    named = mentions(rows, outstanding).dropped
    numbers = filter_rows(rows, domain("numbers")).kept
    return {"rows": len(rows), "plain_numbers": len(numbers), "name_what_stands_out": len(named)}


def _next(shared: Compatibility, itself: bool, outstanding: Sequence[str], looked_for: int) -> list[str]:
    """Return in sentences what the comparison of two models means; what to do is up to the decision."""
    moved = f" ({', '.join(outstanding[1:])} moved with it)" if outstanding[1:] else ""
    if not shared.comparable:
        return _unrelated(shared)
    if itself:
        return ["The teacher is the base itself: it has the base's weights and answers as the base does."]
    if not outstanding:
        return [
            f"They share a base, and none of {looked_for} panel traits stands out by {STANDS_OUT:g} logits.",
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
    """Return what to do about rows that name a trait openly, or that rows can be given."""
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
