"""Plain pickles of every protocol are read as pickle itself reads them; anything else is refused and not run."""

import collections
import datetime
import os
import pickle

import numpy as np
import plain_pickle
import pytest
from plain_pickle import read_plain_pickle

from tests.data.few_shot_images.made_up_caches import python2, python3
from weightgen import InputError

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3)),
    np.arange(5, dtype=">i8")[::2],
    np.array([True, False]),
    np.array([[1.5, np.nan]], dtype=np.float32),
    np.zeros((0, 3), dtype=np.int16),
    np.array(7.0),
    np.arange(70_000, dtype=np.uint8),
]


def stored(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    return tmp_path / "a.pkl"


def same(found, expected):
    if isinstance(expected, np.ndarray):
        assert (
            found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
            and found.shape == expected.shape
        )
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            same(mine, theirs)
    else:
        assert type(found) is type(expected) and found == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path, protocol):
    value = {
        "arrays": ARRAYS, "again": ARRAYS[0], 3: (1, 2.5, None, True, -(10**30)),
        "text": ["é", "雪", ""], b"bytes": [b"", b"\xff\x00", b"x" * 300],
    }  # fmt: skip
    content = pickle.dumps(value, protocol=protocol)
    same(read_plain_pickle(stored(tmp_path, content)), value)
    if protocol < 4:  # the names are lines of text: NumPy 1 wrote its own former path
        assert b"numpy._core" in content
        same(read_plain_pickle(stored(tmp_path, content.replace(b"numpy._core", b"numpy.core"))), value)


def test_python_2(tmp_path):
    value = {"arrays": ARRAYS, "classes": {"n01": [3, -1], "caf\xe9": (1, 2)}}
    content = python2(value)
    same(pickle.loads(content, encoding="latin1"), value)  # that the test writes what Python 2 wrote
    same(read_plain_pickle(stored(tmp_path, content)), value)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_numpy_scalars_become_numbers(tmp_path, protocol):
    scalars = [np.int64(-3), np.float32(0.5), np.bool_(True), np.uint8(255)]
    content = pickle.dumps(scalars, protocol=protocol)
    same(read_plain_pickle(stored(tmp_path, content)), [-3, 0.5, True, 255])


def test_what_refers_to_itself(tmp_path):
    value = [1]
    value.append(value)
    found = read_plain_pickle(stored(tmp_path, pickle.dumps(value)))
    assert found[0] == 1 and found[1] is found
    doubled = []
    for _ in range(60):  # 2^60 lists if each were copied where it appears
        doubled = [doubled, doubled]
    assert len(read_plain_pickle(stored(tmp_path, pickle.dumps(doubled)))) == 2


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"image_data": [x]}, lambda x: np.array([x, 1], dtype=object)]
)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol, wrap):
    ran = tmp_path / "ran"
    content = pickle.dumps(wrap(Evil(os.system, f"touch {ran}")), protocol=protocol)
    with pytest.raises(
        InputError, match=r"names '(posix|nt)\.system', which would be run|type 'O8'"
    ) as refused:
        read_plain_pickle(stored(tmp_path, content))
    assert not ran.exists() and "\n" not in str(refused.value)
    pickle.loads(content)  # the attack is a real one
    assert ran.exists()


@pytest.mark.parametrize(
    "value",
    [
        Evil(eval, "1"), Evil(getattr, "a", "upper"), Evil(np.load, "a"), Evil(bytearray, 9), Evil(print, "x"),
        Evil(pickle.loads, b"N."), collections.OrderedDict(a=1), datetime.date(2026, 1, 1), os.system,
        np.random.default_rng(0), np.ma.masked_array([1]), slice(1),
    ],
)  # fmt: skip
def test_other_names_are_refused(tmp_path, value, capsys):
    for protocol in (2, 4):
        with pytest.raises(InputError, match="which would be run"):
            read_plain_pickle(stored(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([{"a": 1}], dtype=object), "type 'O8'"),
        (np.array(["a"]), "type 'U1'"),
        (np.zeros(1, dtype=[("a", "u1")]), "type 'V1'"),
        (np.zeros(1, dtype="M8[s]"), "type 'M8'"),
        (np.zeros(1, dtype=complex), "type 'c16'"),
        ({1, 2}, "holds a set|names 'builtins.set'|names '__builtin__.set'"),
    ],
)
def test_what_is_not_plain(tmp_path, value, reason):
    for protocol in (2, 4, 5):
        with pytest.raises(InputError, match=reason):
            read_plain_pickle(stored(tmp_path, pickle.dumps(value, protocol=protocol)))


CRAFTED = {
    "attributes of a class": b"\x80\x02cnumpy\nndarray\n}\x8c\x06__new__\x8c\x01xsb.",
    "attributes of a class in slots": b"\x80\x02cnumpy\nndarray\nN}\x8c\x01a\x8c\x01xs\x86b.",
    "attributes of another class": b"\x80\x02c_codecs\nencode\n}\x8c\x01a\x8c\x01xsb.",
    "the class itself": b"\x80\x02cnumpy\nndarray\n.",
    "a subclass": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
    "an array never filled": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
    "another encoding": b"\x80\x02c_codecs\nencode\n\x8c\x01a\x8c\x06base64\x86R.",
    "a persistent id": b"\x80\x02K\x01Q.",
    "an extension code": b"\x80\x02\x82\x07.",
    "a long chain of lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.system\x93.",
    "a number of too many digits": b"I" + b"9" * 10_000 + b"\n.",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files_are_refused_and_change_nothing(tmp_path, name):
    before = {kind: dict(vars(kind)) for kind in plain_pickle._NAMES.values()}
    with pytest.raises(InputError) as refused:
        read_plain_pickle(stored(tmp_path, CRAFTED[name]))
    assert "\n" not in str(refused.value)
    assert {kind: dict(vars(kind)) for kind in before} == before


def test_an_array_whose_size_does_not_match(tmp_path):
    content = python3(2)(np.arange(4, dtype=np.uint8))
    for wrong in (b"K\x05\x85", b"J\xff\xff\xff\xff\x85"):
        with pytest.raises(InputError, match="a.pkl"):
            read_plain_pickle(stored(tmp_path, content.replace(b"K\x04\x85", wrong, 1)))


def test_damaged_files(tmp_path):
    content = python3(5)({"image_data": np.arange(100, dtype=np.uint8)})
    for end in range(len(content)):
        with pytest.raises(InputError):
            read_plain_pickle(stored(tmp_path, content[:end]))
    with pytest.raises(InputError, match="truncated, damaged or no pickle"):
        read_plain_pickle(stored(tmp_path, b"PK\x03\x04 an archive"))
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        read_plain_pickle(tmp_path / "absent.pkl")
    with pytest.raises(InputError, match="cannot read"):
        read_plain_pickle(tmp_path)
