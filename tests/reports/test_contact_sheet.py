import pytest
from PIL import Image

from weightgen.reports.contact_sheet import FEWEST_COLUMNS, Answered, contact_sheet


def plain(colour="white", answer="red", share=0.7, truth=None):
    return Answered(Image.new("RGB", (64, 40), colour), answer, share, truth)


def colours(sheet):
    return [colour for _, colour in sheet.getcolors(maxcolors=1 << 16)]


@pytest.mark.parametrize("count", [1, 6, 7])
def test_every_picture_is_there(count):
    sheet = contact_sheet([plain((0, 0, 200 + i)) for i in range(count)], "What is it?", ["note"])
    assert {(0, 0, 200 + i) for i in range(count)} <= set(colours(sheet))


def test_right_is_green_wrong_is_red_and_without_a_truth_it_is_neither():
    def inks(truth):
        found = colours(contact_sheet([plain(truth=truth)], "?"))
        return sum(g > r + 40 for r, g, _ in found), sum(r > g + 60 for r, g, _ in found)

    right, wrong, unknown = inks("red"), inks("blue"), inks(None)
    assert right[0] > 0 and right[1] == 0
    assert wrong[0] == 0 and wrong[1] > 0
    assert unknown[1] == 0


def test_a_bar_is_as_long_as_the_share():
    def length(share):
        sheet = contact_sheet([plain(share=share, truth="red")], "?")
        ink = (31, 122, 52)
        rows = [[sheet.getpixel((x, y)) == ink for x in range(sheet.width)] for y in range(sheet.height)]
        return max(map(sum, rows))

    assert length(1.0) == pytest.approx(2 * length(0.5), abs=4)


def test_a_long_question_is_wrapped_and_a_warning_is_red():
    pictures = [plain() for _ in range(FEWEST_COLUMNS)]
    short, long = (contact_sheet(pictures, text) for text in ("What is it?", "What is it made of? " * 9))
    assert long.width == short.width and long.height > short.height
    warned = contact_sheet(pictures, "What is it?", warning="unlike all")
    assert warned.height > short.height and any(r > g + 60 for r, g, _ in colours(warned))
    assert contact_sheet(pictures, "x" * 500).width == short.width
