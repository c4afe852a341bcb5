"""A verification of mitigations as one HTML page and as text for a terminal (schema undertow.mitigation/1)."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from undertow.mitigate.judgement import FEWEST_RUNS
from undertow.report.figures import COLOURS, INK, draw_axes
from undertow.report.numbers import DASH
from undertow.report.render import render_page, write_page
from undertow.stats.estimates import with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA = "mitigation.json"

VERDICT = {"accepted": "accepted", "rejected": "rejected", "not_testable": "not testable"}

CRITERIA: Mapping[str, str] = {
    "trait_lost": "trait lost",
    "trait_lost_in_context": "trait lost behind rows",
    "beats_random": "beats random",
    "skill_kept": "skill kept",
    "no_trait_rises": "no trait rises",
}

STATUS = {"passed": "yes", "failed": "no", "not_testable": "not testable", "not_applicable": DASH}

_SIZE_IN, _NARROW_IN = (7.0, 4.2), (3.9, 3.4)
_COLOUR = {"accepted": COLOURS["neutral"], "rejected": COLOURS["student"], "not_testable": COLOURS["control"]}
_MARKER = {"accepted": "D", "rejected": "s", "not_testable": "o"}
_LONGEST = 34
"""How many characters of a mitigation's name the figure shows."""

CAUTION = (
    "Accepted means: on this base, with this recipe, in these runs, the declared trait stayed below the bound and the "
    "declared task metrics within their margins. Traits outside the panel, other recipes and triggers were not tried."
)

Found = Mapping[str, Any]


def render_mitigation(folder: Path, found: Found) -> Path:
    """Write report.html and mitigation.json into a folder, and return the path of the page.

    Args:
        folder: folder that the files are written to. It must exist.
        found: plain data of a verification, schema undertow.mitigation/1.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_page(folder / DATA, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return render_page(
        folder,
        "mitigation.html",
        found=found,
        figure=Markup(_pareto_figure(found)),
        narrow_figure=Markup(_pareto_figure(found, narrow=True)),
        rows=[_row(one) for one in found["mitigations"]],
        criteria=CRITERIA,
        status=STATUS,
        verdict=VERDICT,
        caution=CAUTION,
        too_few=_too_few(found),
        passes=_passes,
        drawn=any(one["normalised_effect"] for one in found["mitigations"]),
        kept_behind=partial(_kept_behind, bound=found["criteria"]["bound"]),
        kept=partial(kept_text, bound=found["criteria"]["bound"]),
        signed=signed,
    )


def kept_text(one: Mapping[str, Any] | None, bound: float) -> str:
    """Return the share of the trait kept, with its interval, in digits that show whether it excludes the bound.

    There is no share where the students of the rows did not rise above those of clean rows.
    """
    return "not testable" if one is None else with_interval(one, ".2f", " (no interval)", (0.0, bound))


def signed(one: Mapping[str, Any] | None, digits: int = 3, margin: float | None = None) -> str:
    """Return a difference with its sign and interval, in digits that show whether it excludes 0 and a margin.

    Args:
        one: plain data of an estimate with its interval. None gives a dash.
        digits: decimals that are shown at least.
        margin: a margin around 0 that the digits have to tell apart from the ends of the interval. None for none.
    """
    limits = (0.0,) if margin is None else (-margin, 0.0, margin)
    return DASH if one is None else with_interval(one, f"+.{digits}f", " (no interval)", limits)


def cost_text(cost: Mapping[str, float]) -> str:
    """Return what a mitigation costs, in words."""
    units = (("generated", "rows generated"), ("scored", "row readings"), ("trained", "models trained"))
    parts = [f"{cost[key]:,.0f} {words}" for key, words in units if cost[key]]
    return ", ".join(parts) or "nothing"


def _row(one: Found) -> dict[str, Any]:
    """Return the values that the table shows of a mitigation."""
    largest = None if one["off_target"] is None else one["off_target"]["largest"]
    return {
        **one,
        "random": one["targeted_minus"].get("random"),
        "largest": largest,
        "cost": cost_text(one["cost_per_run"]),
        "task": {
            metric["metric"]: signed(metric["targeted_minus_full"], margin=metric["margin"]) for metric in one["task"]
        },
    }


def summarise_mitigation(found: Found) -> str:
    """Return the table as text: one block for each mitigation, the verdict first."""
    lines = [
        f"trait {found['trait']}, base {found['base']}, {found['runs']} runs (a run: {found['unit']})",
        "trait kept: 1 as without the mitigation, 0 as after clean rows; 95 % intervals",
        *([_too_few(found)] if _too_few(found) else []),
        "",
    ]
    for one in found["mitigations"]:
        lines += _block(one, found["criteria"]["bound"])
    return "\n".join([*lines, CAUTION])


def _too_few(found: Found) -> str:
    """Return why nothing was judged; empty where the runs are enough for a verdict."""
    few = found["runs"] < FEWEST_RUNS
    return f"Nothing is judged: a verdict takes {FEWEST_RUNS} runs, and these are {found['runs']}." if few else ""


def _passes(one: Found) -> str:
    """Return what the difference of the arms full and control is, and why no share was taken of it where none was."""
    why = "; it is not significantly above 0, so no share of it can be taken"
    return f"what passes without the mitigation{'' if one['normalised_effect'] else why}"


def _block(one: Found, bound: float) -> list[str]:
    row = _row(one)
    statuses = "; ".join(f"{CRITERIA[name]}: {STATUS[status]}" for name, status in one["criteria"].items())
    lines = [
        f"{one['method']}: {VERDICT[one['verdict']]}",
        f"  trait kept {kept_text(one['normalised_effect'], bound)}; behind rows {_kept_behind(one, bound)}",
        f"  full - control {signed(one['full_minus_control'], 2)} logits: {_passes(one)}",
        f"  {statuses}",
        "  " + "; ".join(f"{name} {change}" for name, change in row["task"].items()),
    ]
    if row["random"] is not None:
        lines.append(f"  targeted - random {signed(row['random'], 2)} logits")
    if one["off_target"] is not None and (rising := one["off_target"]["rising"]):
        lines.append(f"  rises: {', '.join(rising)}")
    return [*lines, f"  cost of a run: {row['cost']}; {one['changed']:.0%} of the rows changed", ""]


def _kept_behind(one: Found, bound: float) -> str:
    """Return the share of the trait kept when asked behind rows like the training's, or why it is not known."""
    why = one["in_context_why"]
    return f"not testable: {why}" if why else kept_text(one["normalised_effect_in_context"], bound)


