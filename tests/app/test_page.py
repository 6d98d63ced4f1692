"""What the page computes, without a browser and without Gradio; and, where Gradio is there, that the page can be built."""

import base64
import gc
import io
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.app.runs import untrained_run
from tests.tiny import tiny_pipeline
from weightgen import InputError, SupportClassifier
from weightgen.app.asking import Settings, ask, suggested_answers
from weightgen.app.cards import cards, error_line
from weightgen.app.downloads import write_download
from weightgen.app.drawing import Draughtsman, drawn
from weightgen.app.fields import FieldError
from weightgen.app.teaching import teach
from weightgen.app.uploads import MAX_PICTURES, read_upload, read_uploads
from weightgen.cli import main

STAR = "What color is the star?"
# Gradio makes an event loop when it is imported, and leaves it open with its two sockets.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(function BaseEventLoop|socket):pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module", autouse=True)
def _open_loops():
    """What is left open complains here, and not in a test that runs later."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"), ["yes", "no"])


@pytest.fixture(scope="module")
def pictures():
    return [Image.new("RGB", (40, 32), color) for color in ("red", "blue", "green")]


def test_a_reply_holds_what_each_sample_says(pipe, pictures):
    reply = ask(pipe, f" {STAR} ", "red, green,blue", pictures, Settings(3, 1.0, 7))
    assert reply.answers == ["red", "green", "blue"] and reply.shares.shape == (3, 3, 3)
    expected = pipe(
        STAR, reply.answers, num_samples=3, guidance_scale=1.0, generator=torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(reply.out.weights, expected.weights)
    torch.testing.assert_close(reply.shares[1], expected.classifier(0, 1).probabilities(pictures))
    assert min(reply.seconds) > 0


def test_without_pictures_there_are_weights(pipe):
    reply = ask(pipe, STAR, "red,green", [])
    assert reply.shares.shape == (8, 0, 2) and reply.out.weights.shape[:2] == (1, 8)
    assert "Add a picture" in cards(STAR, [], reply.answers, reply.shares)


def test_the_end_of_a_long_question_is_told(tmp_path):
    short = tiny_pipeline(tmp_path)  # its CLIP reads twelve words
    short.template = "{} is it"
    with pytest.warns(UserWarning, match="the encoder reads"):
        reply = ask(short, STAR + " is it red?" * 10, "red, green", [])
    assert any(note.startswith("The encoder reads") for note in reply.notes)


@pytest.mark.parametrize(
    ("question", "answers", "settings", "field", "sentence"),
    [
        ("  ", "red, green", {}, "question", "write a question"),
        ("a" * 1001, "red, green", {}, "question", "at most 1,000"),
        (STAR, " ", {}, "answers", "with commas between"),
        (STAR, "red", {}, "answers", "two answers or more"),
        (STAR, '"red, green', {}, "answers", "unexpected end"),
        (STAR, "red, Red", {}, "answers", "capitals or spaces"),
        (STAR, ",".join(map(str, range(101))), {}, "answers", "at most 100"),
        (STAR, "red, green", {"num_samples": 65}, "settings", "from 1 to 64"),
        (STAR, "red, green", {"seed": None}, "settings", "write a seed"),
        (STAR, "red, green", {"seed": -1}, "settings", "seed must be"),
        (STAR, "red, green", {"guidance_scale": float("nan")}, "settings", "finite"),
    ],
)
def test_mistakes_name_their_field(pipe, question, answers, settings, field, sentence):
    with pytest.raises(FieldError, match=sentence) as caught:
        ask(pipe, question, answers, [], Settings(**settings))
    assert caught.value.field == field and "\n" not in str(caught.value)


def test_suggestions(pipe):
    class Known:
        def nearest(self, prompt, of):
            assert prompt == STAR and of is pipe
            return {"answers": ["red", "blue"], "question": "which color?"}

    assert suggested_answers(pipe, Known(), f"{STAR} ") == (["red", "blue"], "which color?")
    with pytest.raises(FieldError, match="write the answers"):
        suggested_answers(pipe, None, STAR)


def test_uploads(tmp_path, pictures):
    pictures[0].save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no picture")
    Image.new("1", (8000, 5001)).save(tmp_path / "wide.png")
    (tmp_path / "large.png").write_bytes(bytes(10 * 2**20 + 1))
    assert [one.size for one in read_uploads([(str(tmp_path / "red.png"), None), tmp_path / "red.png"])] == [
        (40, 32)
    ] * 2
    assert read_uploads(None) == []
    for name, sentence in [
        ("broken", "is not an image"),
        ("wide", "more than 40,000,000 pixels"),
        ("large", "larger than 10 MB"),
    ]:
        with pytest.raises(InputError, match=rf"^{name}\.png .*{sentence}"):
            read_upload(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=f"at most {MAX_PICTURES}"):
        read_uploads(["x.png"] * (MAX_PICTURES + 1))


def test_cards_show_the_mean_and_escape_what_was_written(pictures):
    shares = torch.tensor([[[0.9, 0.1]], [[0.7, 0.3]]])
    html = cards("<script>?", pictures[:1], ["<b>", "no"], shares, ["a & b"])
    assert "<script>" not in html and "<b>" not in html and "&lt;b&gt;" in html and "a &amp; b" in html
    assert re.findall(r"(\d+)%</span>", html) == ["80", "20"]
    assert "left:70.00%;width:20.00%" in html and "samples from 10.0% to 30.0%" in html
    (data,) = re.findall(r"base64,([^\"]+)", html)
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((9, 9))[0] > 200
    assert "<i>" not in error_line("<i>")


def test_downloads_are_named_after_the_question(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    reply = ask(pipe, STAR, "red, green", [])
    path = write_download(reply.out, "safetensors")
    assert path.endswith("/what-color-is-the-star.safetensors") and path.startswith(str(tmp_path))
    torch.testing.assert_close(pipe.load_weights(path).weights, reply.out.weights)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slow_formats_are_made_when_asked_for(pipe, tmp_path, monkeypatch):
    gr = pytest.importorskip("gradio")
    from weightgen.app.components import Downloads

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    out = ask(pipe, STAR, "red, green", []).out
    with gr.Blocks():
        downloads = Downloads.build("download")
    assert set(downloads.offer(None)) == set(downloads.components)
    shown = {
        each.elem_id
        for each, update in downloads.offer(out).items()
        if update is not out and update["visible"]
    }
    assert shown == {"download-safetensors", "download-make-onnx"}
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".safetensors"]
    with pytest.raises(gr.Error, match="no low-rank adapters"):
        downloads.on_make("zip", out)


@pytest.mark.slow
def test_the_page_hands_out_onnx(pipe, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    out = ask(pipe, STAR, "red, green", [], Settings(2, 1.0, 0)).out
    path = write_download(out, "onnx")
    assert path.endswith("/what-color-is-the-star.onnx")
    features = torch.randn(3, pipe.encoder.image_dim)
    (found,) = runtime.InferenceSession(path).run(None, {"inputs": features.numpy()})
    wanted = torch.stack([out.classifier(0, k)(features).softmax(dim=-1) for k in range(2)]).mean(dim=0)
    torch.testing.assert_close(torch.from_numpy(found), wanted.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("question", ["", STAR])
def test_teaching(pipe, pictures, question):
    found = teach(pipe, [("red", pictures[:1]), ("", []), ("blue", pictures[1:2])], question, pictures[:2])
    assert found.answers == ["blue", "red"]
    assert found.shares.shape == (1, 2, 2)
    fitted = SupportClassifier(pipe).fit(pictures[:2], ["red", "blue"], prompt=question or None)
    torch.testing.assert_close(found.shares[0], torch.from_numpy(fitted.predict_proba(pictures[:2])))
    assert ("alone" in found.notes[0]) == (not question)


@pytest.mark.parametrize(
    ("names", "counts", "question", "queries", "field", "sentence"),
    [
        (["red", ""], [1, 0], "", 1, "groups", "at least two answers"),
        (["red", ""], [1, 1], "", 1, "groups", "have no answer"),
        (["red", "blue"], [1, 0], "", 1, "groups", "'blue' has no example"),
        (["red", "red "], [1, 1], "", 1, "groups", "given twice"),
        (["red", 'b"'], [1, 1], "", 1, "groups", "without double quotes"),
        (["red", "Red"], [1, 1], STAR, 1, "groups", "capitals or spaces"),
        (["red", "blue"], [1, 1], "a" * 1001, 1, "question", "at most"),
        (["red", "blue"], [1, 1], "", 0, "queries", "add a picture"),
    ],
)
def test_mistakes_in_teaching(pipe, pictures, names, counts, question, queries, field, sentence):
    groups = [(name, pictures[:count]) for name, count in zip(names, counts, strict=True)]
    with pytest.raises(FieldError, match=sentence) as caught:
        teach(pipe, groups, question, pictures[:queries])
    assert caught.value.field == field


def sketch(column):
    canvas = np.zeros((105, 105, 4), np.uint8)
    canvas[20:80, column : column + 9, 3] = 255  # black ink, elsewhere transparent
    return {"composite": canvas, "layers": [], "background": None}


def test_a_cnn_reads_drawings(tmp_path):
    draughtsman = Draughtsman.load(untrained_run(tmp_path))
    left, right = drawn(sketch(20)), drawn(sketch(70))
    assert left.mode == "L" and left.getpixel((24, 50)) == 0 and left.getpixel((60, 50)) == 255
    found = draughtsman.read([("A", left), ("B", right), ("A", left)], left)
    assert found.names == ["A", "B"] and found.shares.shape == (1, 1, 2) and found.size > 100
    swapped = draughtsman.read([("B", left), ("A", right), ("B", left)], left)
    assert swapped.names == ["A", "B"] and not torch.equal(swapped.shares, found.shares)
    with pytest.raises(InputError, match="2 to 5 classes, got 1"):
        draughtsman.read([("A", left)], left)


def test_wrong_drawings_and_runs(tmp_path):
    for nothing in (None, {"composite": None}, {"composite": np.zeros((9, 9, 4), np.uint8)}):
        with pytest.raises(InputError, match="draw a character"):
            drawn(nothing)
    with pytest.raises(InputError, match="is no HyperTransformer"):
        Draughtsman.load(tmp_path)
    (tmp_path / "training.json").write_text('{"settings": {}}')
    with pytest.raises(InputError, match="settings lack 'mean'"):
        Draughtsman.load(tmp_path)
    with pytest.raises(InputError, match="pictures in color"):
        Draughtsman.load(untrained_run(tmp_path / "color", image_channels=3))


def test_the_command_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "weightgen.app.page", raising=False)
    monkeypatch.delitem(sys.modules, "weightgen.app.components", raising=False)
    with pytest.raises(SystemExit):
        main(["app"])
    assert "pip install 'weightgen[app]'" in capsys.readouterr().err


def test_hosts():
    pytest.importorskip("starlette")
    from weightgen.app.security import is_loopback, middleware

    local = ("localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]")
    assert all(map(is_loopback, local))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.4", "example.org", "::")))
    assert len(middleware("127.0.0.1")) == 2 and len(middleware("0.0.0.0")) == 1


def test_addresses():
    pytest.importorskip("gradio", exc_type=ImportError)
    import socket

    from weightgen.app.page import check_address

    assert check_address("127.0.0.1", 0) > 1023
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="choose another --port"):
            check_address("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="choose another --port or --host"):
        check_address("203.0.113.7", 0)
    with pytest.raises(InputError, match="port must be"):
        check_address("127.0.0.1", 70000)
