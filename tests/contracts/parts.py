"""One small object of every class that fulfils a contract, and conditions for it."""

import diffusers
import torch

from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.guidance import (
    ClassifierFreeGuidance,
    FewShotGuidance,
    HyperCLIPGuidance,
    TextAndSupportGuidance,
)
from weightgen.hypernets import (
    HVAE,
    MAML,
    FiLM,
    HNet,
    HVAEDecoder,
    HyperTransformer,
    ProtoNet,
    SharedWeights,
    SupportHNet,
)
from weightgen.networks import MLP, CLIPAdapter, ConvNet, SineNetwork, TokenAdapter, shallow
from weightgen.objectives import (
    AdaptationLoss,
    ContrastiveLoss,
    ELBOLoss,
    EpisodicLoss,
    LatentDiffusionLoss,
    SupportSetLoss,
)
from weightgen.priors import DiffusionPrior, GaussianPrior, MLPDenoiser, PointPrior
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork

B, N, C, E, Q, Z, D, WAYS = 3, 6, 4, 8, 5, 4, 3, 3


def disturbed(module):
    """Move all parameters a little: what starts at zero would hide what comes before it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def adapter():
    return FunctionalNetwork(CLIPAdapter(E, 3, init="authors", logit_scale=5.0))


def tasks(count=B):
    made = []
    for number in range(count):
        parts = (Examples(torch.randn(n, E), torch.randint(C, (n,))) for n in (N + number, N))
        context = {"answers": torch.randn(C, E), "answer_mask": torch.ones(C).bool()}
        made.append(TaskBatch(*parts, embeds=torch.randn(Q), context=context))
    return collate(made)


def episodes(count=B):
    labels = torch.arange(WAYS).repeat(2).expand(count, -1)
    support, query = (Examples(torch.randn(count, 2 * WAYS, 1, 12, 12), labels) for _ in range(2))
    return TaskBatch(support, query, torch.empty(count, 0), {})


def cnn():
    return ConvNet(4, WAYS, image_size=12, depth=2)


# name of the class: (module, inputs of forward by a leading shape)
NETWORKS = {
    "MLP": (lambda: MLP(E, (5,), C), lambda lead: (torch.randn(*lead, N, E),)),
    "CLIPAdapter": (
        lambda: CLIPAdapter(E, 3, init="authors"),
        lambda lead: (torch.randn(*lead, N, E), torch.randn(*lead, C, E)),
    ),
    "TokenAdapter": (
        lambda: disturbed(TokenAdapter(E + 4 * 3, grid=2, token_dim=3, queries=2, hidden_dim=6)),
        lambda lead: (torch.randn(*lead, N, E + 4 * 3), torch.randn(*lead, C, E)),
    ),
    "SineNetwork": (lambda: SineNetwork(6), lambda lead: (torch.randn(*lead, N, 2),)),
    "ConvNet": (cnn, lambda lead: (torch.randn(*lead, N, 1, 12, 12),)),
    "shallow": (lambda: shallow(4, C, 28), lambda lead: (torch.randn(*lead, N, 1, 28, 28),)),
}


def fitted(kind, **options):
    hypernet = kind(adapter().space, Q, **options).fit(torch.randn(20, Q))
    return disturbed(hypernet.init_weights(torch.randn(hypernet.space.size)))


def hvae():
    space = adapter().space
    return disturbed(HVAE(space, Z, (8,)).fit(torch.randn(30, space.size)))


# by a condition (*, condition_dim)
HYPERNETS = {
    "SharedWeights": (lambda: fitted(SharedWeights), Q),
    "HNet": (lambda: fitted(HNet, hidden_dims=(8,)), Q),
    "HNet with a latent": (lambda: fitted(HNet, hidden_dims=(8,), latent_dim=Z), Z),
    "FiLM": (lambda: fitted(FiLM, hidden_dims=(8,)), Q),
    "HVAE": (hvae, Z),
    "HVAEDecoder": (lambda: HVAEDecoder.of(hvae()), Z),
}


def support_hnet():
    made = SupportHNet.for_network(adapter(), dim=8, heads=2, rounds=2, step=0.3, embed_dim=D)
    return disturbed(made).fit(torch.randn(9, made.space.size))


def answered():
    batch = tasks()
    return batch.support, batch.context["answers"]


# by a support set, and what else `forward` takes
SUPPORT_HYPERNETS = {
    "SupportHNet": (support_hnet, answered),
    "HyperTransformer": (
        lambda: disturbed(HyperTransformer(cnn(), layers=1)),
        lambda: (episodes().support,),
    ),
    "MAML": (lambda: MAML(cnn(), steps=2, lr=0.1), lambda: (episodes().support,)),
    "ProtoNet": (lambda: ProtoNet(cnn()), lambda: (episodes().support,)),
}


def scheduler(kind="epsilon"):
    return diffusers.DDIMScheduler(num_train_timesteps=50, clip_sample=False, prediction_type=kind)


def denoiser(support=D):
    made = MLPDenoiser(Z, Q, (16, 16), time_dim=8, support_dim=support)
    made.embeds.fit(torch.randn(20, Q))
    if support:
        made.supports.fit(torch.randn(20, D))
    return made


def diffusion(kind="epsilon", support=0):
    prior = DiffusionPrior(denoiser(support), scheduler(kind))
    prior.latents.fit(1 + 2 * torch.randn(30, Z))
    return prior


def hyperclip(**options):
    space = adapter().space
    return HyperCLIP(space.size, Q, (6,), **options).fit(torch.randn(9, space.size), torch.randn(9, Q))


def few_shot(wrapped):
    batch, prior = tasks(), diffusion()
    network = adapter()
    hypernet = HNet(network.space, Q, (8,), latent_dim=Z, spread=1.0).requires_grad_(False)
    hypernet.init_weights(torch.randn(network.space.size))
    return FewShotGuidance.of_support(wrapped, prior, hypernet, network, batch.support, batch.context, 0.5)


# each wraps a denoiser of a condition with two parts
DENOISERS = {
    "MLPDenoiser": lambda: denoiser(),
    "ClassifierFreeGuidance": lambda: ClassifierFreeGuidance(denoiser(), 1.5),
    "TextAndSupportGuidance": lambda: TextAndSupportGuidance(denoiser(), Q, 1.5, 2.0),
    "FewShotGuidance": lambda: few_shot(denoiser()),
}

PRIORS = {
    "DiffusionPrior": diffusion,
    "GaussianPrior": lambda: GaussianPrior(torch.randn(Z)),
    "PointPrior": lambda: PointPrior(Q).fit(torch.randn(30, Q)),
    "HyperCLIPGuidance": lambda: HyperCLIPGuidance(
        GaussianPrior(torch.randn(Z)), hvae(), hyperclip(), steps=3
    ),
}

WEIGHT_ENCODERS = {"HyperCLIP": hyperclip, "HyperCLIP, standardised": lambda: hyperclip(standardize=True)}


def latent_diffusion():
    network, prior = adapter(), diffusion("sample")
    decoder = HVAE(network.space, Z, (8,)).fit(torch.randn(30, network.space.size))
    return LatentDiffusionLoss(prior.denoiser, prior, disturbed(decoder), network, function_weight=0.5)


def elbo():
    network = adapter()
    return ELBOLoss(
        disturbed(HVAE(network.space, Z, (8,)).fit(torch.randn(30, network.space.size))), network, 1.0, 1.0
    )


def adaptation():
    network = adapter()
    hypernet = HNet(network.space, Q, (8,), spread=0.5).fit(torch.randn(20, Q))
    return AdaptationLoss(network, hypernet.init_weights(network.initial_weights), 1, 2, 0.1)


# objective, and a batch for it
OBJECTIVES = {
    "AdaptationLoss": (adaptation, tasks),
    "ContrastiveLoss": (
        lambda: ContrastiveLoss(hyperclip()),
        lambda: (torch.randn(B, adapter().space.size), torch.randn(B, Q)),
    ),
    "ELBOLoss": (elbo, lambda: (torch.randn(B, adapter().space.size), tasks())),
    "EpisodicLoss": (lambda: EpisodicLoss(disturbed(HyperTransformer(cnn(), layers=1))), episodes),
    "LatentDiffusionLoss": (
        latent_diffusion,
        lambda: (torch.randn(B + 2, Z), torch.randn(B + 2, Q), tasks()),
    ),
    "SupportSetLoss": (
        lambda: SupportSetLoss(adapter(), support_hnet(), max_shots=3),
        tasks,
    ),
}
