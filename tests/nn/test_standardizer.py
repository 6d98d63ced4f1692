import pytest
import torch
from torch import nn

from weightgen import InputError, Standardizer


def test_standardised_values_have_mean_0_and_std_1():
    values = torch.randn(200, 5, dtype=torch.float64) * torch.tensor([1e-3, 1, 10, 100, 1e4]) + 7
    standardizer = Standardizer(5).double().fit(values)
    done = standardizer(values)
    torch.testing.assert_close(done.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(done.std(0, correction=0), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(standardizer.inverse(done), values)


def test_one_std_for_all_keeps_proportions():
    values = torch.randn(100, 2) * torch.tensor([1.0, 3.0])
    standardizer = Standardizer(2).fit(values, scalar=True)
    assert standardizer.std[0] == standardizer.std[1]
    torch.testing.assert_close(standardizer.std[0], values.std(0, correction=0).mean())
    torch.testing.assert_close(standardizer(values).std(0), values.std(0) / standardizer.std)


def test_constant_dimensions_become_0_and_pass_no_gradient():
    """Divided by its tiny deviation, a rounding error there would drown all else, and so would a gradient step."""
    values = torch.stack([torch.arange(4.0), torch.full((4,), 2.0)], dim=1)
    standardizer = Standardizer(2).fit(values)
    new = (values + torch.tensor([0.0, 1e-4])).requires_grad_()
    done = standardizer(new)
    done.sum().backward()
    assert torch.equal(done[:, 1], torch.zeros(4)) and torch.equal(new.grad[:, 1], torch.zeros(4))
    torch.testing.assert_close(done[:, 0].std(correction=0), torch.tensor(1.0))
    assert (new.grad[:, 0] > 0).all()
    torch.testing.assert_close(standardizer.inverse(done)[:, 1], torch.full((4,), 2.0))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_any_leading_dimensions(lead):
    standardizer = Standardizer(4).fit(torch.randn(2, 5, 4))
    values = torch.randn(*lead, 4)
    torch.testing.assert_close(standardizer.inverse(standardizer(values)), values)


def test_statistics_travel_with_the_state():
    holder = nn.Sequential(Standardizer(3))
    holder[0].fit(torch.randn(9, 3))
    other = nn.Sequential(Standardizer(3))
    other.load_state_dict(holder.state_dict())
    values = torch.randn(3)
    assert torch.equal(other(values), holder(values))
    assert not list(holder.parameters())


def test_misuse_is_refused():
    fresh = Standardizer(3)
    for use in (fresh, fresh.inverse):
        with pytest.raises(InputError, match="no statistics yet"):
            use(torch.zeros(3))
    with pytest.raises(InputError, match=r"\(\*, 3\), got \(2, 1\)"):
        fresh.fit(torch.zeros(2, 1))
    with pytest.raises(InputError, match="at least two"):
        fresh.fit(torch.zeros(1, 3))
    with pytest.raises(InputError, match="finite"):
        fresh.fit(torch.tensor([[0.0, 1, 2], [0, float("nan"), 2]]))
    with pytest.raises(InputError, match="got \\(\\)"):
        fresh.fit(torch.tensor(1.0))