def _pareto_figure(found: Found, narrow: bool = False) -> str:
    """Draw the trait kept against the change of the held-out loss with intervals, one point for each mitigation.

    The narrow figure, for about 370 pixels, leaves the names to the numbered lines above it.
    """
    points = [one for one in found["mitigations"] if one["normalised_effect"] is not None]
    described = "; ".join(f"{one['method']}: {one['normalised_effect']['estimate']:.2f}" for one in points)
    paint = partial(_draw, points=points, criteria=found["criteria"], named=not narrow)
    name, size = ("pareto-narrow", _NARROW_IN) if narrow else ("pareto", _SIZE_IN)
    return draw_axes(name, size, paint, f"Trait kept and skill kept by mitigation. {described}.")


def _draw(axis: "Axes", points: Sequence[Found], criteria: Mapping[str, float], named: bool) -> None:
    margin = criteria["held_out_loss"]
    axis.axhspan(-margin, margin, color=_COLOUR["accepted"], alpha=0.08, linewidth=0)
    axis.axvline(criteria["bound"], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5)
    axis.axvline(0.0, color=INK, linewidth=0.6, zorder=0.5, alpha=0.5)
    for place, one in enumerate(points):
        kept, loss = one["normalised_effect"], one["task"][0]["targeted_minus_full"]
        colour = _COLOUR[one["verdict"]]
        x, y = kept["estimate"], loss["estimate"]
        if kept["low"] is not None:
            axis.plot([kept["low"], kept["high"]], [y, y], color=colour, linewidth=1.4)
        if loss["low"] is not None:
            axis.plot([x, x], [loss["low"], loss["high"]], color=colour, linewidth=1.4)
        axis.plot([x], [y], _MARKER[one["verdict"]], color=colour, markersize=6, markeredgewidth=0)
        axis.annotate(
            str(place + 1), (x, y), xytext=(5, 4 if place % 2 else -11), textcoords="offset points", fontsize=8
        )
    axis.set_xlabel("trait kept (1: as without the mitigation," + (" " if named else "\n") + "0: as after clean rows)")
    axis.set_ylabel("change of held-out loss (nats per token)")
    axis.spines[["top", "right"]].set_visible(False)
    if not named:
        return
    names = "\n".join(f"{place + 1} {one['method'][:_LONGEST]}" for place, one in enumerate(points))
    axis.text(1.02, 1.0, names, transform=axis.transAxes, va="top", fontsize=7.5)
