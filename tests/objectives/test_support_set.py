"""One pass: support sets of all sizes that the query never sees, and a loss that is learned from."""

import pytest
import torch
from torch.testing import assert_close

from tests.splits import E, Split
from weightgen import CLIPAdapter, FunctionalNetwork, InputError, SupportHNet
from weightgen.metrics import task_loss
from weightgen.objectives import SupportSetLoss
from weightgen.shots import draw_support, one_pass_weights


def owners(batch, part):
    """Which examples of the split's own order each task of `part` shows."""
    found = []
    for inputs, labels in zip(*getattr(batch, part), strict=True):
        found.append({tuple(x.tolist()) for x, y in zip(inputs, labels, strict=True) if y >= 0})
    return found


def test_support_and_query_are_disjoint_parts_of_a_task():
    batch = Split().batch()
    everything = [a | b for a, b in zip(owners(batch, "support"), owners(batch, "query"), strict=True)]
    sizes = set()
    for _ in range(100):
        drawn = draw_support(batch, max_shots=3)
        for mine, asked, whole in zip(
            owners(drawn, "support"), owners(drawn, "query"), everything, strict=True
        ):
            assert mine and asked and not mine & asked and mine | asked <= whole
        labels = drawn.support.labels
        assert (labels >= 0).any(dim=0).all()  # no column is padding for all
        sizes |= {len(mine) for mine in owners(drawn, "support")}
        most = torch.stack([(labels == c).sum(dim=1) for c in range(5)]).max()
        assert most <= 6  # twice the shots, where classes differ
    assert {1, 2, 5} <= sizes


def test_examples_keep_their_labels():
    batch = Split().batch()
    known = {
        tuple(x.tolist()): int(y)
        for part in (batch.support, batch.query)
        for inputs, labels in zip(*part, strict=True)
        for x, y in zip(inputs, labels, strict=True)
    }
    support = draw_support(batch).support
    for x, y in zip(support.inputs.flatten(0, 1), support.labels.flatten(), strict=True):
        assert y == -100 or known[tuple(x.tolist())] == y


def test_loss_is_that_of_the_written_weights():
    network = FunctionalNetwork(CLIPAdapter(E, 3, init="authors", logit_scale=4.0))
    objective = SupportSetLoss(network, SupportHNet.for_network(network, dim=8), max_shots=2, temperature=2.0)
    batch = Split().batch()
    torch.manual_seed(5)
    outcome = objective(batch)
    torch.manual_seed(5)
    drawn = draw_support(batch, 2)
    weights = objective.hypernet(drawn.support, batch.context["answers"])
    logits = network(weights, drawn.query.inputs, **batch.context)
    assert_close(outcome.loss, task_loss(logits / 2, drawn.query.labels).mean())
    assert 0 <= outcome.metrics["accuracy"] <= 1
    outcome.loss.backward()
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_it_learns():
    network = FunctionalNetwork(CLIPAdapter(E, 3, init="authors", logit_scale=4.0))
    objective = SupportSetLoss(
        network, SupportHNet.for_network(network, dim=8, rounds=2, step=0.1), temperature=1.0
    )
    optimizer, batch, losses = torch.optim.Adam(objective.parameters(), lr=1e-2), Split().batch(), []
    for _ in range(60):
        loss = objective(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize("options", [{"max_shots": 0}, {"temperature": 0.0}, {"temperature": float("nan")}])
def test_wrong_options(options):
    network = FunctionalNetwork(CLIPAdapter(E, 3))
    with pytest.raises(InputError, match="max_shots must be|temperature must be"):
        SupportSetLoss(network, SupportHNet.for_network(network), **options)


def test_written_is_of_every_task_and_a_function_of_the_seed():
    hypernet = SupportHNet.for_network(
        FunctionalNetwork(CLIPAdapter(E, 3)), dim=8, rounds=2, step=0.1, embed_dim=2
    ).eval()
    found = one_pass_weights(hypernet, Split(), 3, batch_size=3)
    assert found.shape == (3, 4, hypernet.space.size) and found.isfinite().all()
    assert (found[0] != found[1]).any() and (found[:, 0] != found[:, 1]).any(dim=-1).all()
    split = Split()
    before = torch.random.get_rng_state()
    found, again, other = (one_pass_weights(hypernet, split, 3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(found, again) and not torch.equal(found, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    hypernet.fit(found.flatten(0, 1))
    assert_close(one_pass_weights(hypernet, split, 3, seed=5, embed=True), hypernet.embed(found))
