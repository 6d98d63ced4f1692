import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import nn

from weightgen import (
    ClassifierFreeGuidance,
    CLIPAdapter,
    DiffusionPrior,
    FunctionalNetwork,
    InputError,
    MLPDenoiser,
)
from weightgen.guidance import FewShotGuidance
from weightgen.hypernets import HNet
from weightgen.metrics import task_loss
from weightgen.priors.parametrisation import signal_and_noise
from weightgen.tasks import Examples

Z, E = 4, 5
KINDS = ["epsilon", "sample", "v_prediction"]


class Exact(nn.Module):
    """The best denoiser there is for z₀ ~ N(0, 1): ẑ₀ = a z_t."""

    latent_dim = Z

    def __init__(self, scheduler):
        super().__init__()
        self.kind, self.scheduler = scheduler.config.prediction_type, scheduler

    def forward(self, latents, times, embeds):
        a, sigma = signal_and_noise(self.scheduler, times, latents)
        return {"epsilon": sigma, "sample": a, "v_prediction": torch.zeros_like(a)}[self.kind] * latents


def exact_prior(scheduler_class, kind):
    schedule = {"num_train_timesteps": 350, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.06}
    clip = {"clip_sample": False} if scheduler_class in (DDPMScheduler, DDIMScheduler) else {}
    scheduler = scheduler_class(**schedule, prediction_type=kind, **clip)
    prior = DiffusionPrior(Exact(scheduler), scheduler)
    prior.latents.count.fill_(1)
    return prior


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler,
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
    ],
)
def test_samples_follow_bayes_rule(scheduler, kind):
    """Under a likelihood exp(−s g·z) the posterior of N(0, 1) is N(−s g, 1), each task with a g of its own."""
    if scheduler is HeunDiscreteScheduler and kind == "sample":
        return  # diffusers has no such step
    prior = exact_prior(scheduler, kind)
    slopes = torch.randn(3, Z)
    samples, scale = 700, 0.7

    def guide(denoiser):
        loss = lambda z, g: g @ z  # noqa: E731
        return FewShotGuidance(denoiser, prior, loss, slopes, scale=scale, samples=samples)

    found = prior.sample(
        torch.zeros(3 * samples, E), guide=guide, num_inference_steps=100,
        generator=torch.Generator().manual_seed(0),
    ).unflatten(0, (3, samples))  # fmt: skip
    assert (found.mean(dim=1) + scale * slopes).abs().max() < 0.15
    assert (found.std(dim=1) - 1).abs().max() < 0.12


def few_shot_tasks(kind="epsilon", tasks=3):
    network = FunctionalNetwork(CLIPAdapter(6, 3, init="authors", logit_scale=5.0))
    hypernet = HNet(network.space, Z, (8,), latent_dim=Z).requires_grad_(False)
    denoiser = MLPDenoiser(Z, E, (16,), time_dim=8).eval()
    denoiser.embeds.fit(torch.randn(9, E))
    prior = DiffusionPrior(
        denoiser, DDIMScheduler(num_train_timesteps=50, clip_sample=False, prediction_type=kind)
    )
    prior.latents.fit(3 * torch.randn(50, Z) + 1)
    support = Examples(torch.randn(tasks, 8, 6), torch.randint(3, (tasks, 8)))
    support.labels[0, 5:] = -100
    context = {"answers": torch.randn(tasks, 3, 6), "answer_mask": torch.ones(tasks, 3).bool()}
    return prior, hypernet, network, support, context


@pytest.mark.parametrize("kind", KINDS)
def test_support_sets_are_fitted_better(kind):
    _, hypernet, network, support, context = few_shot_tasks()
    prior = exact_prior(DDIMScheduler, kind)
    embeds = torch.randn(3, E)

    def support_loss(scale, text_scale):
        latents = prior.sample(
            embeds, generator=torch.Generator().manual_seed(0),
            guide=lambda d: FewShotGuidance.of_support(
                ClassifierFreeGuidance(d, text_scale), prior, hypernet, network, support, context, scale
            ),
        )  # fmt: skip
        logits = network(hypernet(latents), support.inputs, **context)
        return task_loss(logits, support.labels)

    for text_scale in (0.0, 1.0, 2.0):
        assert (support_loss(0.5, text_scale) < support_loss(0.0, text_scale)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_loop_over_tasks_by_hand(kind):
    prior, hypernet, network, support, context = few_shot_tasks(kind)
    text = ClassifierFreeGuidance(prior.denoiser, 1.5)
    latents, embeds, times = torch.randn(6, Z), torch.randn(6, E), torch.tensor([3, 3, 20, 20, 49, 49])
    guided = FewShotGuidance.of_support(text, prior, hypernet, network, support, context, 2.0, samples=2)
    with torch.no_grad():
        found = guided(latents, times, embeds)

    for row in range(6):
        task, square = row // 2, prior.scheduler.alphas_cumprod[times[row]]
        a, sigma = square.sqrt(), (1 - square).sqrt()
        z, own = latents[row], text(latents[[row]], times[[row]], embeds[[row]])[0].detach()
        clean = {"epsilon": (z - sigma * own) / a, "sample": own, "v_prediction": a * z - sigma * own}[kind]
        clean.requires_grad_()
        extra = {key: value[task] for key, value in context.items()}
        weights = hypernet(prior.latents.inverse(clean))
        logits = network.single(weights, support.inputs[task], **extra)
        nn.functional.cross_entropy(logits, support.labels[task]).backward()
        step = -2.0 * sigma**2 * clean.grad
        shift = {"epsilon": -a / sigma, "sample": 1.0, "v_prediction": -1 / sigma}[kind] * step
        torch.testing.assert_close(found[row], own + shift, rtol=1e-4, atol=1e-4)
        assert shift.abs().max() > 1e-3


def test_no_scale_is_no_guidance_and_refusals():
    prior, *parts = few_shot_tasks()
    latents, embeds, times = torch.randn(3, Z), torch.randn(3, E), torch.full((3,), 7)
    plain = FewShotGuidance.of_support(prior.denoiser, prior, *parts, scale=0.0)
    assert torch.equal(plain(latents, times, embeds), prior.denoiser(latents, times, embeds))
    inside = FewShotGuidance.of_support(prior.denoiser, prior, *parts, scale=1.0)
    with pytest.raises(InputError, match="around classifier-free guidance, not inside"):
        ClassifierFreeGuidance(inside, 1.5)(latents, times, embeds)
    with pytest.raises(InputError, match="samples must be a whole number from 1"):
        FewShotGuidance.of_support(prior.denoiser, prior, *parts, scale=1.0, samples=0)
