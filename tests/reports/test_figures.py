import pytest
from PIL import Image

from weightgen.reports.figures import draw_bars, draw_curves, saved_figure


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
