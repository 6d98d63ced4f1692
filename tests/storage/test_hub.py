"""Loading saved parts: which classes are imported, and what a damaged folder says."""

import json
import sys

import pytest
import torch
from torch import nn

from weightgen import InputError, WeightSpace
from weightgen.hypernets import HNet, SharedWeights
from weightgen.networks.mlp import MLP
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
