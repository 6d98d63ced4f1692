"""Figures of results: bars, and curves with error bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from weightgen.errors import needs
from weightgen.reports.tables import title_of
from weightgen.storage.files import StrPath, written_beside

# Colours after Paul Tol, which people with colour blindness can tell apart; and black.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#000000")
MARKERS = "osD^v<>P"


@contextmanager
def saved_figure(path: StrPath, columns: int = 1, size: tuple[float, float] = (9, 5)) -> Iterator[Any]:
    """Yield matplotlib's axes (a list of them where there are several columns), and save the figure as the PNG `path`."""
    with needs("plots"):
        import matplotlib

    matplotlib.use("Agg")
    with needs("plots"):
        from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=size, sharex=columns > 1)
    try:
        yield axes
        figure.tight_layout()
        with written_beside(path, overwrite=True) as partial:
            figure.savefig(partial, dpi=110, format="png")
    finally:
        plt.close(figure)


def draw_bars(groups: Mapping[str, Mapping[str, float]], path: StrPath) -> None:
    """Draw one bar chart of accuracies per group.

    Args:
        groups: group, such as a split → row → accuracy; all groups have the same rows.
        path: the PNG.
    """
    height = 1 + 0.3 * len(next(iter(groups.values())))
    with saved_figure(path, len(groups), (3 + 4 * len(groups), max(height, 3.0))) as axes:
        for axis, (group, rows) in zip(axes if len(groups) > 1 else [axes], groups.items(), strict=True):
            axis.barh(list(rows)[::-1], [100 * value for value in rows.values()][::-1], color=COLOURS[0])
            axis.set(title=title_of(group), xlabel="accuracy (%)")


def draw_curves(
    curves: Mapping[str, Mapping[str, Mapping[str, Any]]],
    lines: Mapping[str, Mapping[str, Any]],
    path: StrPath,
    xlabel: str,
    title: str,
    paired: bool = False,
) -> None:
    """Draw accuracies, with their standard deviations as error bars, at evenly spaced places.

    Args:
        curves: label → place → {"mean", "std"}; all curves have the same places.
        lines: label → {"mean"}: numbers to compare with, drawn across.
        path: the PNG.
        xlabel: what the places are.
        title: of the figure.
        paired: the first lines belong to the curves, in their order, and have their colours.
    """
    places = list(next(iter(curves.values())))
    with saved_figure(path) as axis:
        handles = [
            _draw_curve(axis, number, len(curves), label, curve)
            for number, (label, curve) in enumerate(curves.items())
        ]
        for number, (label, value) in enumerate(lines.items()):
            if paired and number < len(curves):
                style = {"color": COLOURS[number % 8], "linestyle": "--"}
            else:
                style = {"color": "0.5", "linestyle": (":", "-.")[number % 2]}
            handles.append(axis.axhline(100 * value["mean"], label=label, linewidth=1.2, **style))
        axis.set_xticks(range(len(places)), places)
        axis.set(xlabel=xlabel, ylabel="accuracy (%)", title=title)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def draw_points(points: Mapping[str, tuple[float, float]], path: StrPath, xlabel: str, title: str) -> None:
    """Draw accuracies against something else, one named point for each row.

    Args:
        points: label → (place, accuracy).
        path: the PNG.
        xlabel: what the places are.
        title: of the figure.
    """
    with saved_figure(path) as axis:
        for number, (label, (x, y)) in enumerate(points.items()):
            look = {"color": COLOURS[number % 8], "marker": MARKERS[number % 8]}
            axis.plot(x, 100 * y, linestyle="none", label=label, markersize=9, **look)
        axis.set(xlabel=xlabel, ylabel="accuracy (%)", title=title)
        axis.grid(alpha=0.3)
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _draw_curve(
    axis: Any, number: int, count: int, label: str, curve: Mapping[str, Mapping[str, Any]]
) -> Any:
    # Curves lie side by side, so that their error bars do not hide each other.
    xs = [x + 0.03 * (number - (count - 1) / 2) for x in range(len(curve))]
    means = [100 * value["mean"] for value in curve.values()]
    bars = [100 * (value["std"] or 0.0) for value in curve.values()]
    look = {"color": COLOURS[number % 8], "marker": MARKERS[number % 8]}
    return axis.errorbar(xs, means, bars, label=label, capsize=3, **look)
