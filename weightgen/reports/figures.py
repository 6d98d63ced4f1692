"""A report as people read it: a table, a bar chart, a guidance curve, a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

# after Paul Tol, whose colours can be told apart by eyes that see few of them; and black
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#000000")
GROUPS = {"zero_shot": "random questions", "novel_composition": "novel compositions"}


def flat_rows(group: Mapping[str, Any]) -> dict[str, float]:
    """One level of rows: {"hvae_hyperldm": {"1.5": x}} becomes {"hvae_hyperldm, scale 1.5": x}; `micro` and `std` are left out."""
    rows: dict[str, float] = {}
    for name, value in group.items():
        if name in ("micro", "std"):
            continue
        if isinstance(value, Mapping):
            rows |= {f"{name}, scale {scale}": float(number) for scale, number in value.items()}
        else:
            rows[name] = float(value)
    return rows


def markdown_table(report: Mapping[str, Any]) -> str:
    """Accuracy in percent of every row, per kind of test task."""
    columns = {
        name: {
            **flat_rows(report[name]),
            "few-shot mnet_maml": report["few_shot"]["mnet_maml" if name == "zero_shot" else name],
        }
        for name in GROUPS
    }
    spread = {name: flat_rows(report[name].get("std", {})) for name in GROUPS}
    lines = ["| | " + " | ".join(GROUPS.values()) + " |", "|---|---|---|"]
    for row in columns["zero_shot"]:
        cells = []
        for name in GROUPS:
            text = f"{100 * columns[name][row]:.1f}"
            cells.append(text + (f" ± {100 * spread[name][row]:.1f}" if row in spread[name] else ""))
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_bars(report: Mapping[str, Any], path: Path) -> None:
    """Bar chart of the accuracies of both kinds of test task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True)
    figure.suptitle("Scenes (synthetic)")
    for axis, (name, title) in zip(axes, GROUPS.items(), strict=True):
        few_shot = report["few_shot"]["mnet_maml" if name == "zero_shot" else name]
        rows = {**flat_rows(report[name]), "few-shot mnet_maml": few_shot}
        axis.barh(list(rows)[::-1], [100 * value for value in rows.values()][::-1], color="#4477aa")
        axis.set(title=title, xlabel="accuracy (%)")
    figure.tight_layout()
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def draw_guidance(curve: Mapping[str, float], path: Path) -> None:
    """Accuracy on validation tasks against the guidance scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    axis.plot([float(scale) for scale in curve], [100 * value for value in curve.values()], "o-")
    axis.set(xlabel="guidance scale", ylabel="accuracy (%)", title="HVAE + HyperLDM, validation tasks")
    figure.tight_layout()
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def draw_curves(
    curves: Mapping[str, Mapping[str, Mapping[str, Any]]],
    lines: Mapping[str, Mapping[str, Any]],
    path: Path,
    xlabel: str,
    title: str,
) -> None:
    """Accuracy, with its standard deviation as error bars, along a few evenly spaced places.

    Args:
        curves: label → place → {"mean", "std"}; all curves have the same places.
        lines: label → {"mean"}: numbers to compare with, drawn across. As many as there are curves get the colours of those.
        path: the PNG.
        xlabel: what the places are.
        title: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 5))
    places = list(next(iter(curves.values())))
    handles = []
    for number, (label, curve) in enumerate(curves.items()):
        # Side by side, so that error bars do not hide each other.
        offset = 0.03 * (number - (len(curves) - 1) / 2)
        means = [100 * curve[place]["mean"] for place in places]
        bars = [100 * (curve[place]["std"] or 0.0) for place in places]
        xs = [x + offset for x in range(len(places))]
        look = {"color": COLOURS[number % 8], "marker": "osD^v<>P"[number % 8]}
        handles.append(axis.errorbar(xs, means, bars, label=label, capsize=3, **look))
    for number, (label, value) in enumerate(lines.items()):
        if number < len(curves) <= len(lines):
            style = {"color": COLOURS[number % 8], "linestyle": "--"}
        else:
            style = {"color": "0.5", "linestyle": (":", "-.")[number % 2]}
        handles.append(axis.axhline(100 * value["mean"], label=label, linewidth=1.2, **style))
    axis.set_xticks(range(len(places)), places)
    axis.set(xlabel=xlabel, ylabel="accuracy (%)", title=title)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def contact_sheet(
    images: Sequence[Image.Image], answers: Sequence[str], truths: Sequence[str], title: str, columns: int = 6
) -> Image.Image:
    """Pictures with the classifier's answer below each: green where right, red with the truth where wrong."""
    side, line, top = 128, 34, 40
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + 8) + 8, top + rows * (side + line)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), title, fill="black")
    for number, (image, answer, truth) in enumerate(zip(images, answers, truths, strict=True)):
        x, y = 8 + number % columns * (side + 8), top + number // columns * (side + line)
        sheet.paste(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (x, y))
        right = answer == truth
        draw.text(
            (x, y + side + 2),
            answer if right else f"{answer}\n({truth})",
            fill="#117733" if right else "#cc3311",
        )
    return sheet
