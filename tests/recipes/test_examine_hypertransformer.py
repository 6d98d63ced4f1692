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
    assert len(report["attention"]) == 1
    for shares in (*report["attention"], report["even"]):
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_shares_go_to_the_right_tokens(study):
    weights = torch.zeros(1, 2, 2, 5)  # 2 placeholders, 3 samples
    weights[:, :, 0] = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0])
    weights[:, :, 1] = torch.tensor([0.0, 0.1, 0.0, 0.3, 0.6])
    found = study.shares_of(weights, torch.tensor([[0, 1, 1]]), slots=2)
    assert found == pytest.approx({"own class": 0.75, "other samples": 0.15, "placeholders": 0.1}, abs=1e-4)


def test_likeness_is_the_mean_correlation_of_two_channels(study):
    kernel = torch.randn(2, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert study.likeness_of(kernel.repeat(1, 4, 1, 1, 1)) == pytest.approx(1, abs=1e-3)
    assert study.likeness_of(torch.cat([kernel, -kernel, 2 * kernel], dim=1)) == pytest.approx(
        -1 / 3, abs=1e-3
    )
    rows = torch.randn(1, 3, 9, generator=torch.Generator().manual_seed(1))
    wanted = (np.corrcoef(rows[0].numpy()).sum() - 3) / 6
    assert study.likeness_of(rows) == pytest.approx(wanted, abs=1e-3)
