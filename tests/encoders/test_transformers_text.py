"""A text tower under the names of transformers: the same function, whose attention low-rank adapters can adapt."""

import pytest
import torch

from tests.tiny import E, tiny_clip
from weightgen import FunctionalNetwork, InputError
from weightgen.encoders.load import load_clip
from weightgen.encoders.transformers_text import transformers_text_tower
from weightgen.networks import StatementClassifier
from weightgen.networks.clip_adapter import class_logits

peft = pytest.importorskip("peft")
# peft asks transformers under a name that it gives up.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
TEXTS = ["what color is the star?", "the moon is red", "blue"]


@pytest.fixture
def clip(tmp_path):
    torch.manual_seed(0)
    return load_clip(str(tiny_clip(tmp_path / "clip")))


def test_it_embeds_texts_as_open_clip_does(clip):
    before = torch.get_rng_state()
    tower = transformers_text_tower(clip)
    assert torch.equal(torch.get_rng_state(), before)
    found = tower(input_ids=clip.tokenize(TEXTS)).text_embeds
    torch.testing.assert_close(found, clip.encode_texts(TEXTS), atol=1e-6, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_adapters_of_many_tasks_run_at_once(clip):
    tower = transformers_text_tower(clip)
    adapted = peft.get_peft_model(tower, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    network = FunctionalNetwork(StatementClassifier(adapted), include="*.lora_*")
    assert network.space.size == 2 * 2 * (16 + 16)
    tokens = clip.tokenize(TEXTS).expand(4, -1, -1)
    images, weights = torch.randn(4, 5, E), 0.5 * torch.randn(4, network.space.size)
    mask = torch.tensor([True, True, False]).expand(4, -1)
    logits = network(weights, images, tokens=tokens, answer_mask=mask)
    assert logits.shape == (4, 5, 3) and (logits.argmax(-1) < 2).all()
    one = network.with_weights(weights[2])
    expected = class_logits(images[2], one.text(input_ids=tokens[2]).text_embeds, mask[2], 10.0)
    torch.testing.assert_close(logits[2], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(
        logits[2], class_logits(images[2], clip.encode_texts(TEXTS), mask[2], 10.0), atol=0.1
    )


def test_another_text_tower_is_refused(clip):
    clip.model.text_pool_type = "last"
    with pytest.raises(InputError, match="is not open_clip's own"):
        transformers_text_tower(clip)
