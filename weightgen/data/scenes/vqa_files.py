"""Scenes as a VQA v2 download: picture folders, question and annotation files, with the official names and fields.

<folder>/images/{train,val}2014/COCO_{train,val}2014_<12 digits>.png
<folder>/vqa_<split>/v2_OpenEnded_mscoco_{train,val}2014_questions.json, v2_mscoco_{train,val}2014_annotations.json

The splits are train, validation, held_out_meanings and new_wordings.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from weightgen.data.scenes.questions import Meaning, split_meanings
from weightgen.data.scenes.render import render
from weightgen.data.scenes.world import ATTRIBUTES, Scene, draw_scene
from weightgen.storage.files import written_beside

SPLITS = ("train2014", "val2014")
NEW_WORDINGS = 1 / 3  # of the training meanings have a question in the split new_wordings
_LICENSE = {"name": "MIT (synthetic data, rendered by weightgen)", "url": ""}


class Row(NamedTuple):
    """One question about one image; `image` counts the scenes from 0."""

    question: str
    image: int
    answer: str


def split_of(image: int) -> str:
    """Two images in three belong to train2014, as in COCO 2014."""
    return SPLITS[image % 3 == 2]


def draw_scenes(number: int, seed: int) -> list[Scene]:
    """Draw `number` scenes; scene i depends on (seed, i) alone."""
    return [draw_scene(random.Random(f"scene {seed} {i}")) for i in range(number)]


def ask(scenes: Sequence[Scene], splits: Mapping[str, Sequence[Meaning]], seed: int) -> dict[str, list[Row]]:
    """Ask every meaning in one to three wordings, each about 60 to 100 scenes of its own.

    A third of the training meanings are asked in one wording more, which goes to the split new_wordings.
    No scene is asked about twice with one meaning, so that a test question never repeats an (image, answer) pair of a training
    question that means the same. Rare answers are asked about more often than they occur (counts would nearly all be 0).
    """
    rows: dict[str, list[Row]] = {**{split: [] for split in splits}, "new_wordings": []}
    every = [(split, meaning) for split, meanings in splits.items() for meaning in meanings]
    scenes_with = _index(scenes)
    for split, meaning in tqdm(every, desc="asking questions", unit="meaning", mininterval=2):
        rng = random.Random(f"ask {seed} {meaning}")
        by_answer: dict[str, list[int]] = defaultdict(list)
        referent = meaning.referent if meaning.attribute in ATTRIBUTES else None
        candidates = scenes_with[referent.looks] if referent else range(len(scenes))
        for image in rng.sample(candidates, len(candidates)):
            answer = meaning.answer(scenes[image])
            if answer is not None:
                by_answer[answer].append(image)
        wordings = rng.sample(meaning.paraphrases(), 4)
        asked = [(split, question) for question in wordings[: rng.randint(1, 3)]]
        if split == "train" and rng.random() < NEW_WORDINGS:
            asked.append(("new_wordings", wordings[-1]))
        for where, question in asked:
            drawn = _draw_images(by_answer, rng.randint(60, 100), rng)
            rows[where] += [Row(question, image, answer) for answer, image in drawn]
    return rows


def _index(scenes: Sequence[Scene]) -> dict[tuple[tuple[str, str], ...], list[int]]:
    """One or two attribute values → the scenes with an object that has them: without it, asking takes minutes."""
    index: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for number, scene in enumerate(scenes):
        looks = [tuple((name, getattr(item, name)) for name in ATTRIBUTES) for item in scene.objects]
        seen = dict.fromkeys(some for one in looks for count in (1, 2) for some in combinations(one, count))
        for some in seen:
            index[some].append(number)
    return index


def _draw_images(
    by_answer: dict[str, list[int]], number: int, rng: random.Random
) -> Iterable[tuple[str, int]]:
    """Take images out of `by_answer`, an answer's chance being the square root of how many it has left."""
    for _ in range(number):
        answers = [answer for answer, images in by_answer.items() if images]
        if not answers:
            return
        (answer,) = rng.choices(answers, [len(by_answer[a]) ** 0.5 for a in answers])
        yield answer, by_answer[answer].pop()


def write_vqa(folder: Path, rows: Sequence[Row]) -> None:
    """Write the four official files: each row a question with ten agreeing annotators."""
    questions: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    asked: dict[int, int] = defaultdict(int)
    for question, image, answer in sorted(rows, key=lambda row: row.image):
        image_id, split = image + 1, split_of(image)
        question_id = image_id * 1000 + asked[image]
        asked[image] += 1
        questions[split].append({"image_id": image_id, "question": question, "question_id": question_id})
        annotations[split].append({
            "question_type": " ".join(question.lower().split()[:2]), "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)],
            "image_id": image_id, "answer_type": "number" if answer.isdigit() else "other", "question_id": question_id,
        })  # fmt: skip
    for split in SPLITS:
        info = {"description": "Scenes: synthetic pictures and questions in VQA v2 format", "version": "1.0"}
        head = {"info": info, "data_type": "mscoco", "data_subtype": split, "license": _LICENSE}
        task = {**head, "task_type": "Open-Ended"}
        _write_compact(
            folder / f"v2_OpenEnded_mscoco_{split}_questions.json", {**task, "questions": questions[split]}
        )
        _write_compact(
            folder / f"v2_mscoco_{split}_annotations.json", {**head, "annotations": annotations[split]}
        )


def _write_compact(path: Path, obj: Any) -> None:
    with written_beside(path) as partial:
        partial.write_text(json.dumps(obj), encoding="utf-8")


def _render_to(job: tuple[int, Scene, str]) -> None:
    image, scene, folder = job
    split = split_of(image)
    render(scene).save(Path(folder) / split / f"COCO_{split}_{image + 1:012d}.png", compress_level=1)


def write_images(folder: Path, scenes: Sequence[Scene], processes: int = 2) -> None:
    """Render every scene into `folder`/{train,val}2014, on several processes."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    jobs = [(i, scene, str(folder)) for i, scene in enumerate(scenes)]
    with ProcessPoolExecutor(processes) as pool:
        for _ in tqdm(
            pool.map(_render_to, jobs, chunksize=200), total=len(jobs), desc="rendering", unit="image"
        ):
            continue


def write_scenes(folder: Path, images: int, seed: int, processes: int = 2) -> None:
    """Write the whole download: pictures, and questions and annotations of each split."""
    scenes, splits = draw_scenes(images, seed), split_meanings()
    for split, rows in ask(scenes, splits, seed).items():
        write_vqa(folder / f"vqa_{split}", rows)
    write_images(folder / "images", scenes, processes)
