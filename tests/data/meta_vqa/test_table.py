"""Tables of question, image and answer."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weightgen.data.meta_vqa.table import VqaTable
from weightgen.errors import InputError

ROWS = [("What, exactly?", "a.jpg", "käse", None, None), ("How many?", "b.jpg", "2", None, None)]
CSV = 'answer,question,ignored,image\nkäse,"What, exactly?",1,a.jpg\n2,How many?,,b.jpg\n'


def table(tmp_path, **columns):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_csv_in_any_order_of_columns(tmp_path):
    for name, data in (
        ("a.csv", CSV.encode()),
        ("b.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("c.csv.gz", gzip.compress(CSV.encode())),
    ):
        (tmp_path / name).write_bytes(data)
        source = VqaTable(tmp_path / name, progress=True)
        assert [tuple(row) for row in source] == ROWS
        assert source.sources[0]["name"] == name.removesuffix(".gz")


def test_parquet(tmp_path):
    path = table(
        tmp_path,
        image=["a.jpg", "b.jpg"],
        question=["What, exactly?", "How many?"],
        answer=pa.array(["käse", "2"]).dictionary_encode(),
    )
    assert [tuple(row) for row in VqaTable(path)] == ROWS


def test_answer_types_are_passed_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("question,image,answer,answer_type\nQ?,i,a,other\nQ?,j,yes,yes/no\n")
    assert [row.answer_type for row in VqaTable(path)] == ["other", "yes/no"]


def test_meanings_are_passed_on_with_and_without_types(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("meaning,question,image,answer\ncolor,Q?,i,a\n")
    assert list(VqaTable(path)) == [("Q?", "i", "a", None, "color")]
    path.write_text("meaning,answer_type,question,image,answer\ncolor,other,Q?,i,a\n")
    assert list(VqaTable(path)) == [("Q?", "i", "a", "other", "color")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected columns question, image, answer .* got none"),
        ("question,image\n", "got 'question', 'image'"),
        ("question,image,answer,answer\n", "each once"),
        ("question,image,answer\nQ?,i\n", "line 2: expected 3 values, got 2"),
        ("question,image,answer\nQ?,i,a\nQ?,,a\n", "line 3, column 'image': expected a text, got nothing"),
        ('question,image,answer\nQ?,i,"a\n', "line 3: unexpected end of data"),
        ("question,image,answer\nQ?,i,\udcff\n", "line 2, column 'answer': .*utf-8.*save the file again"),
        ("question;image;answer\nQ?;i;a\n\nQ?;\udcff;a\n", "line 4, column 'image': .*utf-8"),
        ("question,image,answer\nq,\rv\udcff", "line 3, column 'question': .*utf-8"),
        ("question,image,answer\n" + 5000 * "Q?,i,a\n" + "Q?,i,  \n", "line 5002, column 'answer'"),
    ],
)
def test_wrong_csv(text, told, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=told) as caught:
        list(VqaTable(path))
    assert str(path) in str(caught.value)


def test_wrong_parquet(tmp_path):
    with pytest.raises(InputError, match="expected columns"):
        list(VqaTable(table(tmp_path, question=["Q?"])))
    with pytest.raises(InputError, match="row 1, column 'answer': expected a text, got nothing"):
        list(VqaTable(table(tmp_path, question=["Q?", "Q?"], image=["i", "j"], answer=["a", None])))
    for wrong, told in (([True], "got True"), ([float("nan")], "got nan")):
        with pytest.raises(InputError, match=f"row 0, column 'answer': .*{told}"):
            list(VqaTable(table(tmp_path, question=["Q?"], image=["i"], answer=wrong)))
    whole = table(tmp_path, question=["Q?"], image=["i"], answer=["a"])
    whole.write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(InputError, match="expected a Parquet file"):
        list(VqaTable(whole))


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="ends in .csv, .csv.gz, .tsv, .tsv.gz, .parquet"):
        VqaTable(tmp_path / "t.xlsx")
    with pytest.raises(InputError, match="it is missing"):
        list(VqaTable(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text + ",,,\n\n",
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";").replace("What;", "What,"),
        lambda text: text.replace(",", "\t").replace("What\t", "What,"),
        lambda text: text.replace("answer,question", " Answer , QUESTION"),
        lambda text: text.replace("2,How", " 2 ,How"),
    ],
    ids=[
        "blank line",
        "empty values",
        "blank lines",
        "windows",
        "mac",
        "mark",
        ";",
        "tab",
        "header",
        "spaces",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_same_rows_of_every_spelling_of_a_csv(change, encoding, tmp_path):
    for name in ("t.csv", "t.TSV"):
        (tmp_path / name).write_bytes(change(CSV).encode(encoding))
        assert [tuple(row) for row in VqaTable(tmp_path / name)] == ROWS


def test_numbers_are_texts(tmp_path):
    path = table(tmp_path, question=["Q?"] * 2, image=[7, 8], answer=[2, 10])
    assert [tuple(row)[1:3] for row in VqaTable(path)] == [("7", "2"), ("8", "10")]
    path = table(tmp_path, question=["Q?"] * 2, image=["i", "j"], answer=[2.0, 0.5])
    assert [row.answer for row in VqaTable(path)] == ["2", "0.5"]


def test_answers_that_differ_by_capitals_are_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "question,image,answer\nQ?,i,Red\nQ?,j,red\nQ?,k,RED \nP?,i,red\nP?,j,dark  red\nP?,k,Dark red\n"
    )
    assert [row.answer for row in VqaTable(path)] == ["Red", "Red", "Red", "red", "dark  red", "dark  red"]
    assert [row.answer for row in VqaTable(path, fold_case=False)][:3] == ["Red", "red", "RED"]
