"""The page in a real browser, as a visitor uses it. With WEIGHTGEN_SCREENSHOTS=FOLDER it leaves pictures of what it saw there."""

import gc
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from safetensors import safe_open

from weightgen.data.photos.photographs import photograph_paths
from weightgen.encoders.packaged_towers import PACKAGED, packaged_weights

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. .function BaseEventLoop:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.skipif(find_spec("gradio") is None, reason="the extra weightgen[app] is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium"),
    pytest.mark.skipif(
        any(packaged_weights(name) is None for name in PACKAGED),
        reason="the extra weightgen[photos] is not installed",
    ),
]
LONG = (
    "Looking at everything that can be seen in this photograph, and not only at the largest thing in it, would you say that "
    "there is at least one thing that could be used by a grown person to travel from one town to another within a single day, "
    "be it on a road, on rails, on the water or in the air, without the help of an animal or of another person?"
)


@pytest.fixture(scope="module")
def address(root):
    """A page that is served by the command, on a free port."""
    command = [sys.executable, "-W", "ignore", "-m", "weightgen", "app", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True)
    try:
        told = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+/", told)[0]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
    gc.collect()  # the loop that playwright leaves open complains here, and not in a test that runs later


@pytest.fixture
def visit(address, browser):
    """Open the page in a window of some size; afterwards, every request must have gone to this machine."""
    opened, requests, complaints = [], [], []

    def open_page(width=1280, height=860, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("button#ask")
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert len(requests) > 10 and not complaints
    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def shot(page, name):
    folder = os.environ.get("WEIGHTGEN_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(800)  # animations
        path = Path(folder, f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, full_page=True)
        small = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        small.save(path, optimize=True)


def upload(page, selector, *paths):
    page.set_input_files(f"{selector} input[type=file]", [str(path) for path in paths])
    page.wait_for_function(
        "([s, n]) => document.querySelectorAll(s + ' img').length >= n", arg=[selector, len(paths)]
    )


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_question_is_answered(visit, tmp_path):
    page = visit()
    page.fill("#question textarea", "Does it have any wheels?")
    page.fill("#answers textarea", "")
    page.click("#suggest")
    page.wait_for_function("document.querySelector('#answers textarea').value == 'yes, no'")
    assert "nearest known question" in page.inner_text("#origin")
    page.click("#examples")
    page.wait_for_function("document.querySelectorAll('#pictures img').length >= 6")
    page.click("button#ask")
    page.wait_for_selector("#answered .wg-card")
    answers = [one.inner_text() for one in page.query_selector_all("#answered .wg-answer")]
    assert len(answers) == 6 and set(answers) <= {"yes", "no"}
    assert answers[0] == "no" and answers[2] == "yes"  # the cat and the motorcycle
    text = page.inner_text("#answered")
    assert "Familiarity" in text and "8 × 12,512 weights were written in" in text
    with page.expect_download() as download:
        page.click("#download-safetensors")
    assert download.value.suggested_filename == "does-it-have-any-wheels.safetensors"
    download.value.save_as(tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.get_slice("weights").get_shape() == [8, 12512]
    assert fits(page)
    shot(page, "question")


def test_the_same_seed_gives_the_same_answers(visit):
    shares = []
    for seed in ("1", "2", "1"):
        page = visit()
        upload(page, "#pictures", photograph_paths()[4])
        page.click("text=Settings")
        field = page.locator("#ask-seed input")
        field.click(click_count=3)
        field.press_sequentially(seed, delay=100)  # as a person types: the page listens to keys
        field.press("Tab")
        page.click("button#ask")
        page.wait_for_selector("#answered .wg-card")
        shares.append(page.get_attribute("#answered .wg-row", "title"))
    assert shares[0] == shares[2] != shares[1]


@pytest.mark.parametrize(
    ("question", "answers", "line", "sentence"),
    [
        ("  ", "yes, no", "#error-question", "write a question, such as"),
        ("Is it red?", "", "#error-answers", "write the answers to choose from"),
        ("Is it red?", "yes", "#error-answers", "two answers or more"),
        ("Is it red?", "yes, <b>yes</b>, yes", "#error-answers", "must differ"),
    ],
)
def test_errors_are_sentences_beside_the_field(visit, question, answers, line, sentence):
    page = visit()
    page.fill("#question textarea", question)
    page.fill("#answers textarea", answers)
    page.click("button#ask")
    page.wait_for_selector(f"{line} .wg-error")
    told = page.inner_text(line)
    assert sentence in told and "Traceback" not in page.content()
    assert len(page.query_selector_all(".wg-error")) == 1
    field = page.locator(line.replace("error-", "")).bounding_box()
    error = page.locator(line).bounding_box()
    assert 0 <= error["y"] - (field["y"] + field["height"]) < 40
    if answers == "yes":
        shot(page, "error")
    # Once it is mended, the sentence is gone.
    page.fill("#question textarea", "Is it red?")
    page.fill("#answers textarea", "yes, no")
    page.click("button#ask")
    page.wait_for_selector("#answered .wg-title")
    assert not page.query_selector_all(".wg-error")


def test_what_is_no_picture_is_told_by_its_name(visit, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    page = visit()
    page.set_input_files("#pictures input[type=file]", tmp_path / "broken.png")
    page.wait_for_selector("#pictures img", state="attached")
    page.click("button#ask")
    page.wait_for_selector("#error-pictures .wg-error")
    assert page.inner_text("#error-pictures").startswith("broken.png is not an image that can be read")


def test_a_large_file_is_refused(visit, tmp_path):
    (tmp_path / "large.png").write_bytes(photograph_paths()[0].read_bytes() + bytes(11 * 2**20))
    page = visit()
    page.set_input_files("#pictures input[type=file]", tmp_path / "large.png")
    page.wait_for_selector("text=/maximum allowed size|too large|exceed/i")
    assert "Traceback" not in page.content()


def test_a_long_question_in_a_narrow_window(visit):
    page = visit(width=380, height=800)
    page.fill("#question textarea", LONG)
    upload(page, "#pictures", *photograph_paths()[2:4])
    page.click("button#ask")
    page.wait_for_selector("#answered .wg-card")
    assert "The encoder reads" in page.inner_text("#answered") or LONG[-40:] in page.inner_text("#answered")
    assert fits(page)
    shot(page, "narrow")


def test_few_examples_alone_and_with_a_question(visit):
    page = visit()
    page.get_by_role("tab", name="Few examples").click()
    page.click("#teach")
    page.wait_for_selector("#error-groups .wg-error")
    assert "at least two answers" in page.inner_text("#error-groups")
    page.click("#fill")
    page.wait_for_function("document.querySelectorAll('#queries img').length >= 3")
    page.click("#teach")
    page.wait_for_selector("#taught .wg-card")
    text = page.inner_text("#taught")
    assert "3 examples and the question together" in text and "Does it have wheels?" in text
    shot(page, "examples")
    page.fill("#group-question textarea", "")
    page.click("#teach")
    page.wait_for_selector("#taught >> text=Examples alone")
    assert "3 examples alone" in page.inner_text("#taught") and fits(page)


def draw(page, element, *strokes):
    """Draw lines between points, given in fractions of the white square in the middle of the canvas."""
    from weightgen.app.characters_tab import SIDE  # needs the extra "app"

    canvas = page.locator(f"{element} canvas").first
    canvas.scroll_into_view_if_needed()
    page.click(f"{element} button[aria-label='Clear canvas']")
    page.wait_for_timeout(300)
    page.click(f"{element} button[aria-label=Brush]")
    page.wait_for_timeout(300)
    box = canvas.bounding_box()
    left, top = box["x"] + (box["width"] - SIDE) / 2, box["y"] + (box["height"] - SIDE) / 2
    for (x, y), (u, v) in strokes:
        page.mouse.move(left + x * SIDE, top + y * SIDE)
        page.mouse.down()
        page.mouse.move(left + u * SIDE, top + v * SIDE, steps=8)
        page.mouse.up()


def press(page, button, done):
    """Press a button until something is there: a drawing reaches the page a moment after the last stroke."""
    for _ in range(3):
        page.click(button)
        try:
            return page.wait_for_selector(done, timeout=20_000)
        except sync_api.TimeoutError:
            continue
    raise AssertionError(page.inner_text("#draw-example, #draw-query"))


CROSS = [((0.3, 0.3), (0.7, 0.7)), ((0.7, 0.3), (0.3, 0.7))]
SQUARE = [
    ((0.3, 0.3), (0.7, 0.3)),
    ((0.7, 0.3), (0.7, 0.7)),
    ((0.7, 0.7), (0.3, 0.7)),
    ((0.3, 0.7), (0.3, 0.3)),
]
LARGE_CROSS = [((0.2, 0.25), (0.75, 0.8)), ((0.8, 0.2), (0.25, 0.75))]


def test_drawn_characters(visit):
    page = visit()
    page.get_by_role("tab", name="Drawn characters").click()
    page.wait_for_selector("#draw-example canvas")
    page.wait_for_timeout(1500)
    page.click("#add-drawing")
    page.wait_for_selector("#error-draw-example .wg-error")
    assert "draw a character first" in page.inner_text("#error-draw-example")
    for number, strokes in enumerate((CROSS, SQUARE), 1):
        draw(page, "#draw-example", *strokes)
        page.wait_for_timeout(1000)
        press(page, "#add-drawing", f":nth-match(#drawings img, {number})")
        page.wait_for_timeout(500)
    draw(page, "#draw-query", *LARGE_CROSS)
    page.wait_for_timeout(1000)
    press(page, "#read", "#read-answer .wg-card")
    assert "weights was written from 2 drawings" in page.inner_text("#read-answer")
    assert page.inner_text("#read-answer .wg-answer") == "A"  # the class of the cross
    assert fits(page)
    shot(page, "characters")


def test_dark(visit):
    page = visit(scheme="dark")
    upload(page, "#pictures", *photograph_paths()[:3])
    page.fill("#answers textarea", "yes")
    page.click("button#ask")
    page.wait_for_selector(".wg-error")
    page.fill("#answers textarea", "yes, no")
    page.click("button#ask")
    page.wait_for_selector("#answered .wg-card")
    shot(page, "dark")


def test_other_sites_cannot_use_the_page(address, browser):
    context = browser.new_context(extra_http_headers={"Host": "weightgen.example"})
    answer = context.request.get(address)
    assert answer.status == 400
    assert "default-src 'self'" in context.request.get(address, headers={"Host": "127.0.0.1"}).headers[
        "content-security-policy"
    ]  # fmt: skip
    context.close()
