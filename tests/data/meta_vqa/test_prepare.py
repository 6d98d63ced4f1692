"""The command line, as a user runs it."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from weightgen.data.meta_vqa.disk import load_meta_vqa

SMALL = ["--min-examples", "10", "--validation-fraction", "0", "--task-fraction", "0.5"]


@pytest.fixture
def prepare(root, monkeypatch, capsys):
    """Run data/meta_vqa/prepare.py here; gives exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        try:
            runpy.run_path(str(root / "data" / "meta_vqa" / "prepare.py"), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


def test_from_vqa_files(prepare, two_tasks, write_vqa, tmp_path):
    folder, out = write_vqa(tmp_path / "vqa", two_tasks), tmp_path / "out"
    status, printed, bars = prepare("--vqa-dir", folder, "--output-dir", out, *SMALL, "--title", "Tiny")
    assert status == 0
    splits = load_meta_vqa(out)
    questions = [row["question"] for split in splits.values() for row in split]
    assert sorted(questions) == ["How many?", "What color is it?"]
    assert "# Tiny" in printed and "| min_examples | 10 |" in printed and f"Written to {out}" in printed
    assert "v2_mscoco_val2014_annotations.json" in printed  # a source with its checksum
    assert "collecting answers" in bars and "MB" not in printed


def test_table_templates_and_export_then_release(prepare, tmp_path):
    table, templates = tmp_path / "pairs.csv", tmp_path / "templates.json"
    lines = [f"What is {n}?,i{i},{'ab'[i % 2]}" for n in range(2) for i in range(10)]
    table.write_text("question,image,answer\n" + "\n".join(lines))
    templates.write_text('{"What is 0?": "zero is {}"}')
    export, out = tmp_path / "json", tmp_path / "out"
    more = ["--templates", templates, "--export-json", export]
    status, printed, _ = prepare("--table", table, "--output-dir", out, *SMALL, *more)
    assert status == 0 and f"In the authors' format: {export}" in printed
    assert "from templates.json; for questions that it lacks, made from the questions" in printed
    splits = load_meta_vqa(out)
    made = {row["question"]: row["template"] for split in splits.values() for row in split}
    assert made == {"What is 0?": "zero is {}", "What is 1?": "1 is {}"}

    files = [export / "meta_train.json", export / "meta_test.json"]
    status, printed, _ = prepare("--from-release", *files, "--output-dir", tmp_path / "again", *SMALL)
    assert status == 0 and "the split was given, not made" in printed
    again = load_meta_vqa(tmp_path / "again")
    columns = ["question", "answers", "support_images", "query_images", "support_labels", "query_labels"]
    assert [again[name].select_columns(columns)[:] for name in again] == [
        splits[name].select_columns(columns)[:] for name in splits
    ]


def test_every_rule_is_an_option(prepare, two_tasks, write_vqa, tmp_path):
    options = {
        "min_examples": 5,
        "min_per_answer": 3,
        "min_answers": 2,
        "support_fraction": 0.5,
        "task_fraction": 0.4,
        "validation_fraction": 0.2,
        "seed": 7,
        "excluded_words": ["or", "and"],
        "answer_types": ["other"],
        "split_images": False,
    }
    arguments = ["--vqa-dir", write_vqa(tmp_path / "vqa", two_tasks), "--output-dir", tmp_path / "out"]
    for name, value in list(options.items())[:-1]:  # split_images is a switch
        arguments += ["--" + name.replace("_", "-"), *(value if isinstance(value, list) else [value])]
    assert prepare(*arguments)[0] == 0
    assert json.loads((tmp_path / "out" / "meta_vqa.json").read_text())["rules"] == options
    questions = [row["question"] for split in load_meta_vqa(tmp_path / "out").values() for row in split]
    assert questions == ["What color is it?"]


def test_errors_are_one_line_and_leave_nothing(prepare, two_tasks, write_vqa, tmp_path):
    folder, out = write_vqa(tmp_path / "vqa", two_tasks), tmp_path / "out"
    for arguments, told in (
        (["--vqa-dir", folder], "no question became a task"),
        (["--vqa-dir", tmp_path], "found no v2_OpenEnded_mscoco_train2014_questions.json"),
        (["--vqa-dir", folder, "--seed", "1", "--support-fraction", "1.5"], "support_fraction must be"),
        (["--table", tmp_path / "no.csv"], "it is missing"),
        (["--vqa-dir", folder, "--templates", tmp_path / "no.json"], "no.json"),
    ):
        status, printed, errors = prepare(*arguments, "--output-dir", out)
        last = errors.splitlines()[-1]
        assert status == 2 and printed == "" and last.startswith("error: ") and told in last
        assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["vqa"]


def test_an_existing_output_is_refused_before_anything_is_read(prepare, two_tasks, write_vqa, tmp_path):
    folder, out = write_vqa(tmp_path / "vqa", two_tasks), tmp_path / "out"
    out.mkdir()
    status, _, errors = prepare("--vqa-dir", folder, "--output-dir", out, *SMALL)
    assert status == 2
    assert errors == f"error: {out} exists already: remove it, choose another, or add --overwrite\n"


def test_help_names_the_defaults(root):
    command = [sys.executable, str(root / "data" / "meta_vqa" / "prepare.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "100"}
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    for part in ("--from-release TRAIN TEST", "(default 21)", "(default 2021)", "(default number other)"):
        assert part in shown
