"""Embedding all images, questions and answers of a Meta-VQA data set, once.

Images are decoded by a pool of threads, some batches ahead of the encoder. Threads, not processes: decoding
and resizing leave Python's lock to others, threads start at once, nothing is copied between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from weightgen.data.feature_writer import FeatureWriter
from weightgen.data.image_store import BrokenImage, ImageStore
from weightgen.data.task_features import answer_texts
from weightgen.encoders.clip import ImageTextEncoder

if TYPE_CHECKING:
    import datasets

__all__ = ["embed_images", "embed_texts", "image_batches", "names_to_embed"]

CHUNK = 8  # images per job of a thread: few, that all threads work on the same batch


class ImageBatch(NamedTuple):
    """Decoded images.

    Attributes:
        names: the n names asked for.
        images: what the encoder takes, without those that failed: (N, 3, H, W), or a list of N images.
        failed: names that could not be read, with the reason.
    """

    names: Sequence[str]
    images: Any
    failed: dict[str, str]


def names_to_embed(splits: Mapping[str, datasets.Dataset]) -> dict[str, list[str]]:
    """Collect what a data set names, over all its splits, each name once.

    Returns:
        `images` and `questions`, sorted, and `answers` in their templates, sorted.
    """
    images: set[str] = set()
    questions: set[str] = set()
    answers: set[str] = set()
    for split in splits.values():
        for column in ("support_images", "query_images"):
            images.update(
                split.with_format("arrow")[:][column].combine_chunks().flatten().unique().to_pylist()
            )
        questions.update(split["question"])
        for template, task_answers in zip(split["template"], split["answers"], strict=True):
            answers.update(answer_texts(template, task_answers))
    return {"images": sorted(images), "questions": sorted(questions), "answers": sorted(answers)}


def embed_texts(writer: FeatureWriter, encoder: ImageTextEncoder, shards: Iterable[tuple[str, int]]) -> None:
    """Embed shards of texts.

    Args:
        writer: where they go.
        encoder: what embeds them.
        shards: pairs of `questions` or `answers` and a number.
    """
    size = writer.plan.batch_size
    for kind, number in shards:
        texts = writer.plan.shards(kind)[number]
        pieces = [encoder.encode_texts(texts[i : i + size]) for i in range(0, len(texts), size)]
        writer.write(kind, number, torch.cat(pieces))


def embed_images(
    writer: FeatureWriter,
    encoder: ImageTextEncoder,
    store: ImageStore,
    numbers: Iterable[int],
    *,
    workers: int = 2,
    skip_broken: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Embed shards of images.

    Args:
        writer: where they go. A shard with images that cannot be read is noted there as failed, or, with
            `skip_broken`, written without them.
        encoder: what embeds them; if it has a method `preprocess`, that runs in the decoding threads.
        store: where the images are.
        numbers: which shards.
        workers: the number of decoding threads.
        skip_broken: whether images that cannot be read are left out.
        progress: called with the number of images after each batch.
    """
    size = writer.plan.batch_size
    shards = {number: writer.plan.shards("images")[number] for number in numbers}
    batches = [names[i : i + size] for names in shards.values() for i in range(0, len(names), size)]
    decoded = image_batches(store, encoder, batches, workers)
    for number, names in shards.items():
        pieces: list[Tensor] = []
        failed: dict[str, str] = {}
        for batch in islice(decoded, -(-len(names) // size)):
            failed |= batch.failed
            if len(batch.images):
                pieces.append(encoder.encode_images(batch.images))
            progress(len(batch.names))
        if failed and not skip_broken:
            writer.fail("images", number, failed)
        else:
            embeds = torch.cat(pieces) if pieces else encoder.encode_images([Image.new("RGB", (64, 64))])[:0]
            writer.write("images", number, embeds, failed)


def image_batches(
    store: ImageStore,
    encoder: ImageTextEncoder,
    batches: Iterable[Sequence[str]],
    workers: int,
    ahead: int = 2,
) -> Iterator[ImageBatch]:
    """Decode and preprocess batches of images, in order.

    Args:
        store: where the images are.
        encoder: whose `preprocess` is applied, if it has one.
        batches: the names of each batch.
        workers: the number of threads.
        ahead: how many batches are begun before they are asked for.

    Yields:
        One batch after the other.
    """
    prepare = getattr(encoder, "preprocess", None)
    pinned = torch.device(getattr(encoder, "device", "cpu")).type == "cuda"
    pending: deque[Future[ImageBatch]] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for names in batches:
            chunks = [names[i : i + CHUNK] for i in range(0, len(names), CHUNK)]
            jobs = [pool.submit(_decoded, store, prepare, chunk) for chunk in chunks]
            # Waits for jobs that were begun before it, so the pool cannot lock up.
            pending.append(pool.submit(_gathered, names, jobs, pinned))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decoded(store: ImageStore, prepare: Callable[[Any], Any] | None, names: Sequence[str]) -> list[Any]:
    """Images as the encoder takes them, or for each that cannot be read the error."""
    found: list[Any] = []
    for name in names:
        try:
            image = store.open(name)
            found.append(prepare(image) if prepare else image)
        except BrokenImage as error:
            found.append(error)
    return found


def _gathered(names: Sequence[str], jobs: Sequence[Future[list[Any]]], pinned: bool) -> ImageBatch:
    results = [result for job in jobs for result in job.result()]
    failed = {
        name: str(result)
        for name, result in zip(names, results, strict=True)
        if isinstance(result, BrokenImage)
    }
    images: Any = [result for result in results if not isinstance(result, BrokenImage)]
    if images and isinstance(images[0], Tensor):
        images = torch.stack(images)
        images = images.pin_memory() if pinned else images
    return ImageBatch(names, images, failed)
