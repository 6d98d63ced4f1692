"""docs/hypertransformer_argument.md: parameters set by hand write the class means, with two layers those of guessed samples, too."""

import re

import pytest
import torch

from weightgen.networks.convnet import side_by_side
from weightgen.tasks import Examples

CLASSES, FEATURES = 4, 5


@pytest.fixture(scope="module")
def page(root):
    """The names that the code of the page defines."""
    text = (root / "docs/hypertransformer_argument.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
    return names


def task(shots, unlabeled, seed):
    """A support set in which classes may differ in size, labelled samples first."""
    torch.manual_seed(seed)
    labels = torch.tensor([k for k, n in enumerate(shots) for _ in range(n)] + [-1] * unlabeled)
    return Examples(torch.randn(1, len(labels), 1, 16, 16).double(), labels[None])


def features(hypernet, support):
    """What enters the last layer, (N, F)."""
    x, params = side_by_side(support.inputs), hypernet.shared_params(1)
    for i in range(hypernet.network.depth):
        x, _ = hypernet.network.layer(i, x, params)
    return x.flatten(1)


def means(x, labels):
    return torch.stack([x[labels == k].mean(dim=0) for k in range(CLASSES)])


@pytest.mark.parametrize(("shots", "unlabeled"), [((1, 1, 1, 1), 0), ((3, 1, 2, 4), 0), ((2, 1, 2, 1), 5)])
def test_one_layer_writes_class_means(page, shots, unlabeled):
    hypernet, support = page["class_means"](CLASSES, FEATURES), task(shots, unlabeled, seed=1)
    made = hypernet.generate(support).params
    wanted = means(features(hypernet, support), support.labels[0])
    torch.testing.assert_close(made["head.weight"][0], wanted, rtol=0, atol=1e-4)
    assert made["head.bias"].abs().max() < 1e-4


@pytest.mark.parametrize(("shots", "unlabeled"), [((1, 1, 1, 1), 8), ((3, 1, 2, 4), 6), ((2, 2, 2, 2), 0)])
def test_two_layers_guess_the_missing_labels_first(page, shots, unlabeled):
    hypernet, support = page["class_means_with_guesses"](CLASSES, FEATURES), task(shots, unlabeled, seed=2)
    x, labels = features(hypernet, support), support.labels[0].clone()
    known, unknown = labels >= 0, labels < 0
    nearest = (x[unknown] @ x[known].T).argmax(dim=1)
    labels[unknown] = labels[known][nearest]
    wanted = means(x, labels)
    found = hypernet.generate(support).params["head.weight"][0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    if unlabeled:
        assert (wanted - means(x, support.labels[0])).abs().max() > 0.1  # the guessed samples count


def test_layer_norms_are_those_of_every_hypertransformer(page):
    hypernet = page["class_means_with_guesses"](CLASSES, FEATURES)
    norms = [block.norm for block in hypernet.generators["4"].transformer.encoder]
    assert all(isinstance(norm, torch.nn.LayerNorm) and norm.bias.abs().max() == 0 for norm in norms)
