"""Loading saved parts: which classes are imported, and what a damaged folder says."""

import json
import sys

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from weightgen import InputError, WeightSpace
from weightgen.hypernets import HVAE, HNet, ProtoNet, SharedWeights
from weightgen.networks import MLP, CLIPAdapter, ConvNet
from weightgen.priors import MLPDenoiser
from weightgen.storage.files import write_tensors
from weightgen.storage.hub import class_named, class_path, load_part

SPACE = WeightSpace.of(nn.Linear(3, 2))


@pytest.fixture
def saved(tmp_path):
    SharedWeights(SPACE).init_weights(torch.randn(SPACE.size)).save_pretrained(tmp_path / "part")
    return tmp_path / "part"


@pytest.mark.parametrize("kind", [MLP, HNet, SharedWeights, WeightSpace])
def test_a_class_is_found_by_its_own_path(kind):
    path = class_path(object.__new__(kind))
    assert path.startswith("weightgen.") and path.endswith(f".{kind.__name__}")
    assert class_named(path) is kind


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A module of somebody else's that notes down that it ran."""

    def write(name):
        (tmp_path / f"{name}.py").write_text("import sys\nsys.ran = __name__\nclass Net: pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "ran", None, raising=False)
        return f"{name}.Net"

    return write


# The second looks like one of ours, but its package only begins with the same letters.
@pytest.mark.parametrize("module", ["somebody_elses", "weightgen_evil"])
def test_foreign_code_does_not_run_unless_asked(foreign, module):
    path = foreign(module)
    with pytest.raises(InputError, match=rf"'{path}', which is not weightgen's.*trust_remote_code=True"):
        class_named(path)
    assert sys.ran is None and module not in sys.modules

    kind = class_named(path, trust_remote_code=True)
    assert (kind.__module__, kind.__name__) == (module, "Net") and sys.ran == module
    del sys.modules[module]


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "torch.nn.Linear", "Linear", "", "weightgen"])
def test_what_is_not_weightgens_is_refused(path):
    with pytest.raises(InputError, match="not weightgen's"):
        class_named(path)


