"""Print docs/results.md from run folders: `python scripts/results_page.py runs/demo-... runs/... > docs/results.md`."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Results

Printed by `python scripts/results_page.py <run folders>` from the runs of the command named in each title. Effects are
an arm minus its own control, with 95 % t intervals over fresh teachers (n). Two cores, no GPU; the same figures beside
their aims: `python benchmarks/studies.py`. The recipes were fixed on the development seeds named in LOG.md, and these
are other seeds.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(one: dict[str, Any]) -> str:
    """Return the bounds of an estimate; a single unit has none."""
    if one["low"] is None:
        return "none"
    return f"{one['low']:+.2f} to {one['high']:+.2f}"


def cells(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Return a matrix as a table."""
    lines = [[name, *(f"{value:+.2f}" for value in line)] for name, line in zip(rows, values, strict=True)]
    return table(["", *columns], lines)


def section(results: dict[str, Any]) -> str:
    """Return one study."""
    rows = results["rows"]
    parts = [
        f"## {results['recipe']}: `undertow run {results['recipe']}`",
        results["question"],
        f"Rows kept: {rows['kept']:,} of {rows['raw']:,}.",
        table(
            ["arm", "trait", "metric", "estimate", "interval", "n", "p"],
            [
                [one["arm"], one["trait"], one["metric"], f"{one['estimate']:+.2f}", interval(one), str(one["n"]),
                 f"{one['p']:.2g}"]
                for one in results["effects"]
            ],
        ),
    ]  # fmt: skip
    if (factor := results["diagonal"]) is not None:
        parts.append(
            f"Diagonal factor: {factor['estimate']:+.2f} [{interval(factor)}], permutation p = {factor['p']:.3g}, "
            f"{factor['n_traits']} traits, n = {factor['n']}."
        )
    if (matrix := results["matrix"]) is not None:
        parts.append("Trained trait (rows) x evaluated trait, student minus control, logits:")
        parts.append(cells(matrix["traits"], matrix["evaluated"], matrix["values"]))
    if (bases := results["initialisation"]) is not None:
        parts.append("Teacher's base (rows) x student's base, student minus control, logits:")
        parts.append(cells(bases["bases"], bases["bases"], bases["values"]))
        parts.append(
            f"Same minus cross: {bases['estimate']:+.2f} [{interval(bases)}], n = {bases['n']} initialisations."
        )
    return "\n\n".join(parts)


def analysis_section(results: dict[str, Any]) -> str:
    """Return one analysis or sweep: its answer, its brief tables in full and its estimates."""
    rows = [
        [one["group"], one["name"], f"{one['estimate']:.3f}", _bounds(one), str(one["n"])]
        for one in results["estimates"]
    ]
    return "\n\n".join(
        [
            f"## {results['recipe']}: `undertow run {results['recipe']}`",
            results["question"],
            results["answer"],
            *(
                table(one["columns"], [list(map(_cell, row)) for row in one["rows"]])
                for one in results["tables"]
                if one.get("brief")
            ),
            table(["group", "name", "estimate", "interval", "n"], rows),
        ]
    )


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bounds(one: dict[str, Any]) -> str:
    return "none" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"


def printed(results: dict[str, Any]) -> str:
    """Return the section of a run of any kind."""
    return analysis_section(results) if results["schema"] == "undertow.analysis/1" else section(results)


def main() -> None:
    """Print the page."""
    runs = [json.loads((Path(folder) / "results.json").read_text(encoding="utf-8")) for folder in sys.argv[1:]]
    print("\n\n".join([HEAD.strip(), *map(printed, runs)]))


if __name__ == "__main__":
    main()
