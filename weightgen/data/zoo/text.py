"""A zoo described in a few lines."""

from __future__ import annotations

from collections import Counter

from weightgen.data.zoo.reader import Zoo

SHOWN = 8  # layers and texts of a description


def zoo_text(zoo: Zoo) -> str:
    """What there is in a zoo: networks, tasks, draws, layers, and the first texts."""
    index, tasks = zoo.index, zoo.tasks()
    size = sum(shard.bytes for shard in index.shards) / 1e6
    draws = sorted(set(zoo.counts.tolist()))
    each = str(draws[0]) if len(draws) == 1 else f"{draws[0]} to {draws[-1]}"
    lines = [
        f"a zoo of {index.rows:,} networks with {zoo.space.size:,} weights: {index.tasks:,} tasks, {each} of each",
        f"{index.dtype}, {size:,.1f} MB in {len(index.shards)} files",
    ]
    for key, value in index.facts.items():
        if key == "alignment" and isinstance(value, dict):
            lines += [f"alignment, {name.replace('_', ' ')}: {found}" for name, found in value.items()]
            continue
        lines.append(f"{key}: {str(value)[:100]}")
    layers = zoo.space.shapes
    lines += [f"layer {name} {'x'.join(map(str, shape)) or 'number'}" for name, shape in layers[:SHOWN]]
    if len(layers) > SHOWN:
        lines.append(f"and {len(layers) - SHOWN} more layers")
    if tasks:
        splits = Counter(task.get("split", "train") for task in tasks)
        lines.append("splits: " + ", ".join(f"{count} {name}" for name, count in splits.items()))
        lines += [f"- {task['text'][:100]}" for task in tasks[:SHOWN]]
    return "\n".join(lines)
