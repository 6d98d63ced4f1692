"""HyperTransformer: the published sizes, the symmetries of a set, export, and wrong use in one line each."""

import math

import pytest
import torch

from weightgen import InputError
from weightgen.hypernets.hypertransformer import HyperTransformer
from weightgen.networks.convnet import ConvNet, shallow
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples
from weightgen.weights import FunctionalNetwork

B, WAYS, SHOTS = 3, 5, 2
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}

VARIANTS = [
    {},
    {"generated": [4]},
    {"generated": [1, 3, 4]},
    {"allocation": "spatial"},
    {"generate_norms": True},
    {"learned_base": True},
    {"learned_base": True, "allocation": "spatial", "generated": [1, 4]},
    {"decoder": True},
    {"layers": 1, "inner_fraction": 0.0},
    {"activation_features": 0},
    {"image_features": 0},
    {"placeholder_dim": 32, "gain": 1.0},
    {"heads": 8, "key_fraction": 0.5, "value_fraction": 0.5, "inner_fraction": 0.5, "leak": 0.1},
]


def make(**options):
    return HyperTransformer(ConvNet(4, WAYS), **options).eval()


def support_sets(ways=WAYS, shots=SHOTS, batch=B):
    labels = torch.arange(ways).repeat_interleave(shots).expand(batch, -1)
    return Examples(torch.randn(batch, ways * shots, 1, 28, 28), labels)


@pytest.mark.parametrize(
    ("channels", "sizes", "all_layers", "logits_only"),
    [
        (4, [72, 72, 72, 68, 68], 491, 115),
        (8, [80, 104, 104, 104, 72], 843, 127),
        (16, [96, 176, 176, 176, 80], 2024, 154),
        (32, [128, 320, 320, 320, 96], 6119, 227),
    ],
)
def test_sizes_of_the_reference(channels, sizes, all_layers, logits_only):
    """Token sizes, sequence lengths, and thousands of parameters, as read in the released code."""
    hypernet = HyperTransformer(ConvNet(channels), placeholder_dim=32)
    generators = list(hypernet.generators.values())
    assert [g.dim for g in generators] == sizes
    labels, images = torch.arange(20)[None], torch.randn(1, 20, 1, 28, 28)
    lengths = [len(g.weight_tokens) + labels.shape[1] for g in generators]
    assert lengths == [channels + 20] * 4 + [40]
    tokens = generators[0].tokens(labels, torch.randn(1, 20, 32), images.transpose(0, 1).flatten(1, 2))
    assert tokens.shape == (1, channels + 20, sizes[0])
    assert round(sum(p.numel() for p in hypernet.parameters()) / 1000) in (all_layers, all_layers - 1)
    few = HyperTransformer(ConvNet(channels), generated=[4], placeholder_dim=32)
    assert round(sum(p.numel() for p in few.parameters()) / 1000) == logits_only


@pytest.mark.parametrize("options", VARIANTS)
def test_weights_depend_on_their_own_support_set_only(options):
    hypernet, support = make(**{"gain": 1.0} | options), support_sets()
    weights = hypernet(support)
    assert weights.shape == (B, hypernet.space.size)
    for i in range(B):
        alone = hypernet(Examples(support.inputs[i : i + 1], support.labels[i : i + 1]))
        torch.testing.assert_close(alone[0], weights[i], **TOLERANCE)
    assert not torch.allclose(weights[0], weights[1], atol=1e-2)


@pytest.mark.parametrize("options", VARIANTS)
def test_the_order_of_the_support_set_does_not_matter(options):
    hypernet, support = make(**options), support_sets()
    order = torch.randperm(WAYS * SHOTS)
    shuffled = Examples(support.inputs[:, order], support.labels[:, order])
    torch.testing.assert_close(hypernet(shuffled), hypernet(support), **TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"decoder": True}])
@pytest.mark.parametrize("stored", [False, True])
def test_a_hidden_sample_is_an_absent_one(options, stored):
    hypernet, support = make(**options), support_sets()
    extra = torch.randn(B, 2, 1, 28, 28)
    inputs = torch.cat([support.inputs, extra], 1)

    def with_label(label):
        labels = torch.cat([support.labels, torch.full((B, 2), label)], 1)
        return hypernet.generate(Examples(inputs, labels), moments=stored)

    hidden, absent, seen = (
        with_label(PADDING_LABEL),
        hypernet.generate(support, moments=stored),
        with_label(UNLABELED),
    )
    for name, value in absent.params.items():
        torch.testing.assert_close(hidden.params[name], value, **TOLERANCE)
    for one, other in zip(hidden.moments, absent.moments, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    assert not torch.allclose(seen.params["head.weight"], absent.params["head.weight"], atol=1e-2)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_parameter_learns(options):
    hypernet = make(**options)
    made = hypernet.generate(support_sets())
    hypernet.network.run_batch(made.params, torch.randn(B, 6, 1, 28, 28)).square().sum().backward()
    for name, parameter in hypernet.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if (
            not name.endswith("label_embeds") and "key.bias" not in name
        ):  # a shift of all keys changes nothing
            assert parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in hypernet.network.parameters())


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("stored", [False, True])
def test_export_gives_the_logits_of_the_graph(options, stored):
    hypernet, support = make(**options), support_sets()
    query = torch.randn(B, 7, 1, 28, 28)
    made = hypernet.generate(support, moments=stored)
    expected = hypernet.network.run_batch(made.params, query, moments=made.moments or None)
    for i in range(B):
        network = hypernet.export(Examples(support.inputs[i], support.labels[i]), stored_statistics=stored)
        assert type(network) is ConvNet
        torch.testing.assert_close(network(query[i]), expected[i], **TOLERANCE)
        again = ConvNet(**network.settings).eval()
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(query[i]), network(query[i]))


