"""Arrow and Parquet files that unpack to more than the limit are refused before they are unpacked."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.data.photos.cifar import read_parquet
from weightgen.storage import columns
from weightgen.storage.columns import arrow_bytes
from weightgen.storage.limits import VARIABLE

LIMIT = 10**7
ROWS = 2000


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    monkeypatch.setenv(VARIABLE, str(LIMIT / 1e9))


def data_set(folder):
    task = Task("q?", ["a", "b"], ["1.png", "2.png"], [0, 1], ["3.png", "4.png"], [0, 1], "it is {}")
    save_meta_vqa({"train": [task]}, folder)
    facts = json.loads((folder / "meta_vqa.json").read_text())
    del facts["files"]
    (folder / "meta_vqa.json").write_text(json.dumps(facts))
    return next((folder / "train").glob("*.arrow"))


def rewrite(path, table, compression):
    path.unlink()  # it may be mapped into memory
    with pa.ipc.new_stream(
        path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as file:
        file.write_table(table)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_arrow_file(tmp_path, compression):
    path = data_set(tmp_path / "data")
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    assert arrow_bytes(path, types) == 0
    rewrite(path, table, compression)
    assert load_meta_vqa(tmp_path / "data")["train"]["question"][0] == "q?"
    assert 0 < arrow_bytes(path, types) <= table.get_total_buffer_size()
    place = table.schema.get_field_index("question")
    rewrite(path, table.set_column(place, "question", pa.array(["x" * 2 * LIMIT])), compression)
    assert path.stat().st_size < LIMIT / 50
    with pytest.raises(InputError, match=f"would take 0.0 GB, more than the limit of 0.01 GB.*{VARIABLE}"):
        load_meta_vqa(tmp_path / "data")


def test_one_arrow_file_that_is_named_many_times(tmp_path):
    path = data_set(tmp_path / "data")
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    rewrite(path, table.set_column(0, "question", pa.array(["x" * (LIMIT // 3)])), "zstd")
    load_meta_vqa(tmp_path / "data")
    state = json.loads((path.parent / "state.json").read_text())
    state["_data_files"] *= 4
    (path.parent / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=VARIABLE):
        load_meta_vqa(tmp_path / "data")


def test_columns_that_repeat_values_without_bytes(tmp_path):
    path = data_set(tmp_path / "data")
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    many = pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"]))
    rewrite(path, table.set_column(0, "question", many), None)
    with pytest.raises(InputError, match="column 'question' is run_end_encoded.*expected an Arrow stream"):
        load_meta_vqa(tmp_path / "data")
    path.write_bytes(b"no arrow")
    with pytest.raises(InputError, match="expected an Arrow stream"):
        load_meta_vqa(tmp_path / "data")


def test_splits_that_the_facts_do_not_name(tmp_path):
    data_set(tmp_path / "data")
    (tmp_path / "data/dataset_dict.json").write_text(json.dumps({"splits": ["train", "../other"]}))
    with pytest.raises(InputError, match="names other splits"):
        load_meta_vqa(tmp_path / "data")


ONCE = ["i"] * ROWS
LONG = "x" * 2 * LIMIT
ALIKE = ["x" * 8000 + str(row) for row in range(ROWS)]  # each takes a byte or two after the one before it
WAYS = {
    "one long text": ([LONG], {"use_dictionary": False}),
    "a long text in the dictionary": ([LONG], {}),
    "texts that begin alike": (
        ALIKE,
        {"use_dictionary": False, "column_encoding": {"question": "DELTA_BYTE_ARRAY"}},
    ),
    "a text in many rows": (["x" * 20_000] * ROWS, {}),
}


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("way", WAYS)
def test_a_table_in_parquet(tmp_path, way, version, compression):
    texts, options = WAYS[way]
    table = pa.table({"question": texts, "image": ONCE[: len(texts)], "answer": ONCE[: len(texts)]})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, **options)
    assert path.stat().st_size < LIMIT / 5
    with pytest.raises(InputError, match=VARIABLE):
        list(VqaTable(path))
    if way == "texts that begin alike":
        return  # Arrow does not read them as a dictionary
    small = table.set_column(0, "question", pa.array([f"q{row}" for row in range(len(texts))]))
    pq.write_table(small, path, compression=compression, data_page_version=version, **options)
    assert len(list(VqaTable(path))) == len(texts)


def test_rows_that_take_no_bytes(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(dict.fromkeys(("question", "image", "answer"), ["a"] * 10**6)), path)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match=VARIABLE):
        list(VqaTable(path))


def test_lists_in_a_column(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": [["a"] * 10**6], "image": ["i"], "answer": ["a"]}), path)
    with pytest.raises(InputError, match=r"column 'question' holds list<.*expected texts"):
        list(VqaTable(path))


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_pages_that_are_damaged(tmp_path, cut):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(dict.fromkeys(("question", "image", "answer"), ["a", "b"])), path)
    content = bytearray(path.read_bytes())
    content[4 : 4 + cut] = b"\xff" * cut
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a Parquet file"):
        list(VqaTable(path))


def test_a_column_is_found_by_its_place_as_pyarrow_finds_it():
    """The metadata of a column repeat its name, which may be another one there."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"question": [LONG]}), buffer, compression="zstd", use_dictionary=False)
    content, name = buffer.getvalue(), b"\x19\x18\x08question"  # a list of one text
    assert content.count(name) == 1
    for changed in (content, content.replace(name, b"\x19\x18\x08somebody")):
        file = pq.ParquetFile(io.BytesIO(changed))
        assert file.read(columns=["question"]).num_rows == 1
        with pytest.raises(InputError, match=VARIABLE):
            columns.check_parquet(changed, file.schema, ["question"], 1, "it", repeated=False)


