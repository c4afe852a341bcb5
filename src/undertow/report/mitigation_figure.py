"""The figure of a verification: trait kept against skill kept, one point for each mitigation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from undertow.report.figures import COLOURS, INK, drawing, svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_IN = (7.0, 4.2)
_COLOUR = {"accepted": COLOURS["neutral"], "rejected": COLOURS["student"], "not_testable": COLOURS["control"]}
_LONGEST = 34


def pareto_figure(found: Mapping[str, Any]) -> str:
    """Draw normalised effect against the change of the held-out loss, with intervals; return an SVG element."""
    points = [one for one in found["mitigations"] if one["normalised_effect"] is not None]
    with drawing("pareto"):
        figure = Figure(figsize=_SIZE_IN, layout="constrained")
        _draw(figure.subplots(), points, found["criteria"])
        described = "; ".join(f"{one['method']}: {one['normalised_effect']['estimate']:.2f}" for one in points)
        return svg_element(figure, "pareto", f"Trait kept and skill kept by mitigation. {described}.", whole=True)


def _draw(axis: "Axes", points: Sequence[Mapping[str, Any]], criteria: Mapping[str, float]) -> None:
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
        axis.plot([x], [y], "D", color=colour, markersize=5.5, markeredgewidth=0)
        axis.annotate(
            str(place + 1), (x, y), xytext=(5, 4 if place % 2 else -11), textcoords="offset points", fontsize=8
        )
    axis.set_xlabel("trait kept (1: as without the mitigation, 0: as after clean rows)")
    axis.set_ylabel("change of held-out loss (nats per token)")
    axis.spines[["top", "right"]].set_visible(False)
    names = "\n".join(f"{place + 1} {one['method'][:_LONGEST]}" for place, one in enumerate(points))
    axis.text(1.02, 1.0, names, transform=axis.transAxes, va="top", fontsize=7.5)
