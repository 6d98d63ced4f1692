"""The official VQA v2 files: where they are found, what order they give, and what is refused."""

import gzip
import json
import zipfile

import pytest

from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.errors import InputError

TRAIN_QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
TRAIN_ANNOTATIONS = "v2_mscoco_train2014_annotations.json"
VAL_QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
VAL_ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


@pytest.fixture
def contents(vqa_contents):
    return vqa_contents(
        train2014=[("What?", 9, "bus", "other"), ("How many?", 7, "2", "number")],
        val2014=[("What?", 262148, "cat", "other"), ("Is it?", 262148, "yes", "yes/no")],
    )


ROWS = [
    ("What?", "COCO_train2014_000000000009", "bus", "other"),
    ("How many?", "COCO_train2014_000000000007", "2", "number"),
    ("What?", "COCO_val2014_000000262148", "cat", "other"),
    ("Is it?", "COCO_val2014_000000262148", "yes", "yes/no"),
]


def test_rows_in_the_official_order(contents, write_vqa, tmp_path):
    source = VqaV2(write_vqa(tmp_path, contents))
    assert [row[:4] for row in source] == ROWS
    assert [row[:4] for row in source] == ROWS  # reading again is reading anew
    assert [file["name"] for file in source.sources] == [
        TRAIN_QUESTIONS,
        TRAIN_ANNOTATIONS,
        VAL_QUESTIONS,
        VAL_ANNOTATIONS,
    ]


def test_a_byte_order_mark_of_windows_is_no_fault(contents, write_vqa, tmp_path):
    folder = write_vqa(tmp_path, contents)
    for path in folder.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row[:4] for row in VqaV2(folder)] == ROWS


def test_annotations_decide_the_order(contents, write_vqa, tmp_path):
    contents[TRAIN_ANNOTATIONS]["annotations"].reverse()
    rows = list(VqaV2(write_vqa(tmp_path, contents)))
    assert [row[:4] for row in rows] == [ROWS[1], ROWS[0], *ROWS[2:]]


def test_gzipped_zipped_and_in_the_official_tools_folders(contents, write_vqa, tmp_path):
    plain = VqaV2(write_vqa(tmp_path / "plain", contents))
    rows, packed = list(plain), tmp_path / "packed"
    (packed / "Annotations").mkdir(parents=True)
    squeezed = gzip.compress(json.dumps(contents[TRAIN_QUESTIONS]).encode())
    (packed / f"{TRAIN_QUESTIONS}.gz").write_bytes(squeezed)
    (packed / "Annotations" / TRAIN_ANNOTATIONS).write_text(json.dumps(contents[TRAIN_ANNOTATIONS]))
    with zipfile.ZipFile(packed / "v2_Questions_Val_mscoco.zip", "w") as archive:
        archive.writestr(VAL_QUESTIONS, json.dumps(contents[VAL_QUESTIONS]))
    with zipfile.ZipFile(packed / "v2_Annotations_Val_mscoco.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"some/folder/{VAL_ANNOTATIONS}", json.dumps(contents[VAL_ANNOTATIONS]))
    (packed / "broken_images.zip").write_bytes(b"not needed")
    source = VqaV2(packed, progress=True)
    assert list(source) == rows
    assert source.sources == plain.sources  # checksums are those of the unpacked files


def test_one_subtype(contents, write_vqa, tmp_path):
    folder = write_vqa(tmp_path, contents)
    assert [row[:4] for row in VqaV2(folder, subtypes=("val2014",))] == ROWS[2:]
    with pytest.raises(InputError, match="the test2015 questions of VQA v2 have no annotations"):
        VqaV2(folder, subtypes=("test2015",))


def test_the_small_official_files(shared, tmp_path):
    sample = shared / "data" / "vqa_v2_sample"
    for name in (TRAIN_QUESTIONS, TRAIN_ANNOTATIONS, VAL_QUESTIONS, VAL_ANNOTATIONS):
        (tmp_path / name).write_bytes((sample / name.replace(".json", "_sample.json")).read_bytes())
    rows = list(VqaV2(tmp_path))
    assert len(rows) == 4 and rows[0][:4] == (
        "What is this photo taken looking through?",
        "COCO_train2014_000000458752",
        "net",
        "other",
    )


def told(folder) -> str:
    """The one line that a folder is refused with."""
    with pytest.raises(InputError) as caught:
        list(VqaV2(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def spoiled(name, change):
    def case(contents):
        change(contents[name])
        return name

    return case


def replaced(name, by):
    def case(contents):
        contents[name] = contents[by]
        return name

    return case


def record(name, place, **values):
    key = "annotations" if "annotations" in name else "questions"
    return spoiled(name, lambda content: content[key][place].update(values))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            record(TRAIN_ANNOTATIONS, 1, multiple_choice_answer=2),
            ["annotations[1]", "Expected `str`, got `int`", "multiple_choice_answer"],
        ),
        (record(TRAIN_ANNOTATIONS, 0, answers=[{"answer": 3}]), ["annotations[0]", "$.answers[0].answer"]),
        (record(TRAIN_ANNOTATIONS, 1, question_id=5), ["annotations[1] (question_id 5)", "not in"]),
        (record(TRAIN_ANNOTATIONS, 1, image_id=8), ["annotations[1]", "about image 8", "expected image 7"]),
        (record(TRAIN_ANNOTATIONS, 1, question_id=458752000, image_id=9), ["second time", "one annotation"]),
        (record(TRAIN_ANNOTATIONS, 1, image_id=-7), ["annotations[1]", "image_id"]),
        (record(TRAIN_ANNOTATIONS, 1, image_id=10**12), ["annotations[1]", "image_id"]),
        (
            record(TRAIN_QUESTIONS, 1, question_id=458752000),
            ["questions[1]", "repeats question_id 458752000"],
        ),
        (record(TRAIN_QUESTIONS, 0, question=None), ["questions[0]", "Expected `str`, got `null`"]),
        (record(TRAIN_QUESTIONS, 0, question_id="1"), ["questions[0]", "question_id"]),
        (
            spoiled(TRAIN_ANNOTATIONS, lambda c: c["annotations"].pop()),
            [TRAIN_QUESTIONS, "question_id 458752001 has no annotation"],
        ),
        (
            spoiled(TRAIN_QUESTIONS, lambda c: c.update(data_subtype="val2014")),
            ["questions of train2014", "got data_subtype 'val2014'"],
        ),
        (
            spoiled(TRAIN_QUESTIONS, lambda c: c.update(data_subtype="test2015")),
            ["'test2015', whose questions have no annotations"],
        ),
        (spoiled(TRAIN_QUESTIONS, lambda c: c.pop("data_subtype")), ["got data_subtype None"]),
        (
            spoiled(TRAIN_QUESTIONS, lambda c: c.update(questions={})),
            ["Expected `array | null`, got `object`"],
        ),
        (
            spoiled(TRAIN_QUESTIONS, lambda c: c.pop("questions")),
            ["questions of train2014", "got a JSON object without 'questions'"],
        ),
        (
            replaced(TRAIN_ANNOTATIONS, TRAIN_QUESTIONS),
            ["annotations of train2014", "got a file of questions"],
        ),
        (
            replaced(TRAIN_QUESTIONS, TRAIN_ANNOTATIONS),
            ["questions of train2014", "got a file of annotations"],
        ),
        (lambda contents: contents.update({VAL_QUESTIONS: [1]}) or VAL_QUESTIONS, ["Expected `object`"]),
    ],
)
def test_one_line_names_file_record_and_expectation(spoil, expected, contents, write_vqa, tmp_path):
    name = spoil(contents)
    message = told(write_vqa(tmp_path, contents))
    assert str(tmp_path / name) in message
    assert not [part for part in expected if part not in message], message
    assert "expected" in message.lower()


