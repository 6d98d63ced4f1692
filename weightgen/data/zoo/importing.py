"""A zoo from trained networks of others: a folder of state dictionaries or adapters, and a sentence about each.

Notation: T tasks (sentences), R draws (networks with the same sentence), P weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightgen.data.zoo.alignment_report import AlignmentReport
from weightgen.data.zoo.descriptions import Description, card_description, described, read_descriptions
from weightgen.data.zoo.reader import Zoo
from weightgen.data.zoo.sources import Network, check_like, find_networks, read_network
from weightgen.data.zoo.writer import ZooWriter
from weightgen.errors import InputError
from weightgen.storage.files import StrPath, check_new, written_beside
from weightgen.weights import WeightSpace


def import_zoo(
    folder: StrPath,
    output: StrPath,
    descriptions: StrPath | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    aligned: bool = False,
) -> Zoo:
    """Read trained networks of one architecture, one at a time, and write them as a zoo, which appears whole or not at all.

    Args:
        folder: of safetensors files or PEFT folders, see `sources`.
        output: the zoo to make.
        descriptions: JSONL or CSV; by default each adapter's card describes it.
        dtype: "float32" or "float16".
        trust_remote_code: whether adapters may name code of others; it is not run here.
        aligned: whether networks are aligned with the first one (`alignment`); the facts of the zoo say what that gained.

    Returns:
        The zoo.

    Raises:
        InputError: networks that differ, hold numbers that are not finite, or are not described; or `output` exists.
    """
    check_new(output)
    networks = find_networks(Path(folder), trust_remote_code)
    texts = _texts(networks, descriptions)
    tasks = _tasks(networks, texts)
    places = {name: (t, r) for t, task in enumerate(tasks) for r, name in enumerate(task["names"])}
    first = read_network(networks[0])
    space = WeightSpace(tuple((name, tuple(value.shape)) for name, value in first.items()))
    with written_beside(output) as partial:
        partial.mkdir()
        writer = ZooWriter(partial, space, dtype)
        writer.check_room(len(networks))
        report = AlignmentReport(space) if aligned else None
        for network, weights in _flat(networks, space, first):
            task, draw = places[network.name]
            kept = weights if report is None else report.take(weights)
            writer.append(kept[None], [task], [draw])
        facts: dict[str, Any] = {"made_by": "weightgen zoo import", "networks": len(networks)}
        if networks[0].config:
            facts["adapter_config"] = networks[0].config
        if report is not None:
            facts["alignment"] = report.facts()
        writer.finish(partial, tasks, facts)
    return Zoo.load(output)


def _texts(networks: list[Network], descriptions: StrPath | None) -> dict[str, Description]:
    if descriptions is not None:
        return described([network.name for network in networks], read_descriptions(Path(descriptions)))
    if not networks[0].config:
        raise InputError(
            "state dictionaries have no card: write --descriptions FILE, with name and text of each"
        )
    return {network.name: card_description(network.file.parent, network.name) for network in networks}


def _tasks(networks: list[Network], texts: dict[str, Description]) -> list[dict[str, Any]]:
    """The tasks in the order in which their texts come first: networks with the same text are draws of one task."""
    tasks: dict[str, dict[str, Any]] = {}
    for network in networks:
        found = texts[network.name]
        task = tasks.setdefault(found.text, {"text": found.text, "split": found.split, "names": []})
        if task["split"] != found.split:
            raise InputError(
                f"{found.text[:60]!r} is in two splits, {task['split']} and {found.split}: one text is one task"
            )
        task["names"].append(network.name)
    return list(tasks.values())


def _flat(
    networks: list[Network], space: WeightSpace, first: dict[str, Tensor]
) -> Iterator[tuple[Network, Tensor]]:
    """Each network with its weights (P,) in single precision."""
    for network in networks:
        tensors = read_network(network)
        check_like(network, tensors, networks[0], first)
        yield network, space.flatten({name: value.to(torch.float32) for name, value in tensors.items()})
