"""Scenes as VQA v2 files: the official layout, as many pairs as promised, and nothing of the test known from training."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest
from PIL import Image

from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.data.scenes import language
from weightgen.data.scenes.questions import all_meanings, split_meanings
from weightgen.data.scenes.vqa_files import ask, draw_scenes, split_of, write_scenes, write_vqa

SPLITS = split_meanings()
SOME = {split: meanings[:: len(meanings) // 25] for split, meanings in SPLITS.items()}
MEANING_OF = {question: meaning for meaning in all_meanings() for question in meaning.paraphrases()}


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(9000, seed=0)


@pytest.fixture(scope="module")
def rows(scenes):
    """Some meanings of each split, asked about as many pictures as the data set has."""
    return ask(scenes, SOME, seed=0)


def test_pairs_and_answers_of_each_question(rows):
    meanings = defaultdict(list)
    for part in rows.values():
        images_of = defaultdict(lambda: defaultdict(list))
        for question, image, answer in part:
            images_of[question][answer].append(image)
            meanings[MEANING_OF[question]].append(image)
        for answers in images_of.values():
            assert 60 <= sum(map(len, answers.values())) <= 100
            assert 2 <= sum(len(images) > 1 for images in answers.values()) <= len(answers) <= 10
    for images in meanings.values():  # no picture twice, in whatever words
        assert len(set(images)) == len(images)


def test_answers_that_are_written_are_right(rows, scenes):
    for part in rows.values():
        assert all(MEANING_OF[question].answer(scenes[image]) == answer for question, image, answer in part)


def test_each_split_asks_its_own_meanings_in_one_to_three_wordings(rows):
    questions = {split: {row.question for row in part} for split, part in rows.items()}
    asked = {split: {MEANING_OF[question] for question in some} for split, some in questions.items()}
    for split, meanings in SOME.items():
        assert asked[split] == set(meanings)
        wordings = Counter(MEANING_OF[question] for question in questions[split])
        assert set(wordings.values()) == {1, 2, 3}
    assert asked["new_wordings"] <= asked["train"]
    assert len(asked["new_wordings"]) == len(questions["new_wordings"]) > 0.15 * len(asked["train"])
    assert not questions["new_wordings"] & questions["train"]


def test_asking_is_a_function_of_the_seed(scenes):
    some = {"train": SPLITS["train"][:3]}
    one, again, other = (ask(scenes[:2000], some, seed) for seed in (0, 0, 1))
    assert one == again != other


def tree(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, images=40, seed=0, processes=1)
    return folder


def test_the_same_seed_writes_the_same_bytes(written, tmp_path):
    write_scenes(tmp_path / "again", images=40, seed=0, processes=2)
    assert tree(tmp_path / "again") == tree(written)
    write_scenes(tmp_path / "other", images=40, seed=1, processes=2)
    other, same = tree(tmp_path / "other"), tree(written)
    # Of forty pictures hardly any new wording can be asked, so those files may be empty for both seeds.
    changed = [name for name in same if other[name] != same[name]]
    assert len([name for name in changed if name.startswith("images/")]) == 40
    assert len([name for name in changed if name.startswith("vqa_train/")]) == 4


def test_the_official_names(written):
    pictures = [
        f"images/{split_of(i)}/COCO_{split_of(i)}_{i + 1:012d}.png" for i in range(40)
    ]  # counted from 1, as ids are
    files = [
        f"{folder}/{name.format(split)}"
        for folder in ("vqa_train", "vqa_validation", "vqa_held_out_meanings", "vqa_new_wordings")
        for name in ("v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json")
        for split in ("train2014", "val2014")
    ]
    assert sorted(tree(written)) == sorted(pictures + files)
    for path in pictures[:5]:
        with Image.open(written / path) as image:
            assert image.size == (64, 64) and image.format == "PNG"


def load(folder, split):
    questions = json.loads((folder / f"v2_OpenEnded_mscoco_{split}_questions.json").read_text())
    return questions, json.loads((folder / f"v2_mscoco_{split}_annotations.json").read_text())


@pytest.mark.parametrize("split", ["train2014", "val2014"])
def test_the_official_fields(written, split):
    questions, annotations = load(written / "vqa_train", split)
    head = {"info", "data_type", "data_subtype", "license"}
    assert questions.keys() == head | {"task_type", "questions"} and annotations.keys() == head | {
        "annotations"
    }
    assert questions["task_type"] == "Open-Ended" and questions["data_subtype"] == split
    assert annotations["data_type"] == "mscoco" and annotations["data_subtype"] == split
    ids = [each["question_id"] for each in questions["questions"]]
    assert len(set(ids)) == len(ids) > 100
    for asked, answered in zip(questions["questions"], annotations["annotations"], strict=True):
        assert asked.keys() == {"image_id", "question", "question_id"}
        assert asked["question_id"] // 1000 == asked["image_id"] == answered["image_id"]
        assert asked["question_id"] == answered["question_id"]
        assert split_of(asked["image_id"] - 1) == split
        answer = answered["multiple_choice_answer"]
        assert answered["answer_type"] == ("number" if answer in language.NUMBERS else "other")
        votes = answered["answers"]
        assert [vote["answer_id"] for vote in votes] == list(range(1, 11))
        assert all(vote["answer"] == answer and vote["answer_confidence"] == "yes" for vote in votes)
        assert answered["question_type"] and asked["question"].lower().startswith(answered["question_type"])


def test_the_meanings_of_a_split_lie_in_its_own_files_alone(written):
    for split, wanted in SPLITS.items():
        asked = {
            MEANING_OF[each["question"]]
            for part in ("train2014", "val2014")
            for each in load(written / f"vqa_{split}", part)[0]["questions"]
        }
        assert asked <= set(wanted) and len(asked) > 0.5 * len(wanted)


def test_the_reader_of_vqa_v2_gives_the_rows_back(tmp_path):
    rows = ask(draw_scenes(300, seed=3), {"train": SPLITS["train"][:2]}, seed=0)["train"]
    write_vqa(tmp_path, rows)
    found = [(row.question, row.image, row.answer) for row in VqaV2(tmp_path)]
    named = [(q, f"COCO_{split_of(i)}_{i + 1:012d}", answer) for q, i, answer in rows]
    assert sorted((q, image.rsplit("/")[-1].split(".")[0], answer) for q, image, answer in found) == sorted(
        named
    )
