"""Draw the figures of the pages into docs/figures: `python scripts/site_figures.py`.

Every figure is drawn from result files that lie in the repository, and names the command that printed them. `make docs`
fails where a page shows a picture that is not in this list, and where the results have changed since it was drawn.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from real_page import kept_traits, matrix, replicates, with_other_base

from undertow.report.cells import Grid
from undertow.report.figures import COLOURS, INK, arms_drawing, drawing, heatmap, white_file
from undertow.report.nulls import draw_null
from undertow.report.results import Interval, load_results
from undertow.stats.estimates import mean_t

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
RESULTS, FOLDER = ROOT / "results", ROOT / "docs/figures"
MARKS = ("D", "o", "s")
"""Shapes of the series of a figure, so that they are told apart without colours."""
SERIES = (COLOURS["student"], COLOURS["cross_init"], COLOURS["control"])
WIDTH_IN = 7.0


class SiteFigure(NamedTuple):
    """One figure of the pages.

    Attributes:
        name: of its file in docs/figures, without the ending.
        command: what prints its numbers.
        data: files and folders below results/ that it is drawn from.
        draw: draws it from those.
    """

    name: str
    command: str
    data: tuple[str, ...]
    draw: Callable[[Sequence[Path]], Figure]

    @property
    def path(self) -> Path:
        """Where it lies."""
        return FOLDER / f"{self.name}.svg"

    def sources(self) -> list[Path]:
        """Return the places of its data."""
        return [RESULTS / place for place in self.data]

    def digest(self) -> str:
        """Return a digest of everything that it is drawn from; files that cannot be read raise FileNotFoundError."""
        found = hashlib.sha256()
        for path in self.sources():
            for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
                found.update(file.read_bytes())
        return found.hexdigest()[:16]


def effect_by_arm(sources: Sequence[Path]) -> Figure:
    """Draw students of the demo and their controls, with one dot for each replicate."""
    figure = arms_drawing(load_results(sources[0]))
    assert figure is not None
    return figure


def effect_by_channel(sources: Sequence[Path]) -> Figure:
    """Draw how much passes by each channel, within an initialisation and between two."""
    estimates = json.loads(sources[0].read_text(encoding="utf-8"))["estimates"]
    found: dict[str, list[Any]] = {"same initialisation": [], "another initialisation": []}
    for one in estimates:
        channel, _, kind = one["name"].rpartition(", ")
        if one["group"].startswith("Diagonal factor") and kind in found:
            found[kind].append((channel, one["estimate"], one["low"], one["high"]))
    return forest(found, "own trait minus other traits (logits)")


def trait_matrix(sources: Sequence[Path]) -> Figure:
    """Draw students of a real model: by how much more than its mean over the traits each trait moved."""
    files = replicates(sources[0].name)
    traits = kept_traits(files)
    found = np.array([matrix(with_other_base(file), traits, "student", "control") for file in files])
    found -= found.mean(axis=2, keepdims=True)  # most animals rise or fall together in a student of numbers
    cells = [[Interval(**mean_t(cell).to_json()) for cell in row] for row in np.moveaxis(found, 0, 2)]
    return heatmap(Grid(traits, traits, ("teacher's trait", "animal that is asked about"), "logit_margin", cells))


def dose_response(sources: Sequence[Path]) -> Figure:
    """Draw how often the audit of rows calls planted rows, by their share, beside clean rows at 0."""
    figure, axis = panel(3.2)
    for path, mark, colour, shift in zip(sources, MARKS, SERIES, (-0.008, 0.008), strict=False):
        found = json.loads(path.read_text(encoding="utf-8"))
        measured = found["panels"]["personas"]
        planted = [(one["dose"], one["over_traits"]) for one in measured["power"]]  # a trait's sets are no replicates
        called = [(0.0, measured["clean"]["called"]), *planted]
        places, shares, low, high = np.array(sorted((x, y["estimate"], y["low"], y["high"]) for x, y in called)).T
        name = "finch-b" if found["base"].startswith("ref:") else "SmolLM2-135M-Instruct"
        axis.vlines(places + shift, low, high, color=colour, linewidth=1.8)
        axis.plot(places + shift, shares, marker=mark, color=colour, linewidth=1.0, label=name)
    level = json.loads(sources[0].read_text(encoding="utf-8"))["settings"]["alpha"] / 3  # one claim of three
    axis.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.annotate(f"level {level:.2g}", (0.8, level), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=9)
    axis.set_xticks([0, 0.25, 0.5, 1.0], ["none", "25 %", "50 %", "100 %"])
    axis.set_xlabel("share of the 100 rows that were written under a persona")
    axis.set_ylabel("share of audits that call it")
    axis.set_ylim(0, 1)
    axis.legend(frameon=False, loc="upper left")
    return figure


def null_and_observed(sources: Sequence[Path]) -> Figure:
    """Draw what a set of planted rows was judged by."""
    figure, axis = panel(2.4)
    findings = json.loads(sources[0].read_text(encoding="utf-8"))["findings"]
    draw_null(axis, next(one["null_sample"] for one in findings if one["stage"] == "contrast"))
    return figure


def evidence_over_rounds(sources: Sequence[Path]) -> Figure:
    """Draw the evidence of watched deployments after each round of canaries, with the bound of the alarm."""
    found, most = json.loads(sources[0].read_text(encoding="utf-8")), 40
    figure, axis = panel(3.2)
    kinds = zip(reversed(found["trails"]), ("-", (0, (5, 2)), "-"), SERIES, strict=True)
    for trail, line, colour in kinds:
        rounds = np.array(trail["rounds"])[:, :most]
        name = f"drift {trail['drift']:+g} logits" if trail["drift"] else "no drift"
        style: dict[str, Any] = {"color": colour, "linestyle": line}
        axis.plot(np.arange(1, most + 1), rounds.T, linewidth=0.6, alpha=0.45, **style)
        axis.plot(np.arange(1, most + 1), np.median(rounds, axis=0), linewidth=2.4, label=name, **style)
    axis.axhline(found["bound"], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.annotate("alarm", (most, found["bound"]), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=9)
    axis.set_ylim(-0.4, 9)
    axis.set_xlim(0, most + 1)
    axis.set_yticks([0, 3, 6, 9], ["1", "1,000", "1,000,000", "1e9"])
    axis.set_ylabel("evidence of a rise")
    axis.set_xlabel(f"rounds of {found['budget']} requests")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.3, 1.0))
    return figure


def panel(height_in: float) -> "tuple[Figure, Axes]":
    """Return a figure with one panel in the style of all figures."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def forest(series: dict[str, list[Any]], label: str) -> Figure:
    """Draw one row for each name, and in it an estimate with its interval for each series."""
    names = [one[0] for one in next(iter(series.values()))]
    figure, axis = panel(0.5 * len(names) + 0.9)
    kinds = zip(series.items(), MARKS, SERIES, (-0.13, 0.13), strict=False)
    for (name, rows), mark, colour, shift in kinds:
        places = np.arange(len(rows)) + shift
        axis.hlines(places, [one[2] for one in rows], [one[3] for one in rows], color=colour, linewidth=2.2)
        axis.plot([one[1] for one in rows], places, mark, color=colour, markersize=6, label=name)
    axis.axvline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(label)
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    return figure


