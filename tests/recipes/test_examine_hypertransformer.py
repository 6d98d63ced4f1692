"""What a HyperTransformer writes: no variation where nothing is generated, shares that add up, attention that is known."""

import numpy as np
import pytest
import torch

from tests.app.runs import untrained_run
from tests.recipes.small import loaded
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.storage.files import read_json


@pytest.fixture(scope="module")
def study(root):
    return loaded(root, "studies/examine_hypertransformer")


def test_an_untrained_model(study, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28), dtype=np.uint8)
    write_few_shot_arrays(
        tmp_path / "data", images, np.repeat(np.arange(8), 10), list("abcdefgh"), {"test": range(8)}, {}
    )
    torch.manual_seed(0)
    study.main(study.Config(model=untrained_run(tmp_path / "run"), data=str(tmp_path / "data"),
                            output=str(tmp_path / "a.json"), shots=2, episodes=8, batch_size=4))  # fmt: skip
    report = read_json(tmp_path / "a.json")
    assert set(report["variation"]) == {*(f"convs.{i}.weight" for i in range(4)), "head.weight", "head.bias"}
    assert all(0 < value < 10 for value in report["variation"].values())
    assert set(report["likeness"]) == {f"convs.{i}.weight" for i in range(4)}
    assert all(-1 <= value <= 1 for value in report["likeness"].values())
    assert all(0 <= value <= 100 for value in report["accuracy"].values())
    assert len(report["attention"]) == 1
    for shares in (*report["attention"], report["even"]):
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
