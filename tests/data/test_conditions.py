import pytest
import torch

from weightgen import InputError, MLPDenoiser
from weightgen.data import LatentTasks, TaskConditions
from weightgen.tasks import random_subset

R, T, Z, E, D = 3, 10, 4, 5, 2


def test_questions_that_are_not_known_are_zeros():
    embeds = torch.randn(T, E)
    conditions = TaskConditions.of(embeds, 0.4, seed=2)
    known = random_subset(T, 0.4, 2)
    assert conditions.dims == {"embed_dim": E}
    for row in range(T):
        assert torch.equal(conditions.draw(torch.tensor([row]))[0], embeds[row] * (row in known))
    denoiser = MLPDenoiser(Z, **conditions.dims, hidden_dims=(8,), time_dim=4)
    conditions.fit(denoiser)
    torch.testing.assert_close(denoiser.embeds.mean, embeds[known].mean(dim=0))


def test_every_task_gets_its_own_support_sets():
    embeds, supports = torch.randn(T, E), torch.randn(R, T, D)
    conditions = TaskConditions.of(embeds, supports=supports)
    assert conditions.dims == {"embed_dim": E, "support_dim": D}
    rows = torch.arange(T).repeat(30)
    drawn = conditions.draw(rows)
    assert torch.equal(drawn[:, :E], embeds[rows])
    seen = {
        (row, int((supports[:, row] == one[E:]).all(dim=1).nonzero()[0]))
        for row, one in zip(rows.tolist(), drawn, strict=True)
    }
    assert seen == {(row, draw) for row in range(T) for draw in range(R)}
    denoiser = MLPDenoiser(Z, **conditions.dims, hidden_dims=(8,), time_dim=4)
    conditions.fit(denoiser)
    torch.testing.assert_close(denoiser.supports.mean, supports.flatten(0, 1).mean(dim=0))


def test_support_sets_need_dropout():
    TaskConditions.of(torch.randn(T, E)).check_dropout(0.0)
    conditions = TaskConditions.of(torch.randn(T, E), supports=torch.randn(R, T, D))
    conditions.check_dropout(0.1)
    with pytest.raises(InputError, match="write drop_rate=0.2"):
        conditions.check_dropout(0.0)
    with pytest.raises(InputError, match="fraction in"):
        TaskConditions.of(torch.randn(T, E), 0.0)


def test_latents_come_with_the_conditions_of_their_tasks():
    embeds = torch.arange(T).float()[:, None] + 1
    mean = torch.arange(T)[None, :, None] + torch.arange(R)[:, None, None] / 10 * torch.ones(R, T, Z)
    latents = LatentTasks(mean, torch.zeros_like(mean), TaskConditions.of(embeds))
    drawn, given = latents.draw([7, 2], 400)
    assert drawn.shape == (400, Z) and given.shape == (400, 1)
    assert given[:2].flatten().tolist() == [8, 3]
    assert torch.equal(drawn[:, 0].floor() + 1, given[:, 0])
    assert len(drawn[:, 0].unique()) == R * T  # every draw of every task
    assert torch.equal(latents.everything(), mean)
    with pytest.raises(InputError, match="smaller function_tasks"):
        latents.draw([1, 2, 3], 2)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_posterior_is_sampled_with_its_noise(noise):
    std = torch.rand(R, T, Z) + 0.5
    latents = LatentTasks(torch.zeros(R, T, Z), std, TaskConditions.of(torch.randn(T, E)), noise)
    found = torch.stack([latents.everything() for _ in range(4000)])
    torch.testing.assert_close(found.std(dim=0), noise * std, atol=0.03, rtol=0)


@pytest.mark.parametrize("first", [[], [4, 1, 9]])
def test_random_numbers_are_drawn_in_a_fixed_order(first):
    """Tasks, draws, noise, support sets: saved weights of a seed depend on it."""
    mean, std, supports = torch.randn(R, T, Z), torch.rand(R, T, Z), torch.randn(6, T, D)
    embeds = torch.randn(T, E)
    latents = LatentTasks(mean, std, TaskConditions.of(embeds, supports=supports), 0.7)
    torch.manual_seed(3)
    drawn, given = latents.draw(first, 8)
    torch.manual_seed(3)
    rows = torch.cat([torch.tensor(first, dtype=torch.int64), torch.randint(T, (8 - len(first),))])
    draws = torch.randint(R, (8,))
    noise = torch.randn(8, Z)
    assert torch.equal(drawn, mean[draws, rows] + 0.7 * std[draws, rows] * noise)
    shown = torch.randint(6, (8,))
    assert torch.equal(given, torch.cat([embeds[rows], supports[shown, rows]], dim=1))
