"""The results as plain text for a terminal."""

import textwrap
import unicodedata

from undertow.report.results import Effect, Results
from undertow.report.wording import (
    answer,
    difference_name,
    difference_text,
    interval_text,
    main_metric,
    metric_name,
    ordered,
    unit,
)

_ROWS = 13
"""Most effects that are listed, so that the whole stays within 25 lines."""
_WIDTH = 100
_NAME = 24


def summarise(results: Results) -> str:
    """Return the question, the effects of the main metric as a table and the rows, in at most 25 lines of 100 signs."""
    metric = main_metric(results)
    effects = ordered(effect for effect in results.effects if effect.metric == metric)
    table = [("effect", "trait", "estimate", "interval", "n"), *(_cells(effect) for effect in effects[:_ROWS])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        _line(results.question or f"Run of recipe {results.recipe}"),
        "",
        *_wrapped(answer(results), 5),
        "",
        f"{metric_name(metric)}, in {unit(metric)}",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table),
    ]
    if len(effects) > _ROWS:
        lines.append(f"... and {len(effects) - _ROWS} more in the report")
    rows = results.rows
    if rows.raw:
        lines.append(f"rows: {rows.kept} of {rows.raw} kept ({rows.kept / rows.raw:.1%})")
    return "\n".join(lines)


def _cells(effect: Effect) -> tuple[str, str, str, str, str]:
    return (
        _line(difference_name(effect.arm), 32),
        _line(effect.trait, _NAME),
        difference_text(effect.estimate, effect.metric),
        interval_text(effect, effect.metric),
        "" if effect.n is None else str(effect.n),
    )


def _line(text: str, width: int = _WIDTH) -> str:
    """Return text on one line, without control characters: a terminal would obey them."""
    clean = " ".join("".join(sign if unicodedata.category(sign)[0] != "C" else " " for sign in text).split())
    return clean if len(clean) <= width else f"{clean[: width - 3]}..."


def _wrapped(text: str, most: int) -> list[str]:
    return textwrap.wrap(_line(text, 10_000), _WIDTH, max_lines=most, placeholder=" ...")
