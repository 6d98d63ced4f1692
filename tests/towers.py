"""Two towers of a few thousand random weights, and a pair of them; for tests of encoders that are no CLIP."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from weightgen.encoders.alignment import Alignment
from weightgen.encoders.image_tower import ImageTower
from weightgen.encoders.paired import PairedEncoder
from weightgen.encoders.text_tower import TextTower
from weightgen.storage.files import write_json, write_tensors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"what color shape is the star moon red green blue ? .".split()]
TIMM = "test_resnet"


def tiny_text_tower(folder: Path, dim: int = 16) -> Path:
    """Save a BERT of one layer with the files of sentence-transformers: mean pooling, normalised."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
    )
    torch.manual_seed(0)
    model = BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    write_json(folder / "config.json", config.to_dict())
    write_tensors(folder / "model.safetensors", model.state_dict(), {"format": "pt"})
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 12})
    return folder


def tiny_image_weights(path: Path) -> Path:
    """Save weights of a small network of timm."""
    import timm

    torch.manual_seed(0)
    write_tensors(path, timm.create_model(TIMM).state_dict())
    return path


def tiny_paired(folder: Path, dim: int = 24) -> PairedEncoder:
    """Make a pair whose image space is not the length of its questions; its towers' files lie in `folder`."""
    image = ImageTower.load(TIMM, weights=tiny_image_weights(folder / "image.safetensors"), size=32)
    text = TextTower.load(str(tiny_text_tower(folder / "text")))
    torch.manual_seed(1)
    maps = (torch.randn(image.dim, dim), torch.zeros(text.dim), torch.randn(text.dim, dim))
    return PairedEncoder(image, text, Alignment(torch.zeros(image.dim), *maps))
