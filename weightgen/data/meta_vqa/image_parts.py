"""Which images are whose: images split before questions, so that no image of a test task is in a training task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["image_part", "images_of_part", "shared_images"]


class _HasImages(Protocol):
    @property
    def support_images(self) -> list[str]: ...
    @property
    def query_images(self) -> list[str]: ...


def image_part(image: str, task_fraction: float, validation_fraction: float, seed: int) -> str:
    """The split of an image, by a hash of its name: the same in every question, and whatever other images there are.

    Args:
        image: its name.
        task_fraction: share of the images for training and validation; the rest is for test tasks.
        validation_fraction: share of the former for validation tasks.
        seed: of the hash.

    Returns:
        "train", "validation" or "test".
    """
    digest = hashlib.sha256(f"{seed} {image}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place >= task_fraction:
        return "test"
    return "validation" if place < task_fraction * validation_fraction else "train"


def images_of_part(
    images_of_answer: Mapping[str, Sequence[str]],
    part: str,
    task_fraction: float,
    validation_fraction: float,
    seed: int,
) -> dict[str, list[str]]:
    """Of the images of each answer, those of one part; answers that keep none stay, with an empty list."""
    return {
        answer: [
            each for each in images if image_part(each, task_fraction, validation_fraction, seed) == part
        ]
        for answer, images in images_of_answer.items()
    }


def shared_images(splits: Mapping[str, Sequence[_HasImages]]) -> dict[str, int]:
    """How many images of each other split are in training tasks too; nothing where there is no split "train"."""
    if "train" not in splits:
        return {}
    images = {
        name: {image for task in tasks for image in (*task.support_images, *task.query_images)}
        for name, tasks in splits.items()
    }
    return {name: len(found & images["train"]) for name, found in images.items() if name != "train"}
