"""Embedding all images, questions and answers of a Meta-VQA data set, once.

A pool of threads works some batches ahead, one batch to a thread. With an accelerator the threads decode and
prepare images, which leaves Python's lock to others, while the encoder runs. On a CPU each thread encodes its
batch too, with one thread inside torch: none waits for another, and the bits do not depend on their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from weightgen.data.features.images import BrokenImage, ImageStore
from weightgen.data.features.writer import FeatureWriter
from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.encoders.clip import CLIP
from weightgen.encoders.paired import PairedEncoder
from weightgen.encoders.token_encoder import TokenEncoder
from weightgen.protocols import Encoder

if TYPE_CHECKING:
    import datasets

__all__ = ["embed_images", "embed_texts", "names_to_embed", "sample_images"]

OWN = (CLIP, PairedEncoder)  # those that may be called from several threads
T = TypeVar("T")


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


def sample_images(store: ImageStore, names: Sequence[str], number: int = 500) -> list[Image.Image]:
    """About `number` of the images, evenly spread over `names`, without those that cannot be read."""
    images: list[Image.Image] = []
    for name in names[:: max(1, len(names) // number)]:
        with suppress(BrokenImage):
            images.append(store.open(name))
    return images


def embed_texts(
    writer: FeatureWriter, encoder: Encoder, shards: Iterable[tuple[str, int]], workers: int = 1
) -> None:
    """Embed shards of texts.

    Args:
        writer: where they go.
        encoder: what embeds them.
        shards: pairs of `questions` or `answers` and a number.
        workers: the number of threads, on a CPU.
    """
    parallel = _parallel(encoder)
    embed = {"questions": encoder.encode_questions, "answers": encoder.encode_texts}
    for kind, number in shards:
        batches = _cut(writer.plan.shards(kind)[number], writer.plan.batch_size)
        with _threads_in_torch(1 if parallel else None):
            pieces = list(_ahead(embed[kind], batches, workers if parallel else 1))
        writer.write(kind, number, torch.cat(pieces))


def embed_images(
    writer: FeatureWriter,
    encoder: Encoder,
    store: ImageStore,
    numbers: Iterable[int],
    *,
    workers: int = 1,
    skip_broken: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Embed shards of images.

    Args:
        writer: where they go. A shard with images that cannot be read is noted there as failed, or, with
            `skip_broken`, written without them.
        encoder: what embeds them; if it has a method `preprocess`, that runs in the threads.
        store: where the images are.
        numbers: which shards.
        workers: the number of threads.
        skip_broken: whether images that cannot be read are left out.
        progress: called with the number of images after each batch.
    """
    shards = {n: _cut(writer.plan.shards("images")[n], writer.plan.batch_size) for n in numbers}
    parallel = _parallel(encoder)

    def work(names: Sequence[str]) -> _Batch:
        batch = _decoded(store, encoder, names)
        return _encoded(encoder, batch) if parallel else batch

    with _threads_in_torch(1 if parallel else None):
        done = _ahead(work, [batch for batches in shards.values() for batch in batches], workers)
        for number, batches in shards.items():
            pieces: list[Tensor] = []
            failed: dict[str, str] = {}
            for batch in islice(done, len(batches)):
                pieces.append(batch.images if parallel else _encoded(encoder, batch).images)
                failed |= batch.failed
                progress(batch.size)
            if failed and not skip_broken:
                writer.fail("images", number, failed)
            else:
                writer.write("images", number, torch.cat(pieces), failed)


def _cut(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


class _Batch(NamedTuple):
    size: int  # of images asked for
    images: Any  # those that could be read: pixels (N, 3, H, W) or a list, later their embeddings (N, E)
    failed: dict[str, str]


def _decoded(store: ImageStore, encoder: Encoder, names: Sequence[str]) -> _Batch:
    prepare = getattr(encoder, "preprocess", lambda image: image)
    images: Any = []
    failed: dict[str, str] = {}
    for name in names:
        try:
            images.append(prepare(store.open(name)))
        except BrokenImage as error:
            failed[name] = str(error)
    if images and isinstance(images[0], Tensor):
        images = torch.stack(images)
        if isinstance(encoder, OWN) and encoder.device.type == "cuda":
            images = images.pin_memory()  # lets the copy to the device overlap with the computation
    return _Batch(len(names), images, failed)


def _encoded(encoder: Encoder, batch: _Batch) -> _Batch:
    if len(batch.images) == 0:  # all failed: embed anything, to know the dimension
        return batch._replace(images=encoder.encode_images([Image.new("RGB", (64, 64))])[:0])
    return batch._replace(images=encoder.encode_images(batch.images))


def _parallel(encoder: Encoder) -> bool:
    """Whether several threads may encode at once; a user's own encoder need not bear it."""
    base = encoder.base if isinstance(encoder, TokenEncoder) else encoder
    return isinstance(base, OWN) and base.device.type == "cpu"


def _ahead(work: Callable[[Any], T], items: Iterable[Any], workers: int) -> Iterator[T]:
    """Yield `work(item)` in order, with as many threads and at most twice as many results waiting."""
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads_in_torch(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
