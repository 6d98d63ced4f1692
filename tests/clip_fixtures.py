"""A CLIP of a few thousand weights, with a tokenizer of a dozen words."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from weightgen.encoders.clip_folder import new_clip, save_clip

WORDS = ["[PAD]", "[UNK]", "[BOS]", *"what color is the object red green light blue ? .".split(), "[EOS]"]


@pytest.fixture
def tokenizer():
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", len(WORDS) - 1)]
    )
    return made


@pytest.fixture
def config():
    return {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": len(WORDS), "width": 16, "heads": 2, "layers": 1},
    }


@pytest.fixture
def network(config, tokenizer):
    return new_clip(config, tokenizer).eval()


@pytest.fixture
def folder(network, config, tokenizer, tmp_path):
    """The folder of a CLIP."""
    save_clip(network, config, tokenizer, tmp_path / "tiny clip")
    return tmp_path / "tiny clip"
