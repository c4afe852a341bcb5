"""The figure of the theorem: how the error falls with epsilon, and what happens beyond the theorem."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from undertow.report.figures import COLOURS, INK, drawing, svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"same": COLOURS["student"], "other": COLOURS["cross_init"]}
_MARKERS = "osD"


def theorem_figure(results: Mapping[str, Any]) -> str:
    """Draw the relative error of the prediction by epsilon, and the shares of the variants; return an SVG element."""
    with drawing("undertow-theorem"):
        figure = Figure(figsize=(7.0, 3.8), layout="constrained")
        errors, shares = figure.subplots(1, 2, width_ratios=(1.0, 1.1))
        _errors(errors, results["by_epsilon"])
        _shares(shares, results["variants"])
        description = (
            "Error of the prediction by size of the teacher's step; share of networks that take the trait over"
        )
        return svg_element(figure, "theorem", description, whole=True)


def _errors(axis: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    for marker, name in zip(_MARKERS, dict.fromkeys(row["student_loss"] for row in rows), strict=False):
        own = [row for row in rows if row["student_loss"] == name]
        epsilons = [row["epsilon"] for row in own]
        axis.plot(epsilons, [row["relative_error_median"] for row in own], marker=marker, label=name.replace("_", " "))
    span = sorted({row["epsilon"] for row in rows})
    axis.plot(span, span, linestyle="--", linewidth=1, color=INK, label="error = epsilon")
    axis.set(xscale="log", yscale="log", xlabel="epsilon (teacher's step)", ylabel="median relative error")
    axis.set_xticks(span)
    axis.minorticks_off()
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)


def _shares(axis: "Axes", variants: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(one["name"] for one in variants))
    for one in variants:
        place = len(names) - names.index(one["name"]) + (0.15 if one["initialisation"] == "same" else -0.15)
        colour = _COLOURS[one["initialisation"]]
        axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=3)
        axis.plot(one["share"], place, marker="D", markersize=6, color=colour)
    for name, colour in _COLOURS.items():
        axis.plot([], [], color=colour, linewidth=3, label=f"{name} initialisation")
    axis.axvline(0.5, color=INK, linestyle="--", linewidth=1)
    axis.set(xlim=(-0.02, 1.02), ylim=(0.4, len(names) + 0.6), xlabel="share of networks")
    axis.set_yticks([len(names) - place for place in range(len(names))], [name.replace(", ", ",\n") for name in names])
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