def test_weights_run_in_the_weight_space():
    hypernet, support, query = make(), support_sets(), torch.randn(B, 7, 1, 28, 28)
    by_space = FunctionalNetwork(hypernet.network)(hypernet(support), query)
    by_name = hypernet.network.run_batch(hypernet.generate(support).params, query)
    torch.testing.assert_close(by_space, by_name, **TOLERANCE)


@pytest.mark.parametrize("options", VARIANTS)
def test_save_and_load(options, tmp_path):
    hypernet, support = make(**options), support_sets()
    hypernet.save_pretrained(tmp_path)
    loaded = HyperTransformer.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(support), hypernet(support))
    assert loaded.network.settings == hypernet.network.settings


def test_output_slices_are_output_channels():
    """What one placeholder gives becomes one output channel, with its inputs in their order."""
    slices = make().generators["1"].slices
    numbers = torch.randn(2, slices.number, slices.size)
    kernel = slices.assemble(numbers)["convs.1.weight"]
    assert torch.equal(kernel[1, 3].flatten(), numbers[1, 3])
    spatial = make(allocation="spatial").generators["1"].slices
    numbers = torch.randn(2, spatial.number, spatial.size)
    kernel = spatial.assemble(numbers)["convs.1.weight"]
    assert torch.equal(kernel[1, :, :, 2, 1].flatten(), numbers[1, 7])


def test_generated_scale_starts_around_one():
    hypernet = HyperTransformer(ConvNet(64, WAYS), generate_norms=True, generated=[0, 4])
    made = hypernet.generate(support_sets())
    assert made.params["norms.0.weight"].mean().item() == pytest.approx(
        1, abs=0.4
    )  # three s.d. of 64 draws from N(0, 1)


def test_kernels_begin_apart_and_the_same_for_all_tasks():
    """The kernels of a layer differ by their placeholders; as in the paper, a quarter as much, and more between tasks."""
    support = support_sets()

    def spreads(**options):
        kernels = (
            make(**options).generate(support).params["convs.2.weight"].flatten(2)
        )  # (B, channels, numbers)
        return kernels.var(dim=1).mean().item(), kernels.var(dim=0).mean().item()

    channels, tasks = spreads()
    assert channels > 0.6 and tasks < 0.001
    channels, tasks = spreads(placeholder_dim=32, gain=1.0)
    assert channels < 0.6 and tasks > 0.003


@pytest.mark.parametrize("channels", [4, 32])
def test_the_loss_begins_near_chance(channels):
    """Logits of random weights begin at several times ln C, the more so the longer the flattened map is."""
    hypernet = HyperTransformer(ConvNet(channels, WAYS, image_size=32)).eval()
    support = Examples(torch.randn(B, WAYS, 1, 32, 32), torch.arange(WAYS).expand(B, -1))
    logits = hypernet.network.run_batch(hypernet.generate(support).params, torch.randn(B, 20, 1, 32, 32))
    labels = torch.arange(20).remainder(WAYS).expand(B, -1)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert math.log(WAYS) - 0.2 < loss.item() < 2 * math.log(WAYS)


@pytest.mark.parametrize("numbers", [0, 33, 1.5])
def test_placeholders_that_are_no_part_of_a_token_are_refused(numbers):
    with pytest.raises(InputError, match="placeholder_dim"):
        make(placeholder_dim=numbers)


def test_a_learned_base_is_what_the_generated_weights_are_added_to():
    network = ConvNet(4, WAYS)
    hypernet, support = HyperTransformer(network, learned_base=True).eval(), support_sets()
    made = hypernet.generate(support).params
    with torch.no_grad():
        for factor in hypernet.factors.values():
            factor.zero_()
    base = hypernet.generate(support).params
    # The logits have none: class slots are drawn anew in each task.
    assert len(hypernet.factors) == network.depth
    for name, value in made.items():
        if name.startswith("convs."):
            torch.testing.assert_close(base[name], network.get_parameter(name).expand_as(value))
            # What a layer norm puts out has a spread of about 1, and the factors start at 0.1.
            assert 0.05 < (value - base[name]).std() < 0.2


