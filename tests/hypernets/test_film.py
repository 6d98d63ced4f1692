import pytest
import torch
from torch.nn import functional

from weightgen import CLIPAdapter, FunctionalNetwork, InputError, WeightSpace
from weightgen.hypernets import FiLM, HNet
from weightgen.networks import MLP
from weightgen.storage.hub import load_part

E, H = 6, 3


def network_and_film(**options):
    network = CLIPAdapter(E, H, init="authors").double()
    space = WeightSpace.of(network)
    film = FiLM(space, 5, (8,), **options).double().eval()
    film.fit(torch.randn(20, 5).double())
    with torch.no_grad():
        film.base.copy_(space.flatten(dict(network.named_parameters())))
    return network, film


def test_it_is_a_modulation_of_the_features():
    """The weights it writes do what (1 + γ) y + β does after each layer of the shared network, for every task."""
    network, film = network_and_film()
    condition, x = torch.randn(4, 5).double(), torch.randn(4, 7, E).double()
    answers = torch.randn(4, 3, E).double()
    found = FunctionalNetwork(network)(film(condition), x, answers=answers)

    gamma, beta = film.mlp(film.condition(condition)).unsqueeze(1).chunk(2, dim=-1)
    inputs = functional.normalize(x, dim=-1) * E**0.5
    y = functional.linear(inputs / E**0.5, network.hidden.weight, network.hidden.bias)
    y = functional.relu((1 + gamma[..., :H]) * y + beta[..., :H])
    y = functional.linear(y / H**0.5, network.out.weight, network.out.bias)
    y = inputs + (1 + gamma[..., H:]) * y + beta[..., H:]
    expected = 100 * functional.normalize(y, dim=-1) @ functional.normalize(answers, dim=-1).mT
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert found.std() > 1


def test_only_the_layers_named():
    _, film = network_and_film(layers=["hidden"])
    params = film.space.unflatten(film(torch.randn(2, 5).double()))
    shared = film.space.unflatten(film.base)
    assert torch.equal(params["out.weight"][1], shared["out.weight"])
    assert not torch.allclose(params["hidden.weight"][1], shared["hidden.weight"])
    assert film.mlp[-1].out_features == 2 * H
    with pytest.raises(InputError, match=r"\['hidden', 'out'\]; got \['hiden'\]"):
        network_and_film(layers=["hiden"])
    with pytest.raises(InputError, match="can modulate"):
        FiLM(WeightSpace.of(torch.nn.Linear(2, 3, bias=False)), 5)


def test_start_gradients_and_one_task():
    _, film = network_and_film()
    film.init_weights(torch.randn(film.space.size).double())
    conditions = torch.randn(2, 3, 5).double()
    torch.testing.assert_close(film(conditions), film.base.expand(2, 3, -1))
    assert film(conditions[0, 0]).shape == (film.space.size,)
    film(conditions).square().sum().backward()
    assert film.base.grad.all() and film.mlp[-1].weight.grad.abs().sum() > 0


def test_noise_is_for_training():
    _, film = network_and_film(input_noise=0.5)
    conditions = torch.randn(2, 5).double()
    assert torch.equal(film(conditions), film(conditions))
    film.train()
    assert not torch.equal(film(conditions), film(conditions))


def test_saved_and_loaded(tmp_path):
    film = FiLM(WeightSpace.of(MLP(4, (5,), 3)), 6, layers=None)
    film.fit(torch.randn(9, 6))
    film.save_pretrained(tmp_path / "film")
    conditions = torch.randn(3, 6)
    assert torch.equal(load_part(FiLM, tmp_path / "film")(conditions), film.eval()(conditions))
    with pytest.raises(InputError, match="not a saved HNet"):
        load_part(HNet, tmp_path / "film")
