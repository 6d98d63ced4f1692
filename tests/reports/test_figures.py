import pytest
from PIL import Image

from weightgen.reports.figures import contact_sheet, draw_bars, draw_guidance, flat_rows, markdown_table

GROUP = {
    "chance": 0.25,
    "clip": 0.4,
    "hvae_hyperldm": {"0.0": 0.5, "1.5": 0.625},
    "micro": {"chance": 0.9},
    "std": {"hvae_hyperldm": {"0.0": 0.01, "1.5": 0.02}},
}
REPORT = {
    "zero_shot": GROUP,
    "novel_composition": {**GROUP, "clip": 0.1},
    "few_shot": {"mnet_maml": 0.75, "novel_composition": 0.7},
}


def test_flat_rows():
    rows = flat_rows(GROUP)
    assert rows == {
        "chance": 0.25,
        "clip": 0.4,
        "hvae_hyperldm, scale 0.0": 0.5,
        "hvae_hyperldm, scale 1.5": 0.625,
    }


def test_table_has_both_kinds_of_task_and_the_spread_of_sampled_rows():
    lines = markdown_table(REPORT).splitlines()
    assert lines[0] == "| | random questions | novel compositions |"
    assert "| clip | 40.0 | 10.0 |" in lines
    assert "| hvae_hyperldm, scale 1.5 | 62.5 ± 2.0 | 62.5 ± 2.0 |" in lines
    assert lines[-1] == "| few-shot mnet_maml | 75.0 | 70.0 |"
    assert len(lines) == 2 + 5


def test_plots_are_pictures(tmp_path):
    draw_bars(REPORT, tmp_path / "bars.png")
    draw_guidance({"0.0": 0.4, "1.0": 0.6}, tmp_path / "curve.png")
    for name in ("bars.png", "curve.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG" and min(image.size) > 300


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