def test_biases_are_generated_where_the_network_has_them():
    hypernet = HyperTransformer(ConvNet(4, WAYS, conv_bias=True))
    assert hypernet(support_sets()).shape == (B, hypernet.space.size)
    assert not any("convs" in name for name, _ in hypernet.named_parameters() if name.startswith("learned"))


def test_shallow_network():
    hypernet = HyperTransformer(shallow(16, WAYS), layers=1)
    assert [g.slices.number for g in hypernet.generators.values()] == [16, 16, 5]
    assert hypernet(support_sets()).shape == (B, hypernet.space.size)


def test_colour_images_of_84_pixels():
    network = ConvNet(8, WAYS, image_size=84, image_channels=3, leak=0.01)
    hypernet = HyperTransformer(network, image_features=16, heads=8, leak=0.1)
    assert hypernet.generators["4"].slices.size == 25 * 8 + 1
    support = Examples(torch.randn(1, 5, 3, 84, 84), torch.arange(5)[None])
    assert torch.isfinite(hypernet(support)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generated": [0, 1]}, "logits must be generated: add 4"),
        ({"generated": [4, 5]}, "layers from 0 to 4"),
        ({"allocation": "input"}, "output or spatial, got 'input'"),
        ({"allocation": "spatial", "generate_norms": True}, "allocation='output'"),
        ({"layers": 0}, "layers must be a whole number from 1"),
        ({"generated": 4}, r"generated=\[4\]"),
        ({"generated": [4.0]}, r"generated=\[4\], got \[4.0\]"),
        ({"generated": [True, 4]}, r"generated=\[4\], got \[True, 4\]"),
        ({"generated": [4], "generate_norms": True}, "are about generated convolutions, and none is"),
        ({"generated": [4], "learned_base": True}, "are about generated convolutions, and none is"),
        ({"image_features": 0, "activation_features": 0}, "both 0, so no image is seen"),
        ({"image_features": -1}, "image_features must be a whole number from 0"),
        ({"activation_layers": 0}, "activation_layers must be a whole number from 1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def changed(labels=None, inputs=None):
    support = support_sets()
    return Examples(
        support.inputs if inputs is None else inputs(support.inputs.clone()),
        support.labels if labels is None else labels(support.labels.clone()),
    )


def put(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("support", "message"),
    [
        (changed(labels=put((1, slice(2, 4)), 0)), "class 1 of support set 1 has no labelled sample"),
        (changed(labels=put((0, 0), 5)), "labels from 0 to 4, or -1 for no label, got 5.*5 label slots"),
        (changed(labels=put((0, 0), -7)), "got -7"),
        (changed(labels=put((2, slice(None)), UNLABELED)), "support set 2 has no labelled sample"),
        (changed(labels=put((2, slice(None)), PADDING_LABEL)), "support set 2 has no labelled sample"),
        (changed(inputs=put((0, 0, 0, 3, 3), float("nan"))), "NaN"),
        (changed(inputs=lambda x: x[..., :27]), r"\(B, N, 1, 28, 28\).*\(3, 10, 1, 28, 27\)"),
        (changed(inputs=lambda x: x[:, :9]), "labels"),
        (changed(inputs=lambda x: x.to(torch.uint8)), "float32 images.*got torch.uint8"),
        (changed(inputs=lambda x: x.double()), "float32 images.*got torch.float64"),
        (changed(inputs=lambda x: x.half()), "float32 images.*got torch.float16"),
        (changed(labels=lambda y: y.float()), "integer labels, got torch.float32 and torch.float32"),
        (changed(labels=lambda y: y.to(torch.uint8)), "integer labels, got torch.float32 and torch.uint8"),
        (Examples(torch.zeros(1, 2, 1, 28, 28), [[0, 1]]), "expected Examples"),
        (
            Examples(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)),
            r"\(B, N, 1, 28, 28\) with labels",
        ),
        (
            Examples(torch.zeros(1, 1, 1, 28, 28), torch.zeros(1, 1, dtype=torch.int64)),
            "one image has no batch",
        ),
    ],
)
def test_wrong_support_sets(support, message):
    with pytest.raises(InputError, match=message) as caught:
        make()(support)
    assert "\n" not in str(caught.value)


def test_export_has_the_classes_of_its_support_set():
    hypernet, support = make(), support_sets()
    few = support.labels[0] < 3
    examples = Examples(support.inputs[0][few], support.labels[0][few])
    query = torch.randn(6, 1, 28, 28)
    network = hypernet.export(examples)
    made = hypernet.generate(Examples(examples.inputs[None], examples.labels[None]))
    whole = hypernet.network.run_batch(made.params, query[None])[0]
    assert network.num_classes == 3 and whole.shape[1] == WAYS
    torch.testing.assert_close(network(query), whole[:, :3], **TOLERANCE)
    with pytest.raises(InputError, match="expected Examples"):
        hypernet.export((examples.inputs, examples.labels))