@pytest.mark.parametrize(
    "path", ["weightgen.nowhere.MLP", "weightgen.networks.mlp.NoSuchClass", "weightgen."]
)
def test_a_class_that_is_gone_is_one_line(path):
    with pytest.raises(InputError, match="not installed here") as caught:
        class_named(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.at.all.Net", "Net", ""])
def test_trust_does_not_make_a_class_exist(path):
    with pytest.raises(InputError, match="not installed here"):
        class_named(path, trust_remote_code=True)


def test_a_part_is_loaded_in_evaluation_mode_without_a_word(tmp_path, capsys):
    network = MLP(4, [5], 2, activation="tanh", bias=False)
    network.save_pretrained(tmp_path)
    loaded = load_part(MLP, tmp_path)
    inputs = torch.randn(3, 4)
    assert torch.equal(loaded(inputs), network(inputs)) and network.training and not loaded.training
    assert capsys.readouterr() == ("", "")


def test_paths_may_be_strings(saved):
    assert torch.equal(load_part(SharedWeights, str(saved)).weights, load_part(SharedWeights, saved).weights)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere is no folder: expected a saved MLP"):
        load_part(MLP, tmp_path / "nowhere")


def refused(kind, folder):
    with pytest.raises(InputError) as caught:
        load_part(kind, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"space": [["weight", [2, 3]], ['])
def test_a_config_that_is_cut_off(saved, content):
    (saved / "config.json").write_text(content)
    assert "config.json" in refused(SharedWeights, saved)


@pytest.mark.parametrize(
    "content",
    [{}, {"space": 3}, {"space": [["w"]]}, {"space": {}}, {"space": {"shapes": [["w"]]}}, {"other": 1}],
)
def test_a_config_of_something_else(saved, content):
    (saved / "config.json").write_text(json.dumps(content))
    assert refused(SharedWeights, saved).startswith(f"{saved} is not a saved SharedWeights: ")


@pytest.mark.parametrize("content", [[], 3, "space", None])
def test_a_config_that_is_no_object(saved, content):
    (saved / "config.json").write_text(json.dumps(content))
    assert str(saved) in refused(SharedWeights, saved)


def test_tensors_that_are_missing_or_cut_off(saved):
    whole = (saved / "model.safetensors").read_bytes()
    for kept in (len(whole) - 1, 20, 4, 0):
        (saved / "model.safetensors").write_bytes(whole[:kept])
        assert "model.safetensors" in refused(SharedWeights, saved)
    (saved / "model.safetensors").unlink()
    assert "model.safetensors" in refused(SharedWeights, saved)


def test_tensors_of_another_size(saved, tmp_path):
    SharedWeights(WeightSpace.of(nn.Linear(4, 2))).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(saved / "model.safetensors")
    assert "is not a saved SharedWeights" in refused(SharedWeights, saved)


def test_a_part_of_another_class(saved):
    assert "is not a saved MLP" in refused(MLP, saved)
    assert "is not a saved HNet" in refused(HNet, saved)


def rewrite(folder, **changes):
    """Change entries of `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_class_loads_itself(saved):
    loaded = SharedWeights.from_pretrained(saved)
    assert torch.equal(loaded.weights, load_part(SharedWeights, saved).weights) and not loaded.training


@pytest.mark.parametrize("name", ["runs/hvae", "owner/name", "hvae", "../hvae", "a/b/c/d", "~/hvae"])
def test_only_hf_names_are_looked_up_on_the_hub(name, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("the Hub was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("weightgen.storage.hub.snapshot_download", refuse)
    with pytest.raises(InputError, match="is no folder: expected a saved HVAE"):
        HVAE.from_pretrained(name)


def test_a_model_of_the_hub(saved, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "weightgen.storage.hub.snapshot_download", lambda name, **_: asked.append(name) or str(saved)
    )
    SharedWeights.from_pretrained("hf://owner/name", revision="main")
    assert asked == ["owner/name"]


def test_a_download_that_fails_is_one_line():
    with pytest.raises(InputError, match="cannot download hf://owner/name: ") as caught:
        SharedWeights.from_pretrained("hf://owner/name")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(saved, number):
    SharedWeights(SPACE).init_weights(torch.full((SPACE.size,), number)).save_pretrained(saved)
    assert refused(SharedWeights, saved).endswith("holds NaN or infinite numbers in 'weights': make it again")


@pytest.mark.parametrize(
    ("dtype", "message"),
    [(torch.int8, "numbers of type I8 in 'weights'"), (torch.int64, "needs floating-point numbers")],
)
def test_numbers_of_another_type(saved, dtype, message):
    write_tensors(saved / "model.safetensors", {"weights": torch.ones(SPACE.size, dtype=dtype)})
    assert message in refused(SharedWeights, saved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(saved, dtype):
    write_tensors(saved / "model.safetensors", {"weights": torch.ones(SPACE.size, dtype=dtype)})
    assert load_part(SharedWeights, saved).weights.dtype == torch.float32


@pytest.mark.parametrize("huge", [{"hidden_dim": 10**6}, {"embed_dim": 10**6}, {"hidden_dim": 10**7}])
def test_a_configuration_takes_no_memory_that_its_file_does_not_have(tmp_path, huge):
    CLIPAdapter(4, 3).save_pretrained(tmp_path)
    rewrite(tmp_path, **({"embed_dim": 10**6} | huge))  # 4 TB
    assert "is not a saved CLIPAdapter: " in refused(CLIPAdapter, tmp_path)


def test_the_same_in_the_network_that_a_hypernetwork_writes(tmp_path):
    ProtoNet(ConvNet(2, 3, image_size=8, depth=2)).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())["network"]
    rewrite(tmp_path, network=settings | {"channels": 1000, "num_classes": 10**6, "image_size": 100})
    assert "needs floating-point numbers of shape" in refused(ProtoNet, tmp_path)


@pytest.mark.parametrize("entries", [1001, 10_001])
def test_a_list_without_end(tmp_path, entries):
    MLP(4, [5], 2).save_pretrained(tmp_path)
    rewrite(tmp_path, hidden_dims=[8] * entries)
    assert "at most" in refused(MLP, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["other"], "its file has the tensor 'other'"),
        (["weights", "z"], "its file has the tensor 'z'"),
        ([], "lacks"),
    ],
)
def test_tensors_of_other_names(saved, names, message):
    write_tensors(saved / "model.safetensors", {name: torch.ones(SPACE.size) for name in names})
    assert message in refused(SharedWeights, saved)


def test_loading_draws_as_many_random_numbers_as_building(saved, tmp_path):
    CLIPAdapter(4, 3).save_pretrained(tmp_path)
    torch.manual_seed(0)
    CLIPAdapter(4, 3)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_part(CLIPAdapter, tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_a_class_of_somebody_else_with_the_mixin_alone(tmp_path):
    class Own(nn.Module, PyTorchModelHubMixin):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.layer = nn.Linear(size, 2)

    Own(3).save_pretrained(tmp_path)
    assert load_part(Own, tmp_path).layer.in_features == 3


def test_loading_draws_no_random_number_more_than_making_it_once(tmp_path):
    denoiser = MLPDenoiser(3, 4, hidden_dims=(16,), time_dim=8)
    denoiser.save_pretrained(tmp_path / "saved")
    torch.manual_seed(0)
    MLPDenoiser(3, 4, hidden_dims=(16,), time_dim=8)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loaded = MLPDenoiser.from_pretrained(tmp_path / "saved")
    assert torch.equal(torch.rand(3), expected)
    for name, value in denoiser.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
