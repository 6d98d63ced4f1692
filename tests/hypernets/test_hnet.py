import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen import InputError
from weightgen.hypernets import HNet
from weightgen.nn.mlp import kaiming_mlp
from weightgen.storage.hub import load_part
from weightgen.weights import WeightSpace

SPACE = WeightSpace.of(nn.Linear(3, 2))
CONDITION = 5


def fitted(**options):
    hypernet = HNet(SPACE, CONDITION, hidden_dims=(16, 12), **options)
    hypernet.fit(3 + 2 * torch.randn(50, CONDITION))
    return hypernet


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_shapes(lead):
    assert fitted()(torch.randn(*lead, CONDITION)).shape == (*lead, SPACE.size)


def test_rows_do_not_depend_on_each_other():
    hypernet, conditions = fitted(), torch.randn(6, CONDITION)
    assert_close(hypernet(conditions)[2:4], hypernet(conditions[2:4]))
    assert not torch.allclose(hypernet(conditions)[0], hypernet(conditions)[1])


def test_the_formula():
    hypernet, conditions = fitted(), torch.randn(4, CONDITION)
    x = (conditions - hypernet.condition.mean) / hypernet.condition.std
    for layer in (hypernet.mlp[0], hypernet.mlp[2]):
        x = torch.relu(x @ layer.weight.T + layer.bias)
    hypernet.base.data.normal_()
    assert_close(hypernet(conditions), hypernet.base + x @ hypernet.mlp[4].weight.T + hypernet.mlp[4].bias)


def test_the_papers_size():
    adapter = WeightSpace((("w1", (256, 768)), ("b1", (256,)), ("w2", (768, 256)), ("b2", (768,))))
    with torch.device("meta"):
        mlp = kaiming_mlp([64, 256, adapter.size])
    assert sum(p.numel() for p in mlp.parameters()) == 101_336_320


def test_initialisation():
    mlp = kaiming_mlp([400, 300, 500])
    assert mlp[0].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert mlp[2].weight.std().item() == pytest.approx((1 / 300) ** 0.5, rel=0.02)
    assert (mlp[0].bias == 0).all() and (mlp[2].bias == 0).all()


def test_starts_where_it_is_told():
    weights = torch.randn(SPACE.size)
    hypernet = fitted().init_weights(weights)
    out = hypernet(torch.randn(7, CONDITION))
    assert torch.equal(out, weights.expand(7, -1))
    ((out - torch.randn_like(out)) ** 2).sum().backward()
    torch.optim.SGD(hypernet.parameters(), lr=0.1).step()
    moved = hypernet(torch.randn(2, CONDITION))
    assert not torch.allclose(moved[0], moved[1])  # it can still learn to tell conditions apart


def test_every_parameter_learns():
    hypernet = fitted()
    hypernet(torch.randn(8, CONDITION)).square().sum().backward()
    for name, parameter in hypernet.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_noise_is_drawn_in_training_alone():
    hypernet, conditions = fitted(input_noise=0.5), torch.randn(3, CONDITION)
    assert not torch.allclose(hypernet(conditions), hypernet(conditions))
    hypernet.eval()
    assert torch.equal(hypernet(conditions), hypernet(conditions))
    quiet = fitted()
    assert torch.equal(quiet(conditions), quiet(conditions))


def test_needs_the_statistics_of_its_conditions():
    with pytest.raises(InputError, match="no statistics"):
        HNet(SPACE, CONDITION)(torch.randn(2, CONDITION))


def test_save_and_load(tmp_path):
    hypernet, conditions = fitted(input_noise=0.1).eval(), torch.randn(4, CONDITION)
    hypernet.save_pretrained(tmp_path)
    loaded = load_part(HNet, tmp_path)
    assert torch.equal(loaded(conditions), hypernet(conditions))
    assert loaded.space == SPACE and loaded.input_noise == 0.1 and not loaded.training
    assert {"condition.mean", "condition.std", "condition.count"} <= loaded.state_dict().keys()
    assert "condition.mean" not in dict(loaded.named_parameters())
