"""Every class of the library against the contract that `weightgen.protocols` says it fulfils."""

import inspect

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import weightgen.encoders.hyperclip
import weightgen.guidance
import weightgen.hypernets
import weightgen.networks
import weightgen.objectives
import weightgen.priors
from tests.contracts import parts
from weightgen.priors import DiffusionPrior, PointPrior
from weightgen.protocols import Outcome
from weightgen.storage.hub import load_part
from weightgen.tasks import Examples
from weightgen.weights import FunctionalNetwork

B, Q, Z, D = parts.B, parts.Q, parts.Z, parts.D
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
LEADS = [(), (B,), (2, B)]


def classes(package):
    """The public classes of a package."""
    return {name for name in package.__all__ if inspect.isclass(getattr(package, name))}


def own(*tables):
    """The names of classes in tables, whose keys may say more after the name."""
    return {key.replace(",", " ").split()[0] for table in tables for key in table}


def test_every_class_is_here():
    """A new class has to be added to `parts`."""
    # NamedParameters stands for a network that is not known: it computes nothing. StatementClassifier holds a text tower of another
    # library, and is tested with one (tests/encoders/test_transformers_text.py).
    apart = {"NamedParameters", "StatementClassifier"}
    assert classes(weightgen.networks) - apart <= own(parts.NETWORKS)
    assert classes(weightgen.hypernets) == own(parts.HYPERNETS, parts.SUPPORT_HYPERNETS)
    assert classes(weightgen.priors) | classes(weightgen.guidance) == own(parts.PRIORS, parts.DENOISERS)
    assert classes(weightgen.objectives) == own(parts.OBJECTIVES)
    home = weightgen.encoders.hyperclip
    made_here = {
        name
        for name, kind in vars(home).items()
        if inspect.isclass(kind) and kind.__module__ == home.__name__
    }
    assert made_here == own(parts.WEIGHT_ENCODERS)


def test_every_module_of_a_package_is_in_its_all(root):
    """A class in a file of its own counts: it is public, or it starts with an underscore or is a part of another."""
    for package in (weightgen.networks, weightgen.hypernets, weightgen.objectives, weightgen.guidance):
        folder = root.joinpath(*package.__name__.split("."))
        for path in folder.glob("*.py"):
            text = path.read_text()
            if ", SavedModule" in text or "Loss(nn.Module)" in text or "Guidance" in path.stem:
                names = {line.split("(")[0][6:] for line in text.splitlines() if line.startswith("class ")}
                assert names & set(package.__all__), path


def all_learn(module, loss):
    """Every parameter that is trained gets a finite gradient, and it is not zero."""
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            # A shift of all keys changes nothing in a softmax.
            assert parameter.grad.any() or "key.bias" in name, name


def scrambled(value):
    """A scalar that depends on every number of `value`, each with another weight."""
    return (value * torch.randn_like(value)).sum()


@pytest.mark.parametrize("name", parts.NETWORKS)
def test_base_networks(name, tmp_path):
    make, inputs_of = parts.NETWORKS[name]
    network, inputs = make(), inputs_of(())
    alone = network(*inputs)
    assert alone.shape[0] == parts.N and alone.ndim == 2
    all_learn(network, scrambled(alone))
    network.save_pretrained(tmp_path)
    kind = type(network)
    assert torch.equal(load_part(kind, tmp_path)(*inputs), network.eval()(*inputs))

    functional, batch = FunctionalNetwork(network), inputs_of((B,))
    weights = functional.initial_weights + 0.1 * torch.randn(B, functional.space.size)
    context = {key: value for key, value in zip(["answers"], batch[1:], strict=False)}
    together = functional(weights, batch[0], **context)
    assert together.shape == (B, *alone.shape)
    for row in range(B):
        copied = functional.with_weights(weights[row])
        assert_close(together[row], copied(*(each[row] for each in batch)), **CLOSE)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", parts.HYPERNETS)
