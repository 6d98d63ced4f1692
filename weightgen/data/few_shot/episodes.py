"""Few-shot episodes from a data set of images: n ways, k shots, q queries and u unlabelled samples per class.

What a step holds is a function of (seed, step) alone. Support and query sets are disjoint, unless the published protocol is asked for,
which draws them one by one from the same images.

Notation: B tasks, N examples; K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.augmentation import Augmentation
from weightgen.errors import InputError, check_range
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples, TaskBatch


class Look(NamedTuple):
    """How the classes of each episode look, with shape (B, ways): quarter turns, and whether mirrored."""

    turns: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


@dataclass
class Episodes:
    """Batches of few-shot tasks.

    A class of an episode takes its label slot at random; where `groups` do not suffice, the classes from outside take the last. Rotations
    are by quarter turns, one for each class slot of an episode, the same for all images of the class in it. That tells classes apart which
    the test must tell apart without: `alike` turns all classes of an episode together.

    Args:
        arrays: the images.
        classes: numbers of the classes to draw from.
        ways: classes in a task.
        shots: labelled support samples per class.
        queries: query samples per class.
        unlabeled: further support samples per class, whose label is hidden.
        batch_size: B.
        seed: of all draws.
        rotate: whether classes are turned.
        mirror: whether half of the classes are mirrored.
        alike: one rotation and mirroring for all classes of an episode.
        groups: if given, the classes of an episode come from so many groups (what stands before the "/" in their names: for Omniglot
            the alphabet) as far as these suffice; they are harder to tell apart.
        overlap: draw the query set without regard to the support set, as the released HyperTransformer code does.
        min_shots: if given, each class has a number of shots drawn from `min_shots` to `shots`; the rest is padding.
        min_queries: likewise for queries.
        mean: pixel value (0 to 255) that becomes 0.
        std: pixel values per unit; 128 and 128 give the -1 to 1 of the released code.
        augment: changes of the images of support and query sets, for training.

    Raises:
        InputError: too few classes or images, or a number that is too small.
    """

    arrays: FewShotArrays
    classes: NDArray[np.int64]
    ways: int = 20
    shots: int = 1
    queries: int = 3
    unlabeled: int = 0
    batch_size: int = 8
    seed: int = 0
    rotate: bool = False
    mirror: bool = False
    alike: bool = False
    groups: int | None = None
    overlap: bool = False
    min_shots: int | None = None
    min_queries: int | None = None
    mean: float = 128.0
    std: float = 128.0
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        least = (self.min_shots, self.min_queries)
        check_range(1e-3, std=self.std)
        if self.groups is not None and self.groups < 1:
            raise InputError(f"expected groups from 1 up, got {self.groups}")
        if min(self.ways, self.shots, self.queries, self.batch_size) < 1 or self.unlabeled < 0:
            raise InputError(
                "expected ways, shots, queries and batch_size from 1 up, and unlabeled from 0 up"
            )
        if self.seed < 0:
            raise InputError(f"expected a seed from 0 up, got {self.seed}")
        for number, most in zip(least, (self.shots, self.queries), strict=True):
            if number is not None and not 1 <= number <= most:
                raise InputError(f"expected min_shots and min_queries from 1 to {most}, got {number}")
        if self.groups is not None and self._group_of.max() == 0:
            raise InputError(
                "groups need classes of more than one: names like Latin/character01, as data/omniglot/prepare.py writes them, "
                f"and the first here is {self.arrays.names[self.classes[0]]!r}; prepare the data again, or leave groups out"
            )
        if len(self.classes) < self.ways:
            raise InputError(f"{self.ways} ways need as many classes, and the split has {len(self.classes)}")
        if self.rotate and self.arrays.images.shape[1] != self.arrays.images.shape[2]:
            raise InputError("only square images can be turned: write rotate=false")
        kept = self.shots + self.unlabeled
        needed = max(kept, self.queries) if self.overlap else kept + self.queries
        fewest = int(self.arrays.counts[self.classes].min())
        if fewest < needed:
            raise InputError(
                f"{needed} images per class are needed and a class has only {fewest}: "
                "lower shots, unlabeled or queries"
            )

    def batch(self, step: int, device: torch.device | str | None = None) -> TaskBatch:
        """The B tasks of a step."""
        return next(self.batches(step, device))

    def batches(self, step: int, device: torch.device | str | None = None) -> Iterator[TaskBatch]:
        """The B tasks of a step again and again, with query sets that are drawn anew; the first is `batch(step)`."""
        rng = np.random.default_rng([self.seed, step])
        keys = rng.random((self.batch_size, len(self.classes)))
        order = (keys + self._outside(rng)).argsort(axis=1)
        chosen = self.classes[order[:, : self.ways]]  # (B, ways)
        kept = self.shots + self.unlabeled
        draws = self._draw(rng, chosen)
        rows = draws[:, :, :kept]
        rest = self._draw(rng, chosen) if self.overlap else draws[:, :, kept:]
        look = self._look(rng, (self.batch_size, self.ways))
        support_labels = self._labels(rng, kept, self.min_shots, self.shots)
        support_labels[:, :, self.shots :][support_labels[:, :, self.shots :] >= 0] = UNLABELED
        support = self._examples(rows, support_labels, look, rng, device)
        while True:
            labels = self._labels(rng, self.queries, self.min_queries, self.queries)
            query = self._examples(rest[:, :, : self.queries], labels, look, rng, device)
            embeds = torch.zeros(self.batch_size, 0, device=device)
            yield TaskBatch(support=support, query=query, embeds=embeds, context={})
            rest = self._draw(rng, chosen, None if self.overlap else rows)

    @cached_property
    def _group_of(self) -> NDArray[np.int64]:
        names = [self.arrays.names[k].rpartition("/")[0] for k in self.classes]
        return np.unique(names, return_inverse=True)[1]

    def _outside(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which classes are outside the groups of each episode, with shape (B, classes)."""
        if self.groups is None:
            return np.zeros((1, 1), dtype=np.bool_)
        count = int(self._group_of.max()) + 1
        rank = rng.random((self.batch_size, count)).argsort(axis=1).argsort(axis=1)
        return rank[:, self._group_of] >= self.groups

    def _draw(
        self, rng: np.random.Generator, chosen: NDArray[np.int64], apart: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Rows of the images of each chosen class in a random order, with shape (B, ways, images of the largest class).

        The rows `apart` (B, ways, N) come last.
        """
        counts = self.arrays.counts[chosen]
        keys = rng.random((*chosen.shape, int(counts.max())))
        keys[np.arange(keys.shape[2]) >= counts[..., None]] = 2.0
        if apart is not None:
            np.put_along_axis(keys, apart - self.arrays.starts[chosen][..., None], 2.0, axis=2)
        return self.arrays.starts[chosen][..., None] + keys.argsort(axis=2)

    def _labels(
        self, rng: np.random.Generator, count: int, least: int | None, most: int
    ) -> NDArray[np.int64]:
        """Slots with shape (B, ways, count); where a class has fewer than `most`, the difference is padding."""
        shape = (self.batch_size, self.ways, count)
        labels = np.broadcast_to(np.arange(self.ways)[:, None], shape).copy()
        if least is not None:
            kept = rng.integers(least, most + 1, size=shape[:2])
            place = np.arange(count)
            labels[(place >= kept[..., None]) & (place < most)] = PADDING_LABEL
        return labels

    def _look(self, rng: np.random.Generator, shape: tuple[int, int]) -> Look:
        """How each class slot is turned and mirrored."""
        drawn = (shape[0], 1) if self.alike else shape
        turns = np.broadcast_to(rng.integers(4, size=drawn) * self.rotate, shape)
        return Look(turns, np.broadcast_to((rng.random(drawn) < 0.5) & self.mirror, shape))

    def _examples(
        self,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        look: Look,
        rng: np.random.Generator,
        device: torch.device | str | None,
    ) -> Examples:
        images = self.arrays.images[rows]  # (B, ways, count, H, W, channels)
        for turn in (1, 2, 3):
            where = look.turns == turn
            if where.any():
                images[where] = np.rot90(images[where], turn, axes=(2, 3))
        images[look.mirrored] = images[look.mirrored][..., ::-1, :]
        pixels = torch.from_numpy(images).to(device).flatten(1, 2).movedim(-1, 2).float()
        if self.augment is not None:
            pixels = 255 * self.augment.change(pixels / 255, rng)
        return Examples((pixels - self.mean) / self.std, _tensor(labels, device))


def _tensor(labels: NDArray[np.int64], device: torch.device | str | None) -> Tensor:
    return torch.from_numpy(labels).to(device).flatten(1)
