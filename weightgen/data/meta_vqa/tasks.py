"""Meta-VQA tasks with their features: tensors only, whole batches by a few indexing operations.

Notation: B tasks, N examples, C answers, E embedding (of images and answers, or of questions).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from weightgen.data.features.store import FeatureStore
from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.errors import InputError
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch

if TYPE_CHECKING:
    import datasets

__all__ = ["Fewest", "MetaVQATasks", "too_small"]

PARTS = ("support", "query")


class Fewest(NamedTuple):
    """What a task must keep when images of it could not be read; the defaults are Meta-VQA's rules.

    Attributes:
        examples: support and query images, together.
        answers: answers that at least one of its images has.
    """

    examples: int = 21
    answers: int = 2


DEFAULT_FEWEST = Fewest()


class MetaVQATasks(Dataset[TaskBatch]):
    """One split of Meta-VQA, joined with its features.

    An item is one task: support and query with raw image embeddings (N, E) and labels (N,), `embeds` the raw
    embedding of the question (E,), and as context `answers` (C, E) and `answer_mask` (C,), as `CLIPAdapter`
    takes them. `batch` gives what `collate` makes of the items, in a few operations.

    Left out are images that could not be read when the features were made, and tasks too small for it.

    Args:
        split: rows of Meta-VQA.
        store: features of the images, questions and answers of these rows.
        device: where the tensors lie.

    Attributes:
        questions: the question of each task.
        answers: the answers of each task, in the order of the labels.
        sizes: the number of examples of each task, support and query together.
        kept: the row in `split` of each task.

    Raises:
        InputError: a row names something that has no features.
    """

    def __init__(
        self, split: datasets.Dataset, store: FeatureStore, device: str | torch.device = "cpu"
    ) -> None:
        import pyarrow as pa

        small = set(too_small(split, store.failed, Fewest(**store.index.get("fewest", {}))))
        self.kept = [row for row in range(split.num_rows) if row not in small]
        table = split.with_format("arrow")[:].take(pa.array(self.kept, pa.int64()))
        self.questions: list[str] = table["question"].to_pylist()
        self.answers: list[list[str]] = table["answers"].to_pylist()
        templates = table["template"].to_pylist()
        texts = [answer_texts(*pair) for pair in zip(templates, self.answers, strict=True)]
        parts = {part: _rows(table, part, store) for part in PARTS}
        self.sizes: list[int] = sum(rows.starts.diff() for rows in parts.values()).tolist()  # type: ignore[union-attr]

        used = torch.cat([rows.images for rows in parts.values()]).unique()
        self._images = store.embeds("images", used).float().to(device)
        self._parts = {
            part: rows._replace(images=torch.searchsorted(used, rows.images)).to(device)
            for part, rows in parts.items()
        }
        self._questions = _embeds(store, "questions", self.questions).to(device)
        self._answers = _embeds(store, "answers", [text for task in texts for text in task]).to(device)
        self._answer_starts = torch.tensor([0, *map(len, texts)]).cumsum(0).to(device)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> TaskBatch:
        batch = self.batch([range(len(self))[index]])
        support, query = (Examples(part.inputs[0], part.labels[0]) for part in batch[:2])
        return TaskBatch(
            support, query, batch.embeds[0], {key: value[0] for key, value in batch.context.items()}
        )

    def with_templates(
        self, template_of: Callable[[str], str], embed: Callable[[Sequence[str]], Tensor]
    ) -> MetaVQATasks:
        """The same tasks with their answers embedded in other statements.

        Args:
            template_of: question → statement with one `{}`.
            embed: M texts → embeddings (M, E).

        Raises:
            InputError: a statement without `{}`.
        """
        pairs = zip(self.questions, self.answers, strict=True)
        texts = [text for question, answers in pairs for text in answer_texts(template_of(question), answers)]
        other = copy.copy(self)
        other._answers = embed(texts).float().to(self._answers.device)
        return other

    def check_questions(self) -> None:
        """Refuse tasks without a question, of which conditional methods would know nothing.

        Raises:
            InputError: naming the first such task.
        """
        bare = [row for row, question in zip(self.kept, self.questions, strict=True) if not question.strip()]
        if bare:
            raise InputError(
                f"task {bare[0]} has no question: a conditional method needs one for each of its tasks"
            )

    def batch(self, tasks: Sequence[int] | Tensor | None = None) -> TaskBatch:
        """Put tasks into one batch, padded as `weightgen.tasks.collate` does it.

        Args:
            tasks: the numbers of B tasks; all of them by default, as one batch.

        Returns:
            Inputs (B, N, E), labels (B, N), embeds (B, E), answers (B, C, E) and answer_mask (B, C).
        """
        index = torch.as_tensor(range(len(self)) if tasks is None else tasks).to(self._images.device)
        positions, mask = _padded(self._answer_starts, index)
        answers = self._answers[positions].masked_fill_(~mask[..., None], 0)
        return TaskBatch(
            support=self._examples("support", index),
            query=self._examples("query", index),
            embeds=self._questions[index],
            context={"answers": answers, "answer_mask": mask},
        )

    def _examples(self, part: str, index: Tensor) -> Examples:
        images, labels, starts = self._parts[part]
        positions, mask = _padded(starts, index)
        inputs = self._images[images[positions]].masked_fill_(~mask[..., None], 0)
        return Examples(inputs, labels[positions].masked_fill_(~mask, PADDING_LABEL))


def too_small(
    split: datasets.Dataset, failed: Mapping[str, str], fewest: Fewest = DEFAULT_FEWEST
) -> list[int]:
    """Find the tasks that lose images and then are too small.

    Args:
        split: rows of Meta-VQA.
        failed: the names of the images that cannot be read.
        fewest: what a task must keep; besides, one support and one query image.

    Returns:
        The numbers of those rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not failed:
        return []
    table = split.with_format("arrow")[:]
    names = pa.array(failed, pa.string())
    left = {part: torch.zeros(len(table), dtype=torch.long) for part in PARTS}
    lost = torch.zeros(len(table), dtype=torch.bool)
    answers: list[Tensor] = []
    for part in PARTS:
        flat, labels, starts = _columns(table, part)
        gone = torch.from_numpy(pc.is_in(flat, value_set=names).to_numpy().astype(bool))
        task = torch.repeat_interleave(starts.diff())
        left[part] = torch.bincount(task[~gone], minlength=len(table))
        lost[task[gone]] = True
        answers.append(torch.stack([task[~gone], labels[~gone]]))
    different = torch.bincount(torch.cat(answers, 1).unique(dim=1)[0], minlength=len(table))
    total, least = left["support"] + left["query"], torch.minimum(left["support"], left["query"])
    small = (total < fewest.examples) | (different < fewest.answers) | (least == 0)
    return (lost & small).nonzero().flatten().tolist()


