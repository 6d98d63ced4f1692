# %% [markdown]
# # Your own network: from an `nn.Module` and a list of tasks to sampled weights
#
# A task here is to tell on which side of a line through the origin a point lies. Its description, in place of a question, is the direction of the line. The
# base network is any `nn.Module`.

# %%
import math

import torch
from torch import nn

from weightgen import (
    HVAE,
    ClassifierFreeGuidance,
    DiffusionPrior,
    Examples,
    FunctionalNetwork,
    MLPDenoiser,
    TaskBatch,
    fine_tune,
)
from weightgen.objectives import ELBOLoss, LatentDiffusionLoss
from weightgen.priors.schedulers import paper_schedule

torch.manual_seed(0)
network = FunctionalNetwork(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)))
print(network)


def tasks_of(angles: torch.Tensor) -> TaskBatch:
    """One task for each angle: points (N, 2), and whether they lie on its side."""
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    points = torch.randn(len(angles), 80, 2)
    labels = (points @ directions[..., None]).squeeze(-1).gt(0).long()
    support, query = Examples(points[:, :40], labels[:, :40]), Examples(points[:, 40:], labels[:, 40:])
    return TaskBatch(support, query, embeds=directions, context={})


def accuracy(weights: torch.Tensor, tasks: TaskBatch) -> float:
    return network(weights, tasks.query.inputs).argmax(dim=-1).eq(tasks.query.labels).float().mean().item()


train = tasks_of(2 * math.pi * torch.rand(256))
test = tasks_of(2 * math.pi * torch.rand(64))

# %% [markdown]
# **1. Adapted weights.** Gradient descent from one start gives a weight vector for each training task.

# %%
start = network.initial_weights.expand(256, -1)
adapted = fine_tune(network, None, train, steps=50, lr=0.5, start=start).detach()
print(f"adapted: {accuracy(adapted, train):.2f}")

# %% [markdown]
# **2. An autoencoder of weights.** Its latents start as principal components of the adapted weights.

# %%
hypernet = HVAE(network.space, latent_dim=4, hidden_dims=(64,)).fit(adapted)
objective = ELBOLoss(hypernet, network, kl_weight=0.01, function_weight=1.0)
optimizer = torch.optim.Adam(hypernet.parameters(), lr=1e-3)
for _ in range(200):
    optimizer.zero_grad()
    objective((adapted, train)).loss.backward()
    optimizer.step()
latents = hypernet.encode(adapted).mean.detach()
print(f"decoded: {accuracy(hypernet(latents), train):.2f}")

# %% [markdown]
# **3. Latent diffusion**, conditioned on the description of the task (HyperLDM).

# %%
denoiser = MLPDenoiser(latent_dim=4, embed_dim=2, hidden_dims=(128, 128), time_dim=32)
denoiser.embeds.fit(train.embeds)
prior = DiffusionPrior(denoiser, paper_schedule("sample"))
prior.latents.fit(latents)
diffusion = LatentDiffusionLoss(denoiser, prior, hypernet, network, function_weight=1.0)
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
for _ in range(600):
    optimizer.zero_grad()
    diffusion((latents, train.embeds, train)).loss.backward()
    optimizer.step()

# %% [markdown]
# **4. Sample** the weights of tasks that were never seen, from their descriptions alone.

# %%
prior.eval()
sampled = hypernet(prior.sample(test.embeds, guide=lambda denoiser: ClassifierFreeGuidance(denoiser, 1.0)))
unguided = hypernet(prior.sample(test.embeds, guide=lambda denoiser: ClassifierFreeGuidance(denoiser, 0.0)))
print(
    f"sampled from the description: {accuracy(sampled, test):.2f}; without it: {accuracy(unguided, test):.2f}"
)
assert accuracy(sampled, test) > 0.85 and accuracy(unguided, test) < 0.7

# %% [markdown]
# `network.with_weights(sampled[0])` is a plain copy of your module with the sampled weights.

# %%
module = network.with_weights(sampled[0].detach())
assert torch.allclose(module(test.query.inputs[0]), network(sampled[:1], test.query.inputs[:1])[0], atol=1e-5)

# %% [markdown]
# **Any module.** Nothing above depends on the kind of network. If only a part of yours shall be generated, name its parameters by patterns; all tasks share the rest.
# For low-rank adapters of a large network, write `lora_target(module, LoraConfig(...))` in place of `FunctionalNetwork(module)`.

# %%
body = nn.Sequential(
    nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Tanh()
)  # trained elsewhere, with running statistics
partial = FunctionalNetwork(nn.Sequential(body, nn.Linear(16, 2)), include="1.*")
print(partial, [name for name, _ in partial.space.shapes])

# %% [markdown]
# The network leaves this library as a file: safetensors, ONNX, or NumPy ([all formats](../exports.md)).

# %%
import tempfile
from pathlib import Path

from weightgen.exports import export_network

folder = Path(tempfile.mkdtemp()) / "side-of-a-line"
export_network(module, folder, "state_dict", example_shape=(2,))
print(sorted(path.name for path in folder.iterdir()))
