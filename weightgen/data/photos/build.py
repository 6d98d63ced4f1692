"""Tasks from questions and photos: photos are split first, then every question draws from its split's photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from weightgen.data.meta_vqa.rules import Task
from weightgen.data.photos.cifar import Photo
from weightgen.data.photos.splits import Asked
from weightgen.errors import InputError

__all__ = ["Sizes", "answer_alone", "build_photo_tasks", "photo_pools"]

Pool = dict[str, list[str]]
"""Names of the photos of each class."""


@dataclass(frozen=True)
class Sizes:
    """How many photos there are.

    Args:
        train_photos: of each class, from CIFAR-100's training photos, for training tasks.
        validation_photos: likewise for validation tasks.
        test_photos: of each class, from CIFAR-100's test photos, for the four kinds of test tasks.
        support: photos of a task's support set, over all answers.
        query: photos of its query set.
    """

    train_photos: int = 80
    validation_photos: int = 24
    test_photos: int = 40
    support: int = 48
    query: int = 48

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or value < 2:
                raise InputError(f"{name} must be a whole number of at least 2, got {value!r}")


DEFAULTS = Sizes()


def answer_alone(_: str) -> str:
    """The template of every question where answers are embedded alone, so that only weights can know the question."""
    return "{}"


def photo_pools(photos: Sequence[Photo], sizes: Sizes = DEFAULTS) -> dict[str, Pool]:
    """Split photos by class into train, validation and test; no photo is in two.

    Photos are taken in the order of their names, which are random: they hold a digest of the pixels.

    Raises:
        InputError: a class has too few photos.
    """
    of_class: dict[str, dict[str, list[str]]] = {}
    for photo in sorted(photos):
        of_class.setdefault(photo.class_name, {}).setdefault(photo.part, []).append(photo.name)
    pools: dict[str, Pool] = {"train": {}, "validation": {}, "test": {}}
    first, second = sizes.train_photos, sizes.train_photos + sizes.validation_photos
    for name, parts in of_class.items():
        for part, needed in (("train", second), ("test", sizes.test_photos)):
            got = len(parts.get(part, []))
            if got < needed:
                raise InputError(f"class {name!r} has {got} {part} photos; expected at least {needed}")
        pools["train"][name] = parts["train"][:first]
        pools["validation"][name] = parts["train"][first:second]
        pools["test"][name] = parts["test"][: sizes.test_photos]
    return pools


def build_photo_tasks(
    splits: Mapping[str, Sequence[Asked]],
    pools: Mapping[str, Pool],
    sizes: Sizes = DEFAULTS,
    seed: int = 2023,
    template_of: Callable[[str], str] = answer_alone,
) -> dict[str, list[Task]]:
    """Make a task of every question; answers get about equally many photos, and so do the classes of an answer.

    Args:
        splits: what is asked in each split, from `plan_splits`.
        pools: from `photo_pools`; "train" draws from train, "validation…" from validation, the rest from test.
        sizes: see `Sizes`.
        seed: of the choice of photos.
        template_of: gives a question's statement with one `{}`.
    """
    tasks = {}
    for name, asked in splits.items():
        pool = pools[
            "train" if name == "train" else "validation" if name.startswith("validation") else "test"
        ]
        # The validation union repeats the tasks of its parts, photo by photo: the split's name is no seed.
        tasks[name] = [
            _task(each, pool, sizes, Random(f"{seed} {each.question} {sorted(each.classes)}"), template_of)
            for each in asked
        ]
    return tasks


def _task(asked: Asked, pool: Pool, sizes: Sizes, random: Random, template_of: Callable[[str], str]) -> Task:
    support: list[tuple[str, int]] = []
    query: list[tuple[str, int]] = []
    share = sizes.support / (sizes.support + sizes.query)
    quota = -(-(sizes.support + sizes.query) // len(asked.classes))
    for label, classes in enumerate(asked.classes.values()):
        drawn = _drawn([random.sample(pool[name], len(pool[name])) for name in classes], quota, random)
        cut = min(max(round(share * len(drawn)), 1), len(drawn) - 1)
        support += [(name, label) for name in drawn[:cut]]
        query += [(name, label) for name in drawn[cut:]]
    return Task(
        question=asked.question,
        answers=list(asked.classes),
        support_images=[name for name, _ in support],
        support_labels=[label for _, label in support],
        query_images=[name for name, _ in query],
        query_labels=[label for _, label in query],
        template=template_of(asked.question),
        meaning="/".join(asked.meaning),
    )


def _drawn(piles: list[list[str]], count: int, random: Random) -> list[str]:
    """Up to `count` names, one from each pile in turn, in random order."""
    rounds = max(map(len, piles))
    turns = [pile[i] for i in range(rounds) for pile in random.sample(piles, len(piles)) if i < len(pile)]
    drawn = turns[:count]
    return random.sample(drawn, len(drawn))
