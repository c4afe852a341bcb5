"""The analysis `theorem`: theorem 1 of Cloud et al. (2025) on random networks, and what happens beyond it.

Its stage stores what `check_theorem` returns. Sentences, estimates and tables are made of that whenever the result is
read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, estimate_row, table, validate_settings
from undertow.study.analyses.one_step import check_theorem
from undertow.study.analyses.random_networks import TheoremConfig

BEYOND = "Share of networks whose student has a lower loss on the teacher's trait"
"""Title of the group of estimates."""

PROMISE = (
    "The theorem covers one small step of gradient descent on full distributions from the same start; the shares of "
    "networks, with Wilson's intervals, are what was counted where it promises nothing."
)

_ERRORS = (
    "Error by the size of the teacher's step",
    "Relative error over the networks: of (dS · dT) / epsilon against the prediction A (alignment), and of the "
    "change of the teacher's loss against -A (loss).",
    {
        "relative_error_median": "alignment, median",
        "relative_error_max": "alignment, max",
        "trait_error_median": "loss, median",
        "trait_error_max": "loss, max",
    },
)
_SIGNS = (
    "Networks with the sign of the theorem",
    "Share of the networks in which dS · dT is positive, and in which the teacher's loss falls.",
    {
        "sign_right": "same start, dS · dT > 0",
        "trait_falls": "same start, loss falls",
        "other_sign_right": "other start, dS · dT > 0",
        "other_trait_falls": "other start, loss falls",
    },
)
"""Title, note and columns of the tables with a row for each size of the teacher's step."""


def _stage(given: Mapping[str, Any], _: None) -> Stage:
    config = validate_settings(TheoremConfig, given)
    return Stage(
        kind="theorem",
        version=1,
        config=json.loads(json.dumps(asdict(config))),
        label=f"check the theorem on {config.networks} networks",
        cost=config.networks,
    )


def _execute(context: StageContext) -> dict[str, Any]:
    return check_theorem(validate_settings(TheoremConfig, context.config), context.advance)


def theorem_result(found: Mapping[str, Any]) -> AnalysisResult:
    """Turn what `check_theorem` found into the result of an analysis."""
    return checked_result(
        found,
        PROMISE,
        ["Networks of another shape, other losses, and language models.", "Filtered or rewritten outputs."],
    )


def checked_result(found: Mapping[str, Any], promise: str, not_tested: list[str]) -> AnalysisResult:
    """Turn what a check of the theorem found into the result of an analysis.

    Args:
        found: plain data as `check_theorem` returns it.
        promise: what the theorem promises and what the shares are, in a sentence.
        not_tested: sentences on what was not tested.
    """
    return {
        "answer": _answer(found, promise),
        "estimates": [_variant(one) for one in found["variants"]],
        "tables": [
            _assertions(found["assertions"]),
            _by_epsilon(found, *_ERRORS),
            _by_epsilon(found, *_SIGNS),
            _spread(found),
        ],
        "figures": [_error_figure(found["by_epsilon"])],
        "not_tested": not_tested,
    }


def _answer(found: Mapping[str, Any], promise: str) -> str:
    failed = [one["name"] for one in found["assertions"] if not one["holds"]]
    n = len(found["assertions"])
    held = f"{n - len(failed)} of {n} assertions hold on {found['networks']} networks"
    first = f"{held}." if not failed else f"{held}; not: {', '.join(failed)}."
    return f"{first}\n{promise}"


def _variant(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of networks of one variant, with Wilson's interval."""
    name = f"{one['name']}, {one['initialisation']} initialisation"
    return estimate_row(BEYOND, name, "share", {**one, "estimate": one["share"]})


def _assertions(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return table(
        "Assertions",
        "At the checked epsilon, the worst network and student loss of each.",
        ["name", "value", "bound", "holds", "assertion"],
        [
            [one["name"], one["value"], _bound(*one["bound"]), "yes" if one["holds"] else "no", one["statement"]]
            for one in found
        ],
        brief=4,
    )


def _bound(low: float | None, high: float | None) -> str:
    """Return the bounds of an assertion as text. An open end is left out."""
    if low is None:
        return "any" if high is None else f"at most {high:.4g}"
    return f"at least {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"


def _by_epsilon(found: Mapping[str, Any], title: str, note: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a table with a row for each student loss and size of the teacher's step."""
    rows = [[_words(row), row["epsilon"], *(row[key] for key in columns)] for row in found["by_epsilon"]]
    return table(title, note, ["student loss", "epsilon", *columns.values()], rows)


def _spread(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of the predictions' spread over the networks."""
    parts = ("min", "median", "max")
    rows = [[_words(one), *(one[part] for part in parts)] for one in found["predicted"]]
    return table("The prediction A", "Over the networks, from the same start.", ["student loss", *parts], rows)


def _words(row: Mapping[str, Any]) -> str:
    return row["student_loss"].replace("_", " ")


def _error_figure(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    points: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["relative_error_median"] > 0.0:  # the axes are logarithmic
            points.setdefault(_words(row), []).append([row["epsilon"], row["relative_error_median"]])
    lines = [{"name": name, "points": some, "guide": False} for name, some in points.items()]
    ends = sorted({row["epsilon"] for row in rows})
    return {
        "title": "Error of the prediction A, median over the networks",
        "x": "epsilon (teacher's step)",
        "y": "median relative error",
        "lines": [*lines, {"name": "error = epsilon", "points": [[end, end] for end in ends], "guide": True}],
    }


THEOREM = Analysis(
    name="theorem",
    needs_study=False,
    settings=TheoremConfig,
    stage=_stage,
    execute=_execute,
    present=theorem_result,
    seconds_per_unit=0.1,
)
