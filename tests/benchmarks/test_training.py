"""Training steps of HVAE and HyperLDM at the paper's size. They need 8 and 14 GB of memory."""

import pytest
import torch

from tests.benchmarks.made_up import PAPER
from tests.benchmarks.measure import DEVICE
from weightgen.hypernets import HVAE
from weightgen.networks import CLIPAdapter
from weightgen.objectives.elbo import ELBOLoss
from weightgen.objectives.latent_diffusion import LatentDiffusionLoss
from weightgen.priors import DiffusionPrior, MLPDenoiser, paper_schedule
from weightgen.weights import FunctionalNetwork

NOTE = "limit: the products of the step, then the seven reads and writes of Adam"


def needs_memory(gigabytes):
    if DEVICE.type == "cpu":
        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 2**20
        if free < gigabytes:
            pytest.skip(f"needs {gigabytes} GB of free memory, there are {free:.0f}")


def step_row(row, what, objective, batch, rows, rounds):
    """A step of Adam."""
    weights = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        objective(batch).loss.backward()
        optimizer.step()

    size = sum(parameter.numel() for parameter in weights)
    products = sum(6 * rows * parameter.numel() for parameter in weights if parameter.ndim == 2)
    row(f"{what}, {size / 1e6:.0f} M parameters, batch of {rows}", step, flops=products, bytes=7 * 4 * size,
        aims=(None, 0.6), rounds=rounds, note=NOTE)  # fmt: skip


def test_hvae(row):
    needs_memory(9)
    network = FunctionalNetwork(CLIPAdapter(*PAPER))
    hvae = HVAE(network.space, 32, (512, 256)).to(DEVICE)
    weights = torch.randn(32, network.space.size, device=DEVICE)
    hvae.standardizer.fit(weights)
    step_row(row, "training step of HVAE", ELBOLoss(hvae, network), (weights, None), 32, 3)


def test_hyperldm(row):
    needs_memory(15)
    network = FunctionalNetwork(CLIPAdapter(16, 4))
    denoiser = MLPDenoiser(32, PAPER[0], (8192, 16384, 8192)).to(DEVICE)
    embeds, latents = torch.randn(128, PAPER[0], device=DEVICE), torch.randn(128, 32, device=DEVICE)
    denoiser.embeds.fit(embeds)
    prior = DiffusionPrior(denoiser, paper_schedule()).to(DEVICE)
    prior.latents.fit(latents)
    objective = LatentDiffusionLoss(denoiser, prior, HVAE(network.space, 32, (8,)), network)
    step_row(row, "training step of HyperLDM", objective, (latents, embeds, None), 128, 1)
