"""Meta-VQA on disk: written whole or not at all, read back, and refused where it is not one."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from weightgen.data.meta_vqa import disk
from weightgen.data.meta_vqa.disk import (
    Origin,
    Rules,
    Task,
    build_meta_vqa,
    describe_meta_vqa,
    load_meta_vqa,
    save_meta_vqa,
)
from weightgen.errors import InputError

RULES = Rules(min_examples=4, task_fraction=0.5, validation_fraction=0.5)
COLUMNS = [
    "question",
    "answers",
    "support_images",
    "support_labels",
    "query_images",
    "query_labels",
    "template",
    "meaning",
]


@pytest.fixture
def splits():
    rows = [(f"What is {n}?", f"COCO_{i}", "ab"[i % 2]) for n in range(8) for i in range(6 + n)]
    return build_meta_vqa(rows, RULES)


@pytest.fixture
def saved(splits, tmp_path):
    origin = Origin(rules=RULES, sources=[{"name": "a.json", "bytes": 12, "sha256": "ab" * 32}])
    save_meta_vqa(splits, tmp_path / "set", origin)
    return tmp_path / "set"


def test_round_trip(saved, splits):
    from datasets import load_from_disk

    loaded = load_meta_vqa(saved)
    assert list(loaded) == ["train", "validation", "test"]
    assert loaded["train"].column_names == COLUMNS
    assert {name: [Task(**row) for row in split] for name, split in loaded.items()} == splits
    assert load_from_disk(str(saved))["test"][:] == loaded["test"][:]


def test_other_splits_and_empty_ones(splits, tmp_path):
    more = {**splits, "novel_composition": splits["test"][:1], "empty": []}
    save_meta_vqa(more, tmp_path / "set")
    assert {name: len(split) for name, split in load_meta_vqa(tmp_path / "set").items()} == {
        "train": 2,
        "validation": 2,
        "test": 4,
        "novel_composition": 1,
        "empty": 0,
    }


def test_same_tasks_same_bytes(saved, splits, tmp_path):
    origin = Origin(rules=RULES, sources=[{"name": "a.json", "bytes": 12, "sha256": "ab" * 32}])
    save_meta_vqa(splits, tmp_path / "again", origin)
    files = [path.relative_to(saved) for path in saved.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [
        path for path in files if (saved / path).read_bytes() != (tmp_path / "again" / path).read_bytes()
    ] == []


def test_card_and_figures(saved, splits):
    facts = json.loads((saved / "meta_vqa.json").read_text())
    tasks = [task for split in splits.values() for task in split]
    assert facts["all"]["tasks"] == 8
    assert facts["all"]["pairs"] == sum(6 + n for n in range(8))
    assert facts["all"]["images"] == 13
    assert facts["all"]["distinct_answers"] == 2
    sizes = sorted(len(task.support_images) for task in tasks)
    assert facts["all"]["support_per_task"] == {
        "mean": sum(sizes) / 8,
        "median": (sizes[3] + sizes[4]) / 2,
        "min": sizes[0],
        "max": sizes[-1],
    }
    text = (saved / "README.md").read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\n") and describe_meta_vqa(saved) in text
    for part in (
        "| tasks | 2 | 2 | 4 | 8 |",
        "answers per task | 2.000 (2–2, 2)",
        "CC BY 4.0",
        "| min_examples | 4 |",
        "| excluded_words | or |",
        f"| a.json | 12 | {'ab' * 32} |",
        "made from the questions",
    ):
        assert part in text
    assert (saved / "histogram.png").read_bytes().startswith(b"\x89PNG")


def test_existing_folder(saved, splits, tmp_path):
    before = (saved / "README.md").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        save_meta_vqa(splits, saved)
    assert (saved / "README.md").read_bytes() == before
    save_meta_vqa({"train": splits["train"]}, saved, overwrite=True)
    assert list(load_meta_vqa(saved)) == ["train"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not a Meta-VQA data set.*will not be overwritten"):
        save_meta_vqa(splits, precious, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_unwritable(splits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        save_meta_vqa(splits, tmp_path / "file" / "set")


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        load_meta_vqa(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_one(saved, tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere")
    assert "no folder" in refusal(saved / "README.md")
    (tmp_path / "empty").mkdir()
    assert "has no meta_vqa.json" in refusal(tmp_path / "empty")
    from datasets import Dataset, DatasetDict

    DatasetDict(train=Dataset.from_dict({"a": [1]})).save_to_disk(str(tmp_path / "other"))
    assert "has no meta_vqa.json" in refusal(tmp_path / "other")
    shutil.copy(saved / "meta_vqa.json", tmp_path / "other")
    assert "the checksum of an Arrow file is not the one noted" in refusal(tmp_path / "other")
    facts = json.loads((saved / "meta_vqa.json").read_text())
    del facts["files"]  # as before checksums were noted
    (tmp_path / "other" / "meta_vqa.json").write_text(json.dumps(facts))
    assert "names other splits" in refusal(tmp_path / "other")
    (tmp_path / "other" / "meta_vqa.json").write_text(json.dumps(facts | {"splits": {"train": {"tasks": 1}}}))
    assert "column 'a' is int64; expected an Arrow stream" in refusal(tmp_path / "other")
    with pytest.raises(InputError, match="no folder"):
        describe_meta_vqa(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "weightgen-meta-vqa", "version": 2}'])
def test_facts_of_another_format(saved, text):
    (saved / "meta_vqa.json").write_text(text)
    assert "meta_vqa.json" in refusal(saved)


@pytest.mark.parametrize("change", ["missing", "truncated", "empty"])
def test_every_damaged_file(saved, change, tmp_path):
    needed = [path for path in saved.rglob("*") if path.suffix in (".json", ".arrow")]
    assert len(needed) == 11
    for path in needed:
        whole = path.read_bytes()
        if change == "missing":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2] if change == "truncated" else b"")
        assert str(saved) in refusal(saved)
        path.write_bytes(whole)
    load_meta_vqa(saved)


STEPS = ["_write_splits", "card", "draw_histogram", "written"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_build_leaves_nothing(step, stop, splits, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise stop("now")

    if step == "written":
        monkeypatch.setattr(disk.json, "dumps", interrupted)
    else:
        monkeypatch.setattr(disk, step, interrupted)
    with pytest.raises(InputError if stop is OSError else stop):
        save_meta_vqa(splits, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from weightgen.data.meta_vqa import disk
from weightgen.data.meta_vqa.disk import build_meta_vqa, save_meta_vqa, Rules
rows = [(f"What is {n}?", f"COCO_{i}", "ab"[i % 2]) for n in range(8) for i in range(6 + n)]
draw = disk.draw_histogram
def slow(*args):
    draw(*args)
    print("now", flush=True)
    sys.stdin.read()
disk.draw_histogram = slow
save_meta_vqa(build_meta_vqa(rows, Rules(min_examples=4)), sys.argv[1])
"""


def test_a_killed_build_leaves_no_folder_that_loads(tmp_path, root):
    from datasets import load_from_disk

    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "set")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout.readline() == b"now\n"  # the splits and the picture are written
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "set").exists()
    for left in tmp_path.iterdir():
        assert (left / "train").is_dir() and "no meta_vqa.json" in refusal(left)
        with pytest.raises(FileNotFoundError):
            load_from_disk(str(left))
