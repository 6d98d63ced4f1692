"""Meta-VQA tasks with their features: tensors only, whole batches by a few indexing operations.

Notation: B tasks, N examples, C answers, E embedding (of images and answers, or of questions).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from weightgen.data.features.store import FeatureStore, find_features
from weightgen.data.meta_vqa.checks import check_finite_rows, check_rows
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.rows import PARTS, drawn, padded, ragged, rows_of, text_embeds
from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.data.meta_vqa.unreadable import Fewest, too_small
from weightgen.errors import InputError, check_sizes, needs
from weightgen.storage.files import StrPath
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch

if TYPE_CHECKING:
    import datasets

__all__ = ["MetaVQATasks", "load_tasks"]


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
        store: the features.
        device: where the tensors lie.
        questions: the question of each task.
        answers: the answers of each task, in the order of the labels.
        templates: the statement of each task in which its answers are embedded, with one `{}`.
        meanings: what the question of each task asks, in whatever words; empty texts where that is not known.
        sizes: the number of examples of each task, support and query together.
        kept: the row in `split` of each task.

    Raises:
        InputError: a row names something that has no features, a feature is not finite, or a task is damaged (see `checks`).
    """

    def __init__(
        self, split: datasets.Dataset, store: FeatureStore, device: str | torch.device = "cpu"
    ) -> None:
        with needs("train"):
            import pyarrow as pa

        self.store, self.device = store, torch.device(device)
        small = set(too_small(split, store.failed, Fewest(**store.index.get("fewest", {}))))
        self.kept = [row for row in range(split.num_rows) if row not in small]
        table = split.with_format("arrow")[:].take(pa.array(self.kept, pa.int64()))
        check_rows(table, self.kept)
        self.questions: list[str] = table["question"].to_pylist()
        self.answers: list[list[str]] = table["answers"].to_pylist()
        self.templates: list[str] = table["template"].to_pylist()
        named = "meaning" in table.column_names
        self.meanings: list[str] = table["meaning"].to_pylist() if named else [""] * len(self.questions)
        texts = [answer_texts(*pair) for pair in zip(self.templates, self.answers, strict=True)]
        parts = {part: rows_of(table, part, store) for part in PARTS}
        self.sizes: list[int] = sum(rows.starts.diff() for rows in parts.values()).tolist()  # type: ignore[union-attr]

        used = torch.cat([rows.images for rows in parts.values()]).unique()
        # In the type of the store: token features in single precision would take twice the memory.
        images = store.embeds("images", used)
        names = store.names("images")
        check_finite_rows(images, [names[row] for row in used.tolist()], "image")
        self._images = images.to(device)
        self._parts = {
            part: rows._replace(images=torch.searchsorted(used, rows.images)).to(device)
            for part, rows in parts.items()
        }
        known = {"questions": self.questions, "answers": [text for task in texts for text in task]}
        embeds = {kind: text_embeds(store, kind, names) for kind, names in known.items()}
        for kind, rows_embeds in embeds.items():
            check_finite_rows(rows_embeds, known[kind], kind.removesuffix("s"))
        self._questions, self._answers = (embeds[kind].to(device) for kind in ("questions", "answers"))
        self._answer_starts = torch.tensor([0, *map(len, texts)]).cumsum(0).to(device)

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def network_options(self) -> dict[str, int]:
        """Arguments of a base network that follow from the data."""
        return {"embed_dim": self.store.dim("images")}

    def describe(self, task: int) -> str:
        """A task by its row in the split and its question, for messages."""
        return f"task {self.kept[task]} ({self.questions[task]!r:.80})"

    @property
    def embeds(self) -> Tensor:
        """The embeddings of the tasks' questions, with shape (T, E)."""
        return self._questions

    @property
    def template(self) -> str | None:
        """The template of all tasks, or None where they differ."""
        found = set(self.templates)
        return found.pop() if len(found) == 1 else None

    def subset(self, tasks: Sequence[int]) -> MetaVQATasks:
        """Some of the tasks, by their numbers, in the given order."""
        rows = list(tasks)
        other = copy.copy(self)
        for name in ("kept", "questions", "answers", "templates", "meanings", "sizes"):
            setattr(other, name, [getattr(self, name)[row] for row in rows])
        index = torch.tensor(rows, dtype=torch.int64, device=self.device)
        other._parts = {part: examples.take(index) for part, examples in self._parts.items()}
        other._questions = self._questions[index]
        positions, other._answer_starts = ragged(self._answer_starts, index)
        other._answers = self._answers[positions]
        return other

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
        other = copy.copy(self)
        other.templates = [template_of(question) for question in self.questions]
        pairs = zip(other.templates, self.answers, strict=True)
        texts = [text for template, answers in pairs for text in answer_texts(template, answers)]
        other._answers = embed(texts).float().to(self._answers.device)
        return other

    def check_questions(self) -> None:
        """Refuse tasks without a question, which conditional methods need.

        Raises:
            InputError: naming the first such task.
        """
        bare = [row for row, question in zip(self.kept, self.questions, strict=True) if not question.strip()]
        if bare:
            raise InputError(
                f"task {bare[0]} has no question: a conditional method needs one for each of its tasks"
            )

    def batch(self, tasks: Sequence[int] | Tensor | None = None, examples: int | None = None) -> TaskBatch:
        """Put tasks into one batch, padded as `weightgen.tasks.collate` does it.

        Args:
            tasks: the numbers of B tasks; all of them by default, as one batch. For their questions alone,
                `embeds` needs less memory.
            examples: how many examples of each set of a task are drawn, with torch's global randomness, where it has more; by default
                all are taken.

        Returns:
            Inputs (B, N, E), labels (B, N), embeds (B, E), answers (B, C, E) and answer_mask (B, C).

        Raises:
            InputError: `examples` is below 1.
        """
        if examples is not None:
            check_sizes(examples=examples)
        index = torch.as_tensor(range(len(self)) if tasks is None else tasks).to(self._images.device)
        positions, mask = padded(self._answer_starts, index)
        answers = self._answers[positions].masked_fill_(~mask[..., None], 0)
        return TaskBatch(
            support=self._examples("support", index, examples),
            query=self._examples("query", index, examples),
            embeds=self._questions[index],
            context={"answers": answers, "answer_mask": mask},
        )

    def _examples(self, part: str, index: Tensor, limit: int | None) -> Examples:
        images, labels, starts = self._parts[part]
        positions, mask = padded(starts, index)
        if limit is not None:
            positions, mask = drawn(positions, mask, limit)
        inputs = self._images[images[positions]].float().masked_fill_(~mask[..., None], 0)
        return Examples(inputs, labels[positions].masked_fill_(~mask, PADDING_LABEL))


def load_tasks(
    dataset: StrPath,
    *splits: str,
    features: str | None = None,
    device: str | torch.device = "cpu",
    questions: bool = False,
) -> list[MetaVQATasks]:
    """Open splits of a Meta-VQA data set with their features.

    Args:
        dataset: the folder of the data set.
        *splits: names of splits.
        features: the name of the features, where the data set has several.
        device: where the tensors lie.
        questions: whether every task must have a question.

    Raises:
        InputError: there is no such data set, split or store of features, a split has no tasks, or a question
            is missing.
    """
    rows = load_meta_vqa(Path(dataset))
    for name in splits:
        if name not in rows:
            raise InputError(f"{dataset} has no split {name!r}, only {', '.join(rows)}")
    store = find_features(dataset, features)
    found = [MetaVQATasks(rows[name], store, device) for name in splits]
    for name, tasks in zip(splits, found, strict=True):
        if not len(tasks):
            raise InputError(f"the split {name!r} of {dataset} has no tasks")
        if questions:
            tasks.check_questions()
    return found
