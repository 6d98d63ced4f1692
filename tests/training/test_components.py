import sys

import pytest
import torch

from weightgen import InputError
from weightgen.hypernets import SharedWeights
from weightgen.networks import MLP, ConvNet
from weightgen.training.components import build, component

NETWORK = {"_component_": "weightgen.networks.MLP", "hidden_dims": [8], "out_dim": 2}


def test_build_calls_the_component():
    network = build(NETWORK, "network", in_dim=3)
    assert isinstance(network, MLP)
    assert [layer.weight.shape for layer in network.layers[::2]] == [(8, 3), (2, 8)]


def test_a_function_of_weightgen_that_returns_a_component_is_one():
    assert isinstance(build({"_component_": "weightgen.networks.shallow"}, "network"), ConvNet)
    schedule = build({"_component_": "weightgen.priors.paper_schedule"}, "scheduler")
    assert schedule.config.num_train_timesteps == 350
    assert build({"_component_": "diffusers.DDPMScheduler"}, "scheduler").config.num_train_timesteps == 1000


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hidden_dims": [8]}, "expected _component_: package.module.Name"),
        ({"_component_": "MLP"}, "expected _component_: package.module.Name"),
        (
            {"_component_": "weightgen.netwerks.MLP"},
            "must be the class of a component, in one of weightgen.networks.",
        ),
        ({"_component_": "weightgen.networks.MPL"}, "has no 'MPL'. Did you mean: 'MLP'?"),
        (
            {"_component_": "weightgen.networks.MLP", "in_dims": 3},
            "no argument 'in_dims'. Did you mean: 'in_dim'?",
        ),
        (
            {"_component_": "weightgen.networks.MLP", "out_dim": 3},
            "missing a required argument: 'hidden_dims'",
        ),
        (
            {"_component_": "weightgen.networks.MLP", "in_dim": 3},
            "in_dim of .* follows from the data: leave it out",
        ),
        ({**NETWORK, "hidden_dims": ["x"]}, "hidden_dims must be a whole number"),
        ({**NETWORK, "hidden_dims": 3}, "weightgen.networks.MLP refuses"),
    ],
)
def test_wrong_components_are_one_line(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        build(spec, in_dim=4)
    assert "\n" not in str(caught.value)


def test_an_error_names_the_setting():
    with pytest.raises(InputError, match="augment: expected _component_: package.module.Name, got .*crop"):
        build({"crop": 0.8}, "augment")


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "torch.nn.os.system",
        "torch.nn.functional.relu",
        "torch.nn.Parameter",
        "weightgen.storage.files.write_json",
        "weightgen.networks.clip_adapter.PyTorchModelHubMixin",
        "weightgen.storage.hub.load_part",
        "diffusers.DiffusionPipeline.from_pretrained",
        "subprocess.Popen",
    ],
)
@pytest.mark.parametrize("kind", [None, "network", "hypernet", "denoiser", "scheduler", "encoder"])
def test_what_is_no_component_is_refused_by_name(path, kind):
    with pytest.raises(InputError, match=path.rpartition(".")[0].replace(".", r"\.")):
        build({"_component_": path}, kind)


def test_a_component_of_another_kind_is_refused():
    with pytest.raises(InputError, match="must be the class of a hypernet, in one of weightgen.hypernets."):
        build({**NETWORK, "in_dim": 3}, "hypernet")
    with pytest.raises(InputError, match="is not the class of a scheduler"):
        build({"_component_": "diffusers.UNet2DModel"}, "scheduler")


def test_classes_of_ones_own_need_trust(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from pathlib import Path\nimport torch\nPath(__file__).with_name('ran').touch()\n"
        "class Net(torch.nn.Linear):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"_component_": "my_networks.Net", "in_features": 2, "out_features": 3}
    with pytest.raises(InputError, match="trust_remote_code=true"):
        build(spec, "network")
    assert not (tmp_path / "ran").exists() and "my_networks" not in sys.modules
    assert build(spec, "network", trust_remote_code=True).weight.shape == (3, 2)
    for other in ("os.system", "torch.load"):  # no class of any kind, trusted or not
        with pytest.raises(InputError, match="is not the class of a network"):
            build({"_component_": other}, "network", trust_remote_code=True)


def test_component_does_not_need_all_arguments():
    assert component({"_component_": "torch.nn.Linear"}) is torch.nn.Linear
    assert component({"_component_": "weightgen.hypernets.SharedWeights"}, "hypernet") is SharedWeights