@pytest.mark.parametrize("kept", [0, 1, 40, 0.5, 0.99])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated(kept, pack, contents, write_vqa, tmp_path):
    write_vqa(tmp_path, contents)
    (tmp_path / TRAIN_ANNOTATIONS).unlink()
    whole = pack(json.dumps(contents[TRAIN_ANNOTATIONS]).encode())
    name = TRAIN_ANNOTATIONS + (".gz" if pack is gzip.compress else "")
    (tmp_path / name).write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert name in told(tmp_path)


def test_truncated_and_encrypted_zip(contents, write_vqa, tmp_path):
    write_vqa(tmp_path, contents)
    (tmp_path / TRAIN_ANNOTATIONS).unlink()
    path = tmp_path / "v2_Annotations_Train_mscoco.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(TRAIN_ANNOTATIONS, json.dumps(contents[TRAIN_ANNOTATIONS]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    message = told(tmp_path)
    assert f"found no {TRAIN_ANNOTATIONS}" in message and "cut off" in message and path.name in message
    central = whole.index(b"PK\x01\x02")
    marked = bytearray(whole)
    marked[central + 8] |= 1  # the flag for encryption
    path.write_bytes(marked)
    assert "encrypted" in told(tmp_path)


def test_absent(contents, write_vqa, tmp_path):
    assert "is not a folder" in told(tmp_path / "nowhere")
    del contents[VAL_ANNOTATIONS]
    folder = write_vqa(tmp_path, contents)
    assert told(folder) == (
        f"{folder}: found no {VAL_ANNOTATIONS}, nor {VAL_ANNOTATIONS}.gz, nor a zip that holds it"
    )
    (folder / "v2_OpenEnded_mscoco_test2015_questions.json").write_text("{}")
    assert "the test2015 questions, which are there, have no annotations" in told(folder)


def test_annotations_without_types_are_refused(shared, tmp_path):
    sample = shared / "data" / "vqa_v2_sample"
    (tmp_path / TRAIN_QUESTIONS).write_bytes((sample / "allennlp_questions.json").read_bytes())
    (tmp_path / TRAIN_ANNOTATIONS).write_bytes((sample / "allennlp_annotations.json").read_bytes())
    with pytest.raises(InputError, match=r"annotations\[0\]: Object missing required field `image_id`"):
        list(VqaV2(tmp_path, subtypes=("train2014",)))