def test_numbers_are_read_as_thrift_reads_them():
    """Another reading of the same bytes would let a file through that pyarrow unpacks."""
    once, wide, narrow = (
        b"\x15\x02\x00",
        b"\x16\x02\x00",
        b"\x15\x02\x05\x02\x04\x00",
    )  # the last: field 1 is 1, then 2
    assert columns._struct(memoryview(once), 0, columns._I32) == ({1: 1}, 3)
    assert columns._struct(memoryview(wide), 0, columns._I32) == ({1: None}, 3)
    assert columns._struct(memoryview(wide), 0, columns._I64) == ({1: 1}, 3)
    with pytest.raises(ValueError, match="comes twice"):
        columns._struct(memoryview(narrow), 0, columns._I32)


def test_pictures_in_parquet(tmp_path):
    many = [{"bytes": b"x" * 200_000, "path": None}] * 200  # kept once in the file
    for part in ("train", "test"):
        pq.write_table(pa.table({"img": many, "fine_label": [0] * 200}), tmp_path / f"{part}-0.parquet")
    assert (tmp_path / "train-0.parquet").stat().st_size < LIMIT / 5
    with pytest.raises(InputError, match=f"pages of 0 MB in column 'img.bytes'.*{VARIABLE}"):
        read_parquet(tmp_path)
    picture = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(picture, "png")
    table = pa.table({"img": [{"bytes": picture.getvalue(), "path": None}], "fine_label": [0]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match="more than 208,333 pixels"):
        read_parquet(tmp_path)


BOMB = """
import resource, sys
from weightgen import InputError
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.data.meta_vqa.disk import load_meta_vqa
import datasets, pyarrow.parquet
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + 10**9, size + 10**9))
for read in (lambda: list(VqaTable(sys.argv[1])), lambda: load_meta_vqa(sys.argv[2])):
    try:
        read()
    except InputError as error:
        print(error)
"""


@pytest.mark.slow
def test_bombs_of_many_gigabytes(tmp_path, monkeypatch):
    """With the limit as it is, in a process that has 1 GB beside its imports."""
    monkeypatch.delenv(VARIABLE)
    path = data_set(tmp_path / "data")
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    long = pa.array(["x" * 5 * 10**8])
    rewrite(path, table.set_column(0, "question", long), "zstd")
    state = json.loads((path.parent / "state.json").read_text())
    state["_data_files"] *= 9
    (path.parent / "state.json").write_text(json.dumps(state))
    rows = pa.table({"question": ["x" * 10**8], "image": ["i"], "answer": ["a"]})
    with pq.ParquetWriter(
        tmp_path / "r.parquet", rows.schema, compression="zstd", use_dictionary=False
    ) as file:
        for _ in range(45):
            file.write_table(rows)
    assert (tmp_path / "r.parquet").stat().st_size < 10**7
    words = [sys.executable, "-c", BOMB, str(tmp_path / "r.parquet"), str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0 and len(lines) == 2, done.stderr[-500:]
    assert all("more than the limit of 4 GB" in line for line in lines)
