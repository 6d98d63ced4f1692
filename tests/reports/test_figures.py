import pytest
from PIL import Image

from weightgen.reports.figures import contact_sheet, draw_bars, draw_curves, saved_figure


def test_plots_are_pictures(tmp_path):
    rows = {"chance": 0.25, "hyperldm, 1.5": 0.6}
    draw_bars({"test": rows, "novel_composition": rows}, tmp_path / "two.png")
    draw_bars({"test": rows}, tmp_path / "one.png")
    curve = {"0.0": {"mean": 0.4, "std": None}, "1.0": {"mean": 0.6, "std": 0.1}}
    draw_curves({"HyperLDM": curve}, {"chance": {"mean": 0.25}}, tmp_path / "curve.png", "scale", "title")
    for name in ("one.png", "two.png", "curve.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG" and min(image.size) > 300
    assert len(list(tmp_path.iterdir())) == 3


def test_a_figure_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), saved_figure(tmp_path / "a.png"):
        raise KeyError("x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 6, 7])
def test_contact_sheet_holds_every_picture(count):
    images = [Image.new("RGB", (64, 64), (0, 0, 200 + i)) for i in range(count)]
    sheet = contact_sheet(images, ["red"] * count, ["red"] * count, "title\nmore")
    colours = {colour for _, colour in sheet.getcolors(maxcolors=1 << 16)}
    assert {(0, 0, 200 + i) for i in range(count)} <= colours


def test_contact_sheet_marks_right_in_green_and_wrong_in_red():
    def inks(answer: str) -> tuple[int, int]:
        sheet = contact_sheet([Image.new("RGB", (8, 8), "white")], [answer], ["red"], "")
        colours = [colour for _, colour in sheet.getcolors(maxcolors=1 << 16)]
        return sum(g > r + 40 for r, g, _ in colours), sum(r > g + 40 for r, g, _ in colours)

    right, wrong = inks("red"), inks("blue")
    assert right[0] > 0 and right[1] == 0
    assert wrong[0] == 0 and wrong[1] > 0
