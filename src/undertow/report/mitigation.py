"""A verification of mitigations as one HTML page and as text for a terminal (schema undertow.mitigation/1)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from undertow.report.render import PAGE, environment, write_page

DATA = "mitigation.json"

VERDICT = {"accepted": "accepted", "rejected": "rejected", "not_testable": "not testable"}

CRITERIA: Mapping[str, str] = {
    "trait_lost": "trait lost",
    "beats_random": "beats random",
    "skill_kept": "skill kept",
    "no_trait_rises": "no trait rises",
}

STATUS = {"passed": "yes", "failed": "no", "not_testable": "not testable", "not_applicable": "–"}  # noqa: RUF001

CAUTION = (
    "Accepted means: on this base, with this recipe, in these runs, the declared trait stayed below the bound and the "
    "declared task metrics within their margins. Traits outside the panel, other recipes and triggers were not tried."
)

Found = Mapping[str, Any]


def render_mitigation(folder: Path, found: Found) -> Path:
    """Write report.html and mitigation.json into a folder, and return the path of the page.

    Args:
        folder: where they go; it must exist.
        found: schema undertow.mitigation/1.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    from undertow.report.mitigation_figure import pareto_figure  # here, so that the text needs no matplotlib

    page = (
        environment()
        .get_template("mitigation.html")
        .render(
            found=found,
            figure=Markup(pareto_figure(found)),
            rows=[_row(one) for one in found["mitigations"]],
            criteria=CRITERIA,
            status=STATUS,
            verdict=VERDICT,
            caution=CAUTION,
            interval=interval,
            signed=signed,
        )
    )
    write_page(folder / DATA, json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_page(folder / PAGE, page)
    return folder / PAGE


def interval(one: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval, to two decimals."""
    if one is None:
        return "not computable"
    if one["low"] is None or one["high"] is None:
        return f"{one['estimate']:.2f} (no interval)"
    return f"{one['estimate']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def signed(one: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Return a difference with its sign and interval."""
    if one is None:
        return "–"  # noqa: RUF001 (a dash, as tables use it)
    if one["low"] is None or one["high"] is None:
        return f"{one['estimate']:+.{digits}f} (no interval)"
    return f"{one['estimate']:+.{digits}f} [{one['low']:+.{digits}f}, {one['high']:+.{digits}f}]"


def cost_text(cost: Mapping[str, float]) -> str:
    """Return what a mitigation costs, in words."""
    units = (("generated", "rows generated"), ("scored", "row readings"), ("trained", "models trained"))
    parts = [f"{cost[key]:,.0f} {words}" for key, words in units if cost[key]]
    return ", ".join(parts) or "nothing"


def _row(one: Found) -> dict[str, Any]:
    """Return what the table shows of a mitigation."""
    largest = None if one["off_target"] is None else one["off_target"]["largest"]
    return {
        **one,
        "random": one["targeted_minus"].get("random"),
        "largest": largest,
        "cost": cost_text(one["cost_per_run"]),
        "task": {metric["metric"]: metric["targeted_minus_full"] for metric in one["task"]},
    }


def summarise_mitigation(found: Found) -> str:
    """Return the table as text: one block for each mitigation, the verdict first."""
    lines = [
        f"trait {found['trait']}, base {found['base']}, {found['runs']} runs (a run: {found['unit']})",
        "trait kept: 1 as without the mitigation, 0 as after clean rows; 95 % intervals",
        "",
    ]
    for one in found["mitigations"]:
        lines += _block(one)
    return "\n".join([*lines, CAUTION])


def _block(one: Found) -> list[str]:
    row = _row(one)
    statuses = "; ".join(f"{CRITERIA[name]}: {STATUS[status]}" for name, status in one["criteria"].items())
    lines = [
        f"{one['method']}: {VERDICT[one['verdict']]}",
        f"  trait kept {interval(one['normalised_effect'])}; {statuses}",
        "  " + "; ".join(f"{name} {signed(change)}" for name, change in row["task"].items()),
    ]
    if row["random"] is not None:
        lines.append(f"  targeted - random {signed(row['random'], 2)} logits")
    if one["off_target"] is not None and (rising := one["off_target"]["rising"]):
        lines.append(f"  rises: {', '.join(rising)}")
    return [*lines, f"  cost of a run: {row['cost']}; {one['changed']:.0%} of the rows changed", ""]
