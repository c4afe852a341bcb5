"""`undertow audit rows --swap`: replace the answers of parts of the rows, to see which part carries a trait."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.cli.intakes import Brief, intake_of_ranking
from undertow.cli.options import prepare, read_given, show, shown_progress
from undertow.errors import ConfigError
from undertow.traits import Trait

if TYPE_CHECKING:
    from undertow.audit.asked import Ranking
    from undertow.audit.swap.order import SwapOrder
    from undertow.audit.swap.subsets import Subset
    from undertow.data.rows import LoadedRows


_WAYS = {"swap": "answers replaced", "drop": "left out", "alone": "alone"}
"""What is done with a part of the rows, in words."""


def swap_rows(
    path: str,
    base: str,
    target: Trait | None,
    text: str,
    ranked_by: Mapping[str, str | None],
    unused: Sequence[str],
    store: Path,
    seed: int,
    brief: Brief,
) -> None:
    """Replace the answers of one part of the rows at a time, and show which parts carry the trait.

    Args:
        path: name of the row file.
        base: reference of the model that is trained on the rows.
        target: the trait whose margin is measured. None is refused.
        text: value of --swap: how rows are cut into parts, and how many students are trained
            (`undertow.audit.swap.order`).
        ranked_by: references of the student or teacher that scores rows, for parts that are cut by score.
        unused: options that were given and have no meaning here.
        store: folder in which finished students are kept.
        seed: random seed of everything that is drawn.
        brief: how the intake is taken and shown.

    Raises:
        ConfigError: the trait is missing, an option has no meaning here, or the rows cannot be cut.
        UserError: the rows cannot be read, or a model cannot be loaded.
    """
    from undertow.audit.swap.order import swap_order
    from undertow.audit.swap.subsets import SCORE

    order = swap_order(text, seed)
    if target is None:
        raise ConfigError("Which trait's margin is to fall?", "--swap without a trait", "Name it with --trait.")
    unused = [*unused, *(f"--{name}" for name, given in ranked_by.items() if given and order.by != SCORE)]
    if unused:
        fix = "Leave it out; rows are ranked by a model only where they are cut by score."
        raise ConfigError("This option means nothing in a swap.", ", ".join(unused), fix)
    loaded = read_given(path, more=True)
    subsets = _subsets(order, loaded)
    intake = intake_of_ranking(path, base, brief, _ranking(order, target, subsets), store=store, seed=seed)
    if brief.plan:
        return
    prepare()
    if order.by == SCORE:
        subsets = _scored(order, loaded, base, target, ranked_by, store)
    from undertow.audit.swap.run import Swapped, swap_subsets
    from undertow.models.load import parameters_of
    from undertow.training.own_models import own_student

    student = own_student(parameters_of(base))
    swapped = Swapped(
        rows=loaded.rows, subsets=subsets, base=base, target=target, order=order, student=student, store=store
    )
    found = swap_subsets(swapped, shown_progress(brief.as_json), told=_tell_reach)
    show({**found, "intake": intake.to_json()}, brief.as_json, _lines(found))


def _subsets(order: "SwapOrder", loaded: "LoadedRows") -> "tuple[Subset, ...]":
    """Cut the rows by their key. Where they are cut by score, which is not known yet, cut them by place."""
    from undertow.audit.swap.subsets import SCORE, by_key, by_score

    if order.by == SCORE:
        return by_score(range(len(loaded.rows)), order.parts)
    return by_key(loaded.more, order.by)


def _scored(
    order: "SwapOrder",
    loaded: "LoadedRows",
    base: str,
    target: Trait,
    ranked_by: Mapping[str, str | None],
    store: Path,
) -> "tuple[Subset, ...]":
    """Cut the rows by their score."""
    from undertow.audit.attribution import Suspected, rank
    from undertow.audit.swap.subsets import by_score

    suspected = Suspected(rows=loaded.rows, base=base, target=target, store=store, seed=order.seed, **ranked_by)
    return by_score(rank(suspected)[0].score, order.parts)


def _ranking(order: "SwapOrder", target: Trait, subsets: "Sequence[Subset]") -> "Ranking":
    """Return what the swap will train and read, for the estimate of its time."""
    from undertow.audit.asked import Ranking
    from undertow.audit.swap.arms import first_arms, subset_arms
    from undertow.audit.swap.subsets import SCORE

    rows = sum(len(one.places) for one in subsets)
    of_subsets = subset_arms(order, dict.fromkeys(order.ways, subsets))
    counts = len(first_arms(order, subsets, rows)), len(of_subsets), 2
    # The auditor's own teacher is trained in any case: it is the dose.
    return Ranking(own=target, ranked=order.by == SCORE, swapped=counts)


def _tell_reach(reach: Mapping[str, Any]) -> None:
    """Print on standard error which effects can be found, before students of the parts are trained."""
    for line in _reach_lines(reach):
        print(line, file=sys.stderr, flush=True)


def _reach_lines(reach: Mapping[str, Any]) -> Iterator[str]:
    yield "What can be found (the auditor's own teacher answers a share of clean rows; margin, logits)"
    yield from (f"  {one['share']:>5.0%} of the prompts  {_interval(one)}" for one in reach["doses"])
    yield f"  everything replaced by the other writer  {_interval(reach['everything_replaced'])}"
    for one in reach["subsets"]:
        smallest = "no share" if one["smallest_share"] is None else f"{one['smallest_share']:.1%} of the rows"
        yield (
            f"  {_WAYS[one['way']]}: {one['name']}, {one['rows']} rows, {one['share']:.1%}; {one['detectable']:.2f} "
            f"logits beyond a random part are found, which {smallest} can bring"
            f"{'' if one['testable'] else ': not testable'}"
        )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{found['rows_swapped']} of {found['rows']} rows, cut by {found['by']}; answers of {found['other']} in their "
        f"place; {found['students']} students of {found['base']}\n"
    )
    yield from _reach_lines(found["reach"])
    for way, key in (("swap", "subsets"), ("drop", "dropped"), ("alone", "alone")):
        if found[key]:
            beside = f"margin of {found['trait']} against the whole data, and beyond a random part of that size"
            yield f"\n{_WAYS[way]}: {beside}"
            yield from map(_subset_line, found[key])
    named = ", ".join(found["named"])
    yield (
        f"\nStudents lose {found['trait']} without the answers of: {named}."
        if named
        else f"\nNo subset is shown to carry more of {found['trait']} than a random part of its size."
    )
    if found["named_alone"]:
        yield f"Students of these rows alone take {found['trait']} over: {', '.join(found['named_alone'])}."
    yield f"\n{found['may']}\n{found['may_not']}"


def _subset_line(one: Mapping[str, Any]) -> str:
    if one["effect"] is None:
        return f"  {one['name']}: not testable: {one['why']}"
    status = "carries the trait" if one["status"] == "detected" else "not shown to"
    beyond, p = _interval(one["beyond_random"]), one["p"]
    return f"  {one['name']} ({one['rows']} rows): {_interval(one['effect'])}; beyond {beyond}, p = {p:.2g}: {status}"


def _interval(one: Mapping[str, Any]) -> str:
    low, high = (end if (end := one[side]) is not None else float("nan") for side in ("low", "high"))
    return f"{one['estimate']:+.2f} [{low:+.2f}, {high:+.2f}]"
