# %% [markdown]
# # HyperTransformer: a CNN from a few images
#
# A HyperTransformer reads a support set and writes the weights of a small CNN. Here it trains for a few steps on drawn patterns;
# [HyperTransformer](../hypertransformer.md) has the commands and the results for Omniglot.

# %%
import torch

from weightgen import ConvNet, Examples, HyperTransformer, TaskBatch
from weightgen.objectives import EpisodicLoss

torch.manual_seed(0)
WAYS = 3
network = ConvNet(channels=8, num_classes=WAYS, image_size=14, depth=2)
hypernet = HyperTransformer(network, layers=1)


def episodes(count: int) -> TaskBatch:
    """Episodes of `WAYS` random patterns each, seen with noise: one labelled image and four to classify."""
    patterns = torch.randn(count, WAYS, 1, 14, 14).repeat_interleave(5, dim=1)
    images = patterns + 0.5 * torch.randn_like(patterns)
    labels = torch.arange(WAYS).repeat_interleave(5).expand(count, -1)
    first = torch.arange(WAYS * 5) % 5 == 0
    support = Examples(images[:, first], labels[:, first])
    return TaskBatch(support, Examples(images[:, ~first], labels[:, ~first]), torch.zeros(count, 0), {})


# %% [markdown]
# The loss of an episode is that of the CNN that was written, on the query images.

# %%
objective = EpisodicLoss(hypernet)
optimizer = torch.optim.Adam(hypernet.parameters(), lr=2e-3)
for step in range(120):
    optimizer.zero_grad()
    outcome = objective(episodes(8))
    outcome.loss.backward()
    optimizer.step()
    if step % 30 == 29:
        print(step + 1, {name: round(value.item(), 2) for name, value in outcome.metrics.items()})

# %% [markdown]
# `export` gives a plain `nn.Module` for one support set. With `stored_statistics=True` its answer for one image does not depend on the other images.

# %%
task = episodes(1)
network = hypernet.eval().export(
    Examples(task.support.inputs[0], task.support.labels[0]), stored_statistics=True
)
correct = network(task.query.inputs[0]).argmax(dim=-1).eq(task.query.labels[0]).float().mean()
print(type(network).__name__, f"{correct:.2f} of the query images")