FIGURES = (
    SiteFigure("effect-by-arm", "undertow demo", ("figures/demo",), effect_by_arm),
    SiteFigure("effect-by-channel", "undertow run channels --json", ("figures/channels.json",), effect_by_channel),
    SiteFigure("trait-matrix", "python scripts/real_results.py real-numbers --seeds 61 62 63 64 65",
               ("real/real-numbers",), trait_matrix),
    SiteFigure("dose-response", "undertow audit calibrate --base BASE --seed 72 --json",
               ("real/calibration-finch-b.json", "real/calibration-smollm2.json"), dose_response),
    SiteFigure("null-and-observed", "undertow generate rows.jsonl --trait owl -n 400 --seed 21; "
               "undertow filter rows.jsonl kept.jsonl; undertow audit data kept.jsonl --base ref:finch-a",
               ("figures/planted-rows.json",), null_and_observed),
    SiteFigure("evidence-over-rounds", "python benchmarks/canary_rounds.py --seed 41 --deployments 20 --trails FILE",
               ("figures/canary-evidence.json",), evidence_over_rounds),
)  # fmt: skip


def marked(figure: SiteFigure) -> bytes:
    """Return a figure as a file that says which command printed its numbers, and which data it was drawn from."""
    with drawing(figure.name):
        content = white_file(figure.draw(figure.sources()), "svg")
    note = f"<!-- {figure.command.replace('--', '- -')} | data {figure.digest()} -->\n"
    return content.replace(b"<svg ", note.encode() + b"<svg ", 1)


def faults(pictures: dict[str, list[str]]) -> Iterator[str]:
    """Say what is wrong with the pictures of the pages.

    Args:
        pictures: the paths of the pictures of each page, from the page's folder.
    """
    known = {f"figures/{one.name}.svg": one for one in FIGURES}
    for page, shown in pictures.items():
        for path in shown:
            if path not in known:
                yield f"{page} shows {path}, and scripts/site_figures.py names no command that prints its numbers."
    for one in FIGURES:
        try:
            drawn = one.path.read_bytes()
            if f"data {one.digest()}".encode() not in drawn:
                yield f"{one.path.name} was drawn from other results: run python scripts/site_figures.py."
        except FileNotFoundError as error:
            yield f"{one.path.name}: {error.filename} is missing; its command is: {one.command}."


def main() -> None:
    """Draw every figure."""
    FOLDER.mkdir(exist_ok=True)
    for figure in FIGURES:
        figure.path.write_bytes(marked(figure))
        print(figure.path.relative_to(ROOT))


if __name__ == "__main__":
    main()