def test_hypernetworks(name, lead, tmp_path):
    make, size = parts.HYPERNETS[name]
    hypernet = make()
    if name == "SharedWeights" and len(lead) != 1:
        return  # its condition is anything with a leading dimension B
    condition = torch.randn(*lead, size)
    weights = hypernet(condition)
    assert weights.shape == (*lead, hypernet.space.size) and weights.isfinite().all()
    if name != "SharedWeights":
        assert not torch.allclose(hypernet(condition + 1), weights)
    if lead:
        assert_close(hypernet(condition[:1])[0], weights[0], **CLOSE)
    hypernet.save_pretrained(tmp_path)
    loaded = load_part(type(hypernet), tmp_path)
    assert loaded.space == hypernet.space and torch.equal(loaded(condition), hypernet.eval()(condition))


@pytest.mark.parametrize("name", parts.HYPERNETS)
def test_every_parameter_of_a_hypernetwork_learns(name):
    make, size = parts.HYPERNETS[name]
    hypernet = make()
    condition = torch.randn(B, size)
    if hasattr(hypernet, "initial_latents"):
        starts = hypernet.initial_latents(torch.randn(B, Q))
        assert starts.shape == (B, hypernet.latent_dim) == (B, size)
        condition = starts + condition
    loss = scrambled(hypernet(condition))
    if hasattr(hypernet, "encode"):
        loss = loss + scrambled(hypernet.encode(torch.randn(B, hypernet.space.size)).rsample())
    all_learn(hypernet, loss)


@pytest.mark.parametrize("name", [n for n in parts.HYPERNETS if n not in ("SharedWeights", "FiLM")])
def test_decoder_parameters_are_those_between_latents_and_weights(name):
    make, size = parts.HYPERNETS[name]
    hypernet = make()
    hypernet(torch.randn(B, size)).square().sum().backward()
    reached = {id(p) for p in hypernet.parameters() if p.grad is not None}
    assert {id(p) for p in hypernet.decoder_parameters()} == reached


@pytest.mark.parametrize("name", [n for n in parts.HYPERNETS if n not in ("HVAE", "HVAEDecoder")])
def test_hypernetworks_begin_at_given_weights(name):
    make, size = parts.HYPERNETS[name]
    hypernet = make()
    weights = torch.randn(hypernet.space.size)
    assert hypernet.init_weights(weights) is hypernet
    if "latent" in name:
        start = hypernet.initial_latents(torch.randn(B, Q))
    else:
        start = torch.zeros(B, size) if name == "SharedWeights" else hypernet.condition.mean.expand(B, -1)
    assert_close(hypernet(start), weights.expand(B, -1), **CLOSE)


@pytest.mark.parametrize("name", parts.SUPPORT_HYPERNETS)
def test_hypernetworks_from_support_sets(name, tmp_path):
    make, inputs_of = parts.SUPPORT_HYPERNETS[name]
    hypernet, (support, *context) = make().eval(), inputs_of()
    weights = hypernet(support, *context)
    assert weights.shape == (B, hypernet.space.size) and weights.isfinite().all()
    for row in range(B):
        kept = [Examples(*(each[row : row + 1] for each in support)), *(c[row : row + 1] for c in context)]
        assert_close(hypernet(*kept)[0], weights[row], **CLOSE)
    other = Examples(support.inputs + torch.randn_like(support.inputs), support.labels)
    assert not torch.allclose(hypernet(other, *context), weights, atol=1e-3)
    hypernet.save_pretrained(tmp_path)
    loaded = load_part(type(hypernet), tmp_path)
    assert loaded.space == hypernet.space
    assert torch.equal(loaded(support, *context), hypernet(support, *context))


@pytest.mark.parametrize("name", parts.SUPPORT_HYPERNETS)
def test_every_parameter_of_a_hypernetwork_from_support_sets_learns(name):
    make, inputs_of = parts.SUPPORT_HYPERNETS[name]
    hypernet = make()
    all_learn(hypernet, scrambled(hypernet(*inputs_of())))


