"""Made-up files of the official VQA v2 format and size, from a seed: what the benchmark reads."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from weightgen.storage.files import read_json

SIZES = {"train2014": (443_757, 82_783), "val2014": (214_354, 40_504)}  # questions, images: those of VQA v2
CONFIDENCE = ("yes", "maybe", "no")
FORMS = (
    "What color is the {}?",
    "What is on the {}?",
    "How many {}s are there?",
    "Is there a {} in the photo?",
    "Where is the {}?",
    "What is the person with the {} doing?",
    "Is the {} to the left or right?",
)
SIZE_WORDS = ("big", "small", "old", "new", "")
NOUNS = """
airplane apple bag ball banana bat bed bench bicycle bike bird boat book bottle bowl boy bridge building bus
cake camera car cat chair child clock cloud coat couch cow cup curtain desk dog door dress elephant fence
field flag floor flower food fork frisbee fruit giraffe girl glass grass ground hat helmet horse house
jacket kite lamp laptop light man mirror motorcycle mountain mouse oven pan paper person phone picture
pillow pizza plane plant plate player racket road rock roof room rug sandwich shelf shirt shoe sign sink
skateboard sky snow sofa street suitcase surfboard table tie toilet tower toy train tree truck tv umbrella
van vase wall water window woman zebra
""".split()
HUES = "white black red blue green brown gray yellow orange silver pink tan purple beige gold maroon".split()
ANSWERS = HUES + NOUNS + [f"{hue} and {other}" for hue in HUES for other in HUES if hue != other]


def make_files(folder: Path, scale: float) -> None:
    """Write the four files, or use those of the same scale that are there."""
    stamp = folder / "made_up.json"
    if stamp.is_file() and read_json(stamp) == {"scale": scale}:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (subtype, (questions, images)) in enumerate(SIZES.items()):
        _make_subtype(folder, subtype, round(questions * scale), max(1, round(images * scale)), seed)
    stamp.write_text(json.dumps({"scale": scale}))


def _make_subtype(folder: Path, subtype: str, count: int, images: int, seed: int) -> None:
    random = Random(seed)
    wordings, weights = _wordings()
    texts = random.choices(wordings, cum_weights=list(accumulate(weights)), k=count)
    image_ids = random.choices(range(581_930), k=images)
    head = f'{{"info": {{}}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "{subtype}", '
    with (
        open(folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json", "w") as questions,
        open(folder / f"v2_mscoco_{subtype}_annotations.json", "w") as annotations,
    ):
        questions.write(head + '"license": {}, "questions": [')
        annotations.write(head + '"license": {}, "annotations": [')
        for i, text in enumerate(tqdm(texts, desc=f"making up {subtype}", unit="questions", unit_scale=True)):
            image_id, question_id = image_ids[i % images], 10**8 * (seed + 1) + i
            question = {"image_id": image_id, "question": text, "question_id": question_id}
            comma = ", " if i else ""
            questions.write(comma + json.dumps(question))
            annotations.write(comma + json.dumps(_annotation(random, text, image_id, question_id)))
        questions.write("]}")
        annotations.write("]}")


def _wordings() -> tuple[list[str], list[float]]:
    """Questions with a long tail: about a thousand asked more than twenty times, most once, as in VQA v2."""
    things = [f"{size} {color} {noun}" for size in SIZE_WORDS for color in (*HUES, "") for noun in NOUNS]
    texts = [" ".join(form.format(thing).split()) for thing in things for form in FORMS]
    Random(0).shuffle(texts)
    return texts, [1 / (rank + 20) for rank in range(len(texts))]


def _annotation(random: Random, question: str, image_id: int, question_id: int) -> dict[str, Any]:
    first = question.split()[0]
    if first == "Is":
        kind, choices = "yes/no", ["yes", "no"]
    elif first == "How":
        kind, choices = "number", [str(n) for n in range(12)]
    else:
        kind, choices = "other", ANSWERS
    given = [choices[int(len(choices) * random.random() ** 1.5)] for _ in range(10)]
    answers = [
        {"answer": answer, "answer_confidence": CONFIDENCE[i % 7 % 3], "answer_id": i + 1}
        for i, answer in enumerate(given)
    ]
    return {
        "question_type": " ".join(question.split()[:3]).lower(),
        "multiple_choice_answer": max(given, key=given.count),
        "answers": answers,
        "image_id": image_id,
        "answer_type": kind,
        "question_id": question_id,
    }