class _Rows(NamedTuple):
    """The examples of all tasks end to end; task b has those from `starts[b]` to `starts[b + 1]`."""

    images: Tensor
    labels: Tensor
    starts: Tensor

    def to(self, device: str | torch.device) -> _Rows:
        return _Rows(*(tensor.to(device) for tensor in self))


def _padded(starts: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, N) of the tasks' rows, and where they are real (B, N)."""
    sizes = starts[tasks + 1] - starts[tasks]
    steps = torch.arange(int(sizes.max()), device=tasks.device)
    mask = steps < sizes[:, None]
    return torch.where(mask, starts[tasks, None] + steps, 0), mask


def _columns(table: Any, part: str) -> tuple[Any, Tensor, Tensor]:
    """Image names (an Arrow array), labels and starts of one part of all tasks, end to end."""
    import pyarrow.compute as pc

    images, labels = table[f"{part}_images"], table[f"{part}_labels"]
    lengths = torch.from_numpy(pc.list_value_length(images).to_numpy().astype("int64"))
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    return (
        pc.list_flatten(images),
        torch.from_numpy(pc.list_flatten(labels).to_numpy().astype("int64")),
        starts,
    )


def _rows(table: Any, part: str, store: FeatureStore) -> _Rows:
    """Translate image names into rows of the store, without those that could not be read."""
    names, labels, starts = _columns(table, part)
    rows = store.rows("images", names)
    unknown = set(names.filter((rows < 0).numpy()).to_pylist()) - set(store.failed)
    if unknown:
        raise InputError(f"{store.folder} has no features of {_some(unknown)}: {AGAIN}")
    kept = rows >= 0
    starts = torch.cat([torch.zeros(1, dtype=torch.long), kept.cumsum(0)])[starts]
    return _Rows(rows[kept], labels[kept], starts)


def _embeds(store: FeatureStore, kind: str, texts: Sequence[str]) -> Tensor:
    rows = store.rows(kind, texts)
    if (rows < 0).any():
        unknown = {text for text, row in zip(texts, rows.tolist(), strict=True) if row < 0}
        raise InputError(f"{store.folder} has no features of {_some(unknown)}: {AGAIN}")
    return store.embeds(kind, rows).float()


AGAIN = "they were made for another version of the data set, run embed_clip again"


def _some(names: set[str]) -> str:
    return f"{min(names)!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