@pytest.mark.parametrize("rows", [1, B])
@pytest.mark.parametrize("name", parts.DENOISERS)
def test_denoisers(name, rows):
    if name == "FewShotGuidance" and rows != B:
        return  # it has support sets of B tasks
    denoiser = parts.DENOISERS[name]()
    latents, times = torch.randn(rows, Z), torch.randint(50, (rows,))
    embeds = torch.randn(rows, Q + D)
    with torch.no_grad():
        found = denoiser(latents, times, embeds)
        assert found.shape == (rows, Z) and found.isfinite().all()
        assert not torch.allclose(denoiser(latents, times, embeds + 1), found)
        assert not torch.allclose(denoiser(latents + 1, times, embeds), found)
        changed = torch.cat([embeds[:1], torch.randn(rows - 1, Q + D)])
        assert_close(denoiser(latents, times, changed)[0], found[0], **CLOSE)


def test_the_trained_denoiser_learns_and_is_saved(tmp_path):
    denoiser = parts.denoiser()
    assert denoiser.latent_dim == Z and denoiser.part_dims == (Q, D)
    inputs = torch.randn(B, Z), torch.randint(50, (B,)), torch.randn(B, Q + D)
    found = denoiser(*inputs)
    all_learn(denoiser, scrambled(found))
    denoiser.save_pretrained(tmp_path)
    assert torch.equal(load_part(type(denoiser), tmp_path)(*inputs), found)


@pytest.mark.parametrize("rows", [1, B])
@pytest.mark.parametrize("name", parts.PRIORS)
def test_priors(name, rows, tmp_path):
    prior, embeds = parts.PRIORS[name](), torch.randn(rows, Q)

    def draw(given, seed=0, of=prior):
        return of.sample(given, generator=torch.Generator().manual_seed(seed)).detach()

    latents, point = draw(embeds), isinstance(prior, PointPrior)
    assert latents.shape == (rows, Q if point else Z) and latents.isfinite().all()
    assert torch.equal(draw(embeds), latents) and torch.equal(draw(embeds, 1), latents) == point
    assert torch.allclose(draw(embeds + 1), latents) == (name == "GaussianPrior")
    changed = torch.cat([embeds[:1], torch.randn(rows - 1, Q)])
    assert_close(draw(changed)[0], latents[0], **CLOSE)
    if isinstance(prior, DiffusionPrior | PointPrior):
        prior.save_pretrained(tmp_path)
        assert torch.equal(draw(embeds, of=type(prior).from_pretrained(tmp_path)), latents)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", parts.WEIGHT_ENCODERS)
def test_encoders_of_weights(name, lead, tmp_path):
    encoder = parts.WEIGHT_ENCODERS[name]()
    weights = torch.randn(*lead, parts.adapter().space.size)
    found = encoder(weights)
    assert found.shape == encoder.project_text(torch.randn(*lead, Q)).shape == (*lead, Q)
    assert_close(found.norm(dim=-1), torch.ones(lead))
    if lead:
        assert_close(encoder(weights[:1])[0], found[0], **CLOSE)
    assert not torch.allclose(encoder(weights + 1), found)
    all_learn(encoder, scrambled(found))
    encoder.save_pretrained(tmp_path)
    assert torch.equal(load_part(type(encoder), tmp_path)(weights), encoder.eval()(weights))


@pytest.mark.parametrize("name", parts.OBJECTIVES)
def test_objectives(name):
    make, batch_of = parts.OBJECTIVES[name]
    objective = make()
    assert isinstance(objective, nn.Module)
    outcome = objective(batch_of())
    assert isinstance(outcome, Outcome) and outcome.loss.shape == () and outcome.loss.isfinite()
    for key, metric in outcome.metrics.items():
        assert metric.shape == () and not metric.requires_grad, key
    assert "loss" in outcome.metrics
    all_learn(objective, outcome.loss)
    assert not any(key.startswith("network") for key in objective.state_dict())
