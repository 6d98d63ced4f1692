"""Whatever is in the files: rows, or an `InputError` of one line. Nothing else ever escapes."""

import gzip
import io
import json
import zipfile
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from weightgen.data.meta_vqa.disk import Rules, build_meta_vqa, load_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.release import read_release
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.errors import InputError

QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS = "v2_mscoco_train2014_annotations.json"
RULES = Rules(min_examples=4)

ASKED = [{"question_id": i, "image_id": i, "question": f"Q{i // 4}?"} for i in range(8)]
ANSWERED = [
    {
        "question_id": i,
        "image_id": i,
        "answer_type": "other",
        "multiple_choice_answer": "ab"[i % 2],
        "answers": [],
    }
    for i in range(8)
]
GOOD = {
    QUESTIONS: {"data_subtype": "train2014", "questions": ASKED},
    ANNOTATIONS: {"data_subtype": "train2014", "annotations": ANSWERED},
}
RELEASE = {"Q?": {"train": [["i1", "a"], ["i2", "b"]], "test": [["i3", "a"]], "answers": ["a", "b"]}}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["", "\ud800"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
packed = st.sampled_from(["plain", "gzip", "zip"])


@st.composite
def spoiled(draw, good):
    """Valid JSON with one place, anywhere, taken away or replaced by anything."""
    content = deepcopy(good)
    parent, key, node = None, None, content
    while True:
        if not isinstance(node, dict | list) or not node or (parent is not None and draw(st.booleans())):
            break
        parent = node
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = node[key]
    if draw(st.booleans()):
        parent[key] = draw(anything)
    elif isinstance(parent, list) and draw(st.booleans()):
        parent.append(deepcopy(node))
    else:
        del parent[key]
    return content


@st.composite
def damaged(draw, good: bytes):
    """Bytes with a stretch cut out and noise put in its place."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 40)) | st.just(len(good)))
    return good[:start] + draw(st.binary(max_size=8)) + good[end:]


def outcome(make) -> str:
    try:
        make()
    except InputError as error:
        assert "\n" not in str(error).strip()
        return str(error)
    return ""


def archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, data)
    return buffer.getvalue()


def put(folder: Path, name: str, data: bytes, how: str) -> tuple[Path, bytes]:
    if how == "gzip":
        return folder / f"{name}.gz", gzip.compress(data)
    if how == "zip":
        return folder / f"{name}.zip", archive(name, data)
    return folder / name, data


def build(folder: Path, save: bool = False) -> None:
    splits = build_meta_vqa(VqaV2(folder, subtypes=("train2014",)), RULES)
    if save:
        save_meta_vqa(splits, folder / "meta_vqa")
        load_meta_vqa(folder / "meta_vqa")


def test_the_good_files_are_good(tmp_path):
    for name, content in GOOD.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert outcome(lambda: build(tmp_path, save=True)) == ""


@given(spoiled(GOOD), packed)
def test_spoiled_content(contents, how):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in contents.items():
            path, data = put(folder, file, json.dumps(content).encode(), how)
            path.write_bytes(data)
        outcome(lambda: build(folder))


@given(st.data(), st.sampled_from(sorted(GOOD)), packed)
def test_damaged_bytes(data, which, how):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in GOOD.items():
            path, good = put(folder, file, json.dumps(content).encode(), how)
            path.write_bytes(data.draw(damaged(good)) if file == which else good)
        outcome(lambda: build(folder))


@settings(max_examples=5)
@given(st.lists(st.text(max_size=6), min_size=2, max_size=2, unique=True), st.text(max_size=30))
def test_any_text_is_written_and_read_back(answers, question):
    rows = [(question, f"i{i}", answers[i % 2]) for i in range(8)]
    with TemporaryDirectory() as name:
        folder = Path(name) / "meta_vqa"
        told = outcome(lambda: save_meta_vqa(build_meta_vqa(rows, RULES), folder))
        if not told:
            splits = load_meta_vqa(folder)
            task = next(row for split in splits.values() for row in split)
            assert (task["question"], task["answers"]) == (question, answers)
            assert task["template"].count("{}") == 1
            assert task["template"].format("x").count("{") == 0


def test_a_text_that_is_not_unicode_leaves_nothing(tmp_path):
    rows = [("\ud800?", f"i{i}", "ab"[i % 2]) for i in range(8)]
    told = outcome(lambda: save_meta_vqa(build_meta_vqa(rows, RULES), tmp_path / "meta_vqa"))
    assert "not valid Unicode" in told
    assert not list(tmp_path.iterdir())


@given(spoiled(RELEASE) | spoiled({"a": RELEASE}).map(lambda content: content.get("a")))
def test_spoiled_release(content):
    with TemporaryDirectory() as name:
        train, test = Path(name, "train.json"), Path(name, "test.json")
        train.write_text(json.dumps(RELEASE).replace("Q?", "another"))
        test.write_text(json.dumps(content))
        outcome(lambda: read_release(train, test))


TABLE = b"question,image,answer\n" + b"".join(b"What?,i%d,%s\n" % (i, b"ab"[i % 2 :][:1]) for i in range(6))


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    columns = {"question": ["What?"] * 6, "image": [f"i{i}" for i in range(6)], "answer": ["a", "b"] * 3}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


# An integer in place of the description of a page; and a column that is said to have no missing values, with a count of them.
TABLE_WITHOUT_A_PAGE_HEADER = parquet()[:131] + b"\0\0" + parquet()[-756:]
TABLE_THAT_ENDED_PYARROW = parquet().replace(b"%\x02\x18\x08question", b"%\x00\x18\x08question")


@given(
    st.one_of(
        damaged(TABLE).map(lambda data: (".csv", data)), damaged(parquet()).map(lambda d: (".parquet", d))
    )
)
@example((".parquet", TABLE_WITHOUT_A_PAGE_HEADER))
@example((".parquet", TABLE_THAT_ENDED_PYARROW))
def test_damaged_tables(case):
    ending, data = case
    with TemporaryDirectory() as name:
        path = Path(name, "table" + ending)
        path.write_bytes(data)
        outcome(lambda: build_meta_vqa(VqaTable(path), RULES))
