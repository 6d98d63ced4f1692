"""What a Meta-VQA data set says about itself: its figures, its card, its histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from weightgen.data.meta_vqa.image_parts import shared_images
from weightgen.data.meta_vqa.rules import Rules, Task
from weightgen.errors import needs

__all__ = ["Origin", "card", "draw_histogram", "figures"]

VQA_LICENCE = "VQA v2 annotations: CC BY 4.0; the COCO images have licences of their own"


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from, for its card.

    Args:
        title: heading of the card.
        description: one paragraph.
        licence: of questions, answers and images.
        licence_id: the same as an identifier of the Hugging Face Hub, such as "cc-by-4.0".
        rules: the rules that made the tasks, or None where the split was given.
        sources: {"name", "bytes", "sha256"} of every file read.
        templates: where the answer templates come from.
    """

    title: str = "Meta-VQA"
    description: str = (
        "Few-shot image classification tasks described by a question, made from VQA v2 after Nava, "
        "Kobayashi et al., "
        '"Meta-Learning via Classifier(-free) Diffusion Guidance" (TMLR 2023).'
    )
    licence: str = VQA_LICENCE
    licence_id: str = "cc-by-4.0"
    rules: Rules | None = None
    sources: Sequence[Mapping[str, str | int]] = ()
    templates: str = "made from the questions"


def figures(splits: Mapping[str, Sequence[Task]], origin: Origin) -> dict[str, Any]:
    """Everything the card shows, as plain JSON."""
    everything = [task for tasks in splits.values() for task in tasks]
    return {
        "title": origin.title,
        "description": origin.description,
        "licence": origin.licence,
        "licence_id": origin.licence_id,
        "templates": origin.templates,
        "splits": {name: _counts(tasks) for name, tasks in splits.items()},
        "all": _counts(everything),
        "shared_images": shared_images(splits),
        "rules": asdict(origin.rules) if origin.rules else None,
        "sources": [dict(source) for source in origin.sources],
    }


def _counts(tasks: Sequence[Task]) -> dict[str, Any]:
    support = [len(task.support_images) for task in tasks]
    query = [len(task.query_images) for task in tasks]
    images = {image for task in tasks for image in (*task.support_images, *task.query_images)}
    return {
        "tasks": len(tasks),
        "meanings": len({task.meaning for task in tasks} - {""}),
        "pairs": sum(support) + sum(query),
        "images": len(images),
        "distinct_answers": len({answer for task in tasks for answer in task.answers}),
        "answers_per_task": _spread([len(task.answers) for task in tasks]),
        "support_per_task": _spread(support),
        "query_per_task": _spread(query),
    }


def _spread(values: Sequence[int]) -> dict[str, float | int]:
    if not values:
        return {"mean": 0, "median": 0, "min": 0, "max": 0}
    return {"mean": fmean(values), "median": median(values), "min": min(values), "max": max(values)}


def card(facts: Mapping[str, Any]) -> str:
    """The dataset card as Markdown, from what `figures` returned."""
    parts = [
        f"# {facts['title']}",
        facts["description"],
        "A row is a task: `question`, `answers` (the classes), `support_images` and `query_images` with "
        "their labels "
        "(indices into `answers`), `template`, a statement with one `{}` in which an answer is embedded, and "
        "`meaning`, the same for questions that ask the same in other words. "
        "Load it with `datasets.load_from_disk` or `weightgen.data.meta_vqa.disk.load_meta_vqa`.",
        _table(facts),
        "Per task: mean (least to most, median). Image names have no file ending.",
        f"**Licence.** {facts['licence']}",
        f"**Answer templates.** {facts['templates']}",
        _meanings(facts["all"]["meanings"]),
        _shared(facts.get("shared_images", {})),
        _rules(facts["rules"]),
        _sources(facts["sources"]),
    ]
    return "\n\n".join(parts) + "\n"


def _table(facts: Mapping[str, Any]) -> str:
    columns: dict[str, Mapping[str, Any]] = {**facts["splits"], "all": facts["all"]}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key in ("tasks", "pairs", "images", "distinct_answers"):
        lines.append(_line(key, [f"{column[key]:,}" for column in columns.values()]))
    for key in ("answers_per_task", "support_per_task", "query_per_task"):
        lines.append(_line(key, [_shown(column[key]) for column in columns.values()]))
    return "\n".join(lines)


def _line(key: str, cells: Sequence[str]) -> str:
    return f"| {key.replace('_', ' ')} | " + " | ".join(cells) + " |"


def _shown(spread: Mapping[str, float]) -> str:
    return f"{spread['mean']:.3f} ({spread['min']}–{spread['max']}, {spread['median']:g})"


def _meanings(number: int) -> str:
    if not number:
        return "**Meanings.** None are known: splits are by question, and two splits may ask the same in other words."
    return f"**Meanings.** {number:,}"


def _shared(shared: Mapping[str, int]) -> str:
    found = {name: count for name, count in shared.items() if count}
    if not found:
        return "**Images.** No image of a held-out task is in a training task."
    counts = ", ".join(f"{count:,} of {name}" for name, count in found.items())
    return (
        f"**Images.** Warning: images of held-out tasks are in training tasks too ({counts}), so held-out accuracy is of known "
        "images. `--split-images` splits images before questions."
    )


def _rules(rules: Mapping[str, Any] | None) -> str:
    if rules is None:
        return "**Rules.** None: the split was given, not made."
    shown = {
        key: ", ".join(value) if isinstance(value, list | tuple) else value for key, value in rules.items()
    }
    return "**Rules.**\n\n| rule | value |\n|---|---|\n" + "\n".join(
        f"| {key} | {value} |" for key, value in shown.items()
    )


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    if not sources:
        return "**Sources.** Not files."
    return "**Sources** (unpacked).\n\n| file | bytes | sha256 |\n|---|---|---|\n" + "\n".join(
        f"| {source['name']} | {source['bytes']:,} | {source['sha256']} |" for source in sources
    )


def draw_histogram(splits: Mapping[str, Sequence[Task]], path: Path) -> None:
    """Draw how many tasks have how many answers, support and query images, as a PNG."""
    import numpy as np

    with needs("plots"):
        from matplotlib.figure import Figure

    panels = {
        "answers": {name: [len(task.answers) for task in tasks] for name, tasks in splits.items()},
        "support images": {
            name: [len(task.support_images) for task in tasks] for name, tasks in splits.items()
        },
        "query images": {name: [len(task.query_images) for task in tasks] for name, tasks in splits.items()},
    }
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, (title, sizes) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        most = max((size for values in sizes.values() for size in values), default=2)
        edges = np.unique(np.geomspace(1, most + 1, 25).round()) - 0.5  # whole numbers fall between edges
        axes.hist(list(sizes.values()), bins=edges, stacked=True, label=list(sizes))
        axes.set(xscale="log", xlabel=f"{title} per task", ylabel="tasks")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, format="png", metadata={"Software": None})
