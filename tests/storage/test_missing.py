"""A folder that is not there is told in one line by every class that is saved."""

from pathlib import Path

import pytest

from weightgen import InputError, hypernets
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.priors import MLPDenoiser
from weightgen.storage.files import read_json

KINDS = [
    *(getattr(hypernets, name) for name in ("FiLM", "HNet", "HVAE", "HyperTransformer", "MAML", "ProtoNet")),
    *(hypernets.SharedWeights, hypernets.SupportHNet, HyperCLIP, MLPDenoiser),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["runs/a/hypernet", "runs/a", "nothing", "/nowhere/at/all", "~/nowhere"])
def test_a_missing_folder(kind, name):
    with pytest.raises(InputError, match=kind.__name__) as caught:
        kind.from_pretrained(name)
    assert str(Path(name).expanduser()) in str(caught.value) and "\n" not in str(caught.value)


def test_json_of_windows(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": 1}
