import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightgen.errors import InputError, one_line_errors
from weightgen.storage.files import (
    read_json,
    read_metadata,
    read_tensors,
    write_json,
    write_tensors,
    written_beside,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_and_folder_appear_whole(tmp_path):
    with written_beside(tmp_path / "new" / "a.txt") as partial:
        partial.write_text("a")
        assert not (tmp_path / "new" / "a.txt").exists()
    with written_beside(tmp_path / "b") as partial:
        partial.mkdir()
        (partial / "c.txt").write_text("c")
    assert names(tmp_path) == ["b", "new"]
    assert names(tmp_path / "new") == ["a.txt"]
    assert (tmp_path / "b" / "c.txt").read_text() == "c"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.parametrize("existed", [True, False])
def test_an_interrupt_leaves_what_was_there(tmp_path, interrupt, as_folder, existed):
    target = tmp_path / "target"
    if existed:
        target.write_text("old")
    with pytest.raises(interrupt), written_beside(target, overwrite=True) as partial:
        if as_folder:
            partial.mkdir()
            (partial / "half").write_text("half")
        else:
            partial.write_text("half")
        raise interrupt
    assert names(tmp_path) == (["target"] if existed else [])
    assert not existed or target.read_text() == "old"


def test_existing_targets_are_kept_unless_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(InputError, match="folder exists already"), written_beside(tmp_path / "folder"):
        pytest.fail("the body must not run")
    with written_beside(tmp_path / "folder", overwrite=True) as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert names(tmp_path / "folder") == ["new"]
    with (
        pytest.raises(InputError, match="may not be replaced"),
        written_beside(tmp_path / "folder", overwrite=True) as partial,
    ):
        partial.touch()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["new"]


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(InputError), written_beside(tmp_path / "a") as partial:
        partial.write_text("mine")
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs"
    assert names(tmp_path) == ["a"]


def test_an_old_folder_returns_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    rename = type(target).rename

    def failing(self, new):
        if self.suffix == ".partial":
            raise KeyboardInterrupt
        return rename(self, new)

    monkeypatch.setattr(type(target), "rename", failing)
    with pytest.raises(KeyboardInterrupt), written_beside(target, overwrite=True) as partial:
        partial.mkdir()
    assert names(tmp_path) == ["target"]
    assert names(target) == ["old"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_json(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink()
    assert read_json(tmp_path / "real") == 1


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        write_json(tmp_path / "file" / "x.json", 1)


def test_json_round_trip_is_strict(tmp_path):
    value = {"ä": [1, 2.5, None, True], "b": {"c": "ß"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_not_json_is_one_clear_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not a JSON file"):
        read_json(tmp_path / "a.json")


def test_missing_files_are_named(tmp_path):
    for read in (read_json, read_tensors, read_metadata):
        with pytest.raises(InputError, match="missing"):
            read(tmp_path / "missing")
        with pytest.raises(InputError, match=tmp_path.name):
            read(tmp_path)


def test_tensors_round_trip(tmp_path):
    matrix = torch.randn(3, 4, requires_grad=True)
    tensors = {"a": matrix, "b": matrix.T, "c": matrix[1], "d": matrix[2:], "half": torch.ones(2).half()}
    write_tensors(tmp_path / "x.safetensors", tensors, metadata={"prompt": "why?"})
    loaded = read_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(loaded[name], tensor.detach(), rtol=0, atol=0)
    assert read_metadata(tmp_path / "x.safetensors") == {"prompt": "why?"}
    write_tensors(tmp_path / "x.safetensors", {})
    assert read_metadata(tmp_path / "x.safetensors") == {}
    with pytest.raises(InputError, match="exists already"):
        write_tensors(tmp_path / "x.safetensors", {}, overwrite=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "x.safetensors"
    write_tensors(path, {"a": torch.arange(20.0)})
    return path


@given(kept=st.integers(0, 10**6))
def test_a_truncated_tensor_file_is_one_clear_line(whole, kept):
    cut = whole.with_name("cut.safetensors")
    content = whole.read_bytes()
    cut.write_bytes(content[: kept % len(content)])
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        read_tensors(cut)


def test_command_lines_show_one_line_and_exit_with_2(capsys):
    @one_line_errors()
    def command():
        raise InputError("expected this,\n  got that")

    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            command()
        assert stop.value.code == 2
        assert capsys.readouterr() == ("", "error: expected this, got that\n")
    with pytest.raises(ValueError, match="a bug"), one_line_errors():
        raise ValueError("a bug")


def test_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1], "a": "ü"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == json.dumps({"b": [1], "a": "ü"}, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that nobody can write to")
@pytest.mark.parametrize(
    "write", [lambda path: write_json(path, {}), lambda path: write_tensors(path, {"a": torch.ones(2)})]
)
def test_where_nothing_can_be_written_is_one_clear_line(write):
    with pytest.raises(InputError, match="cannot write /proc/x"):
        write("/proc/x")


def test_a_full_disk_is_one_clear_line_and_a_bug_is_not(tmp_path):
    for number, expected in ((errno.ENOSPC, InputError), (errno.EACCES, PermissionError)):
        with pytest.raises(expected), written_beside(tmp_path / "a") as partial:
            partial.write_text("half")
            raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_texts_that_no_file_can_hold(tmp_path):
    for write in (
        lambda: write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)}, {"class": "\udcff"}),
        lambda: write_json(tmp_path / "a.json", {"class": "\udcff"}),
        lambda: write_json(tmp_path / "a.json", {"number": float("nan")}),
    ):
        with pytest.raises(InputError, match="cannot write .*(surrogates|JSON)"):
            write()
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.json").write_text('["\\ud83d\\ude00", "\\\\ud800"]')
    assert read_json(tmp_path / "b.json") == ["\U0001f600", "\\ud800"]
    for text in ('["\\ud800"]', "[NaN]", "[-Infinity]"):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(InputError, match="is not a JSON file"):
            read_json(tmp_path / "b.json")
