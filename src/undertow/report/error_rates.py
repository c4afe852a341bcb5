"""How often audits like this one are wrong: as measured on this very base, or that nobody has measured it."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from undertow.stats.estimates import with_interval

AuditJson = Mapping[str, Any]

UNMEASURED = "The error rate on this base was not measured: docs/calibration.md has the embedded bases alone."

EXACT = "contrast"
"""Name of the stage whose null is exact given the reference, and whose rates `undertow audit calibrate` measures."""


def is_embedded(base: str) -> bool:
    """Tell whether a reference names an embedded base itself, and not an adapter of it or a system prompt."""
    return base.startswith("ref:") and not set(base) & set("+?@")


def error_rates(audit: AuditJson) -> str | None:
    """Return the error rates that were measured on the audit's base, or a warning that none were.

    It is None where nothing was tested, and for an embedded base without figures of its own, whose rates are in
    docs/calibration.md.
    """
    if all(one["status"] == "not_testable" for one in audit["claims"].values()):
        return None
    if (found := audit.get("calibration")) is not None:
        return " ".join(_sentences(found, audit["alpha"]))
    base = str(audit["about"].get("base", ""))
    if is_embedded(base):
        return None
    rows = audit["claims"].get("provenance")
    if rows is None or rows["status"] == "not_testable" or rows["stage"] != EXACT:
        return f"{UNMEASURED} No command measures that of the stages that decided here."
    return (
        f"{UNMEASURED} The null of the contrast is exact given the reference. "
        f"`undertow audit calibrate --base {shlex.quote(base)} --minutes 30` measures its error rate."
    )


def _sentences(found: Mapping[str, Any], alpha: float) -> Iterator[str]:
    """Yield what was measured, on what, and in what this audit differs from it."""
    measured = found["measured"]
    panel = f"a panel of {len(found['panel'])} ({found['candidates']}), alpha {found['alpha']:g}, seed {found['seed']}"
    yield (
        f"Error rates of rows, measured on this base ({found['base_identity']}) by `undertow audit calibrate`: sets of "
        f"{found['rows']} rows from {found['prompts']} prompts, one clean row on each as reference, {panel}; 95 % "
        "intervals are of further sets from these prompts, with a trait over traits."
    )
    if found["disjoint_sets"] < 2:
        yield "These prompts hold one set alone: planted and shifted rows are nearly one suspect, judged many times."
    yield f"Clean rows of the base: {_rate(measured['clean'])}."
    yield (
        "Rows partly written under a persona of the panel: "
        + "; ".join(f"at a share of {one['dose']:g} {_rate(one)}" for one in measured["power"])
        + "."
    )
    shifts = "; ".join(f"{name} {_rate(one)}" for name, one in measured["shifts"].items())
    yield f"Differences without any trait: {shifts}."
    yield "Students were not measured."
    if found["alpha"] != alpha:
        yield f"The alpha of this audit is another one, {alpha:g}."
    if not found["same_panel"]:
        yield "The panel of this audit is another one."
    if not found["same_candidates"]:
        yield "This audit has tuned teachers among its candidates too; these figures were measured without them."


def _rate(one: Mapping[str, Any]) -> str:
    """Return how often sets of rows were called and how often stopped, or that it was not measured."""
    if "not_measured" in one:
        return f"not measured ({one['not_measured'].rstrip('.')})"
    stopped = one["stopped"]["count"]
    why = f", {stopped} not testable ({', '.join(one['reasons'])})" if stopped else ""
    over = one.get("over_traits")
    called = with_interval(one["called"] if over is None else over, ".3f", " (one trait)")
    return f"called {called} of {one['sets']}{why}"
